"""Scores per picture → means with intervals, pooled, per organ → JSON, CSV, a table on screen."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nucleate.errors import InputError
from nucleate.io.files import write_text
from nucleate.io.images import as_labels
from nucleate.metrics import instance, pixel
from nucleate.metrics.classes import per_class
from nucleate.metrics.errors import fates
from nucleate.metrics.matching import overlap
from nucleate.metrics.paired import resampled_means
from nucleate.types import Bool, Int32

DETECTION_RADIUS_UM = 3.0  # the field's convention: 12 pixels at 40x, 6 at 20x
DETECTION_RADIUS_PX = 12.0

METRICS = (
    "dice", "iou", "accuracy", "precision", "recall", "aji", "aji_plus", "dq", "sq", "pq",
    "f1_50", "f1_70", "f1_detection", "boundary_f", "hd95_px", "count_error",
    "component_count_error",
)  # fmt: skip


NEED_MPP = ("f1_detection",)  # metrics with a length in micrometres


@dataclass(frozen=True, slots=True)
class PictureScore:
    """One picture: its summable counts; every ratio follows from them.

    Attributes:
        name: of the picture.
        organ: where known.
        counts: name -> number; they add up over pictures (all but `hd95_px`).
        group: patient or slide, where known: pictures of one do not vary independently.
        seen: how the model saw the image in training and what shows it, None if nothing does.
    """

    name: str
    organ: str | None
    counts: dict[str, float]
    group: str | None = None
    seen: str | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """Every metric of this picture; NaN where it is not defined."""
        return ratios(self.counts)


def compare(
    truth: Int32,
    pred: Int32,
    ignore: Bool | None = None,
    name: str = "",
    organ: str | None = None,
    radius_px: float | None = DETECTION_RADIUS_PX,
) -> PictureScore:
    """Score a predicted label image against the true one.

    Args:
        truth: int32 (H, W), 0 background.
        pred: int32 (H, W), 0 background.
        ignore: bool (H, W); these pixels count as background in both.
        name: of the picture.
        organ: of the picture.
        radius_px: how far a centroid may be off to count as detected; None omits detection.

    Raises:
        InputError: the shapes differ, or one is no label image: a mask, negative, or not integer.

    Example:
        >>> labels = np.array([[1, 1, 0, 2]], np.int32)
        >>> compare(labels, labels).metrics["pq"]
        1.0
    """
    truth, pred = _labels("truth", truth), _labels("pred", pred)
    table = overlap(truth, pred, ignore)
    if ignore is not None:
        truth, pred = np.where(ignore, 0, truth), np.where(ignore, 0, pred)
    cells = pixel.confusion(truth, pred, ignore)
    counts: dict[str, float] = {
        "pixel_tp": cells.tp, "pixel_fp": cells.fp, "pixel_fn": cells.fn, "pixel_tn": cells.tn,
        "nuclei_true": len(table.truth_areas), "nuclei_pred": len(table.pred_areas),
        "components_true": component_count(truth), "components_pred": component_count(pred),
        **fates(table).counts(),
    }  # fmt: skip
    counts["aji_c"], counts["aji_u"] = instance.aji_counts(table)
    counts["aji_plus_c"], counts["aji_plus_u"] = instance.aji_plus_counts(table)
    for label, threshold in (("50", 0.5), ("70", 0.7)):
        tp, fp, fn, iou_sum = instance.matches(table, threshold)
        counts |= {f"tp_{label}": tp, f"fp_{label}": fp, f"fn_{label}": fn}
        if label == "50":
            counts["iou_sum"] = iou_sum
    if radius_px is not None:
        points = instance.centroids(truth), instance.centroids(pred)
        tp, fp, fn = instance.detection(*points, radius_px)
        counts |= {"tp_detection": tp, "fp_detection": fp, "fn_detection": fn}
    near, counts["hd95_px"] = pixel.boundary_scores(truth, pred)
    counts |= dict(
        zip(("rim_near_pred", "rim_pred", "rim_near_true", "rim_true"), near, strict=True)
    )
    return PictureScore(name, organ, counts)


def _labels(side: str, given: Int32) -> Int32:
    """Return a label image as int32, or say why the array is none."""
    array = np.asarray(given)
    if array.dtype == bool:
        raise InputError(
            f"{side}: is a mask, in which nuclei that touch are one. Label its connected "
            "components first, for instance by scipy.ndimage.label."
        )
    return as_labels(side, array)


def ratios(c: dict[str, float]) -> dict[str, float]:
    """Return every metric from (summed) counts; NaN where it is not defined.

    `f1_detection` is omitted where its counts are: the resolution was unknown.
    `count_error` is |predicted - true| / true nuclei; `component_count_error` the same of the
    4-connected pieces of the foreground, in which touching nuclei are one: as S2 counts.
    """
    cells = pixel.Confusion(*(int(c[f"pixel_{k}"]) for k in ("tp", "fp", "fn", "tn")))
    dq, sq, pq = instance.panoptic(int(c["tp_50"]), int(c["fp_50"]), int(c["fn_50"]), c["iou_sum"])
    return {
        "dice": cells.dice,
        "iou": cells.iou,
        "accuracy": cells.accuracy,
        "precision": cells.precision,
        "recall": cells.recall,
        "aji": instance.ratio(c["aji_c"], c["aji_u"]),
        "aji_plus": instance.ratio(c["aji_plus_c"], c["aji_plus_u"]),
        "dq": dq,
        "sq": sq,
        "pq": pq,
        **{
            f"f1_{k}": instance.f1(int(c[f"tp_{k}"]), int(c[f"fp_{k}"]), int(c[f"fn_{k}"]))
            for k in ("50", "70", "detection")
            if f"tp_{k}" in c
        },
        "boundary_f": pixel.boundary_f(
            *(int(c[k]) for k in ("rim_near_pred", "rim_pred", "rim_near_true", "rim_true"))
        ),
        "hd95_px": c["hd95_px"],
        "count_error": instance.ratio(abs(c["nuclei_pred"] - c["nuclei_true"]), c["nuclei_true"]),
        "component_count_error": instance.ratio(
            abs(c["components_pred"] - c["components_true"]), c["components_true"]
        ),
    }


def component_count(labels: Int32) -> int:
    """Return the number of 4-connected pieces of the foreground, whatever their labels.

    Example:
        >>> component_count(np.array([[1, 2, 0, 2]], np.int32))
        2
    """
    mask = (labels > 0).view(np.uint8)
    return int(cv2.connectedComponents(mask, connectivity=4)[0]) - 1


@dataclass(frozen=True, slots=True)
class Report:
    """Scores of a set of pictures.

    Attributes:
        pictures: one score each.
        about: what was compared: model, data, command; written into the JSON.
        coco: from `average_precision`; None where no scores are known.
    """

    pictures: list[PictureScore]
    about: dict[str, Any] = field(default_factory=dict)
    coco: dict[str, dict[str, dict[str, float]]] | None = None

    @property
    def names(self) -> list[str]:
        """Metrics that at least one picture has."""
        has = {name for picture in self.pictures for name in picture.metrics}
        return [name for name in METRICS if name in has or not self.pictures]

    @property
    def seen(self) -> dict[str, str]:
        """Name of each image that the model saw in training -> how, and what shows it."""
        return {p.name: p.seen for p in self.pictures if p.seen is not None}

    def means(self) -> dict[str, dict[str, float]]:
        """Return for each metric the mean over pictures, its 95 % interval, and how many count.

        The interval is the percentile bootstrap over groups, that is patients or slides (10,000
        resamples, seed 0). Pictures where a metric is not defined are left out; `n` says how many
        remain.
        """
        rows = [picture.metrics for picture in self.pictures]
        groups = [p.group or p.name for p in self.pictures]
        return {
            name: mean_interval([row.get(name, math.nan) for row in rows], groups)
            for name in self.names
        }

    def pooled(self) -> dict[str, float]:
        """Return each metric of the counts summed over all pictures; HD95 cannot be pooled."""
        total: dict[str, float] = defaultdict(float)
        for picture in self.pictures:
            for name, value in picture.counts.items():
                total[name] += value
        total["hd95_px"] = float("nan")
        return ratios(total)

    def per_organ(self) -> dict[str, dict[str, float]]:
        """Return organ -> mean of each metric over its pictures, and their number."""
        groups: dict[str, list[dict[str, float]]] = defaultdict(list)
        for picture in self.pictures:
            groups[picture.organ or "unknown"].append(picture.metrics)
        return {
            organ: {
                "pictures": len(rows),
                **{
                    name: mean_interval([r.get(name, math.nan) for r in rows])["mean"]
                    for name in self.names
                },
            }
            for organ, rows in sorted(groups.items())
        }

    def content(self) -> dict[str, Any]:
        """Return everything that is known, as metrics.json holds it."""
        return {
            "about": self.about,
            "pictures": len(self.pictures),
            "groups": len({p.group or p.name for p in self.pictures}),
            "conventions": "empty/empty is left out, empty/non-empty is 0; what divides by nothing "
            "(precision, recall, SQ, counting error) is left out; mean: over pictures; "
            "interval: 95 % percentile bootstrap over patients or slides; pooled: summed counts",
            "seen_in_training": self.seen,
            "mean": self.means(),
            "pooled": self.pooled(),
            "coco": self.coco,
            "per_organ": self.per_organ(),
            "per_class": per_class([p.counts for p in self.pictures]),
            "per_picture": [
                {
                    "name": p.name,
                    "organ": p.organ,
                    "group": p.group,
                    **p.metrics,
                    "counts": p.counts,
                }
                for p in self.pictures
            ],
        }

    def write(self, folder: Path) -> None:
        """Write metrics.json and per_picture.csv into a folder.

        Raises:
            OutputError: the files cannot be written.
        """
        content = json.dumps(no_nan(self.content()), indent=1)
        write_text(folder / "metrics.json", content + "\n")
        text = io.StringIO()
        names = ["name", "organ", *self.names, *(k for p in self.pictures for k in p.counts)]
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(dict.fromkeys(names))
        for p in self.pictures:
            row: dict[str, Any] = {"name": p.name, "organ": p.organ, **p.counts, **p.metrics}
            known = no_nan(row)
            writer.writerow("" if known.get(k) is None else known[k] for k in dict.fromkeys(names))
        write_text(folder / "per_picture.csv", text.getvalue())


def seen_note(seen: dict[str, str], images: int) -> str:
    """Return the warning about images that a model saw in training.

    Args:
        seen: name of an image -> how it was seen, as `fingerprints.seen_as` returns it.
        images: number of all images.

    Example:
        >>> seen_note({"a": "trained on: its patient"}, 3).partition(".")[0]
        '1 of 3 images were seen in training (1 trained on, 0 chosen on; a by its patient)'
    """
    trained = sum(how.startswith("trained on") for how in seen.values())
    name, how = next(iter(seen.items()))
    return (
        f"{len(seen)} of {images} images were seen in training ({trained} trained on, "
        f"{len(seen) - trained} chosen on; {name} by {how.partition(': ')[2]}). Their scores are "
        "too high for new images."
    )


def mean_interval(values: Sequence[float], groups: Sequence[str] | None = None) -> dict[str, float]:
    """Return mean, 95 % bootstrap interval and number of the values that are not NaN.

    Args:
        values: one per picture.
        groups: patient or slide of each; whole groups are drawn. None: each is its own.

    References:
        Efron 1979, doi:10.1214/aos/1176344552; whole groups: Davison and Hinkley 1997,
        doi:10.1017/CBO9780511802843, section 3.8.

    Example:
        >>> mean_interval([0.5, 0.5, float("nan")])
        {'mean': 0.5, 'low': 0.5, 'high': 0.5, 'n': 2}
    """
    kept = [i for i, value in enumerate(values) if not math.isnan(value)]
    if not kept:
        return {"mean": math.nan, "low": math.nan, "high": math.nan, "n": 0}
    valid = np.array([values[i] for i in kept])
    owners = [str(i) if groups is None else groups[i] for i in kept]
    low, high = np.percentile(resampled_means(valid, owners), [2.5, 97.5])
    return {"mean": float(valid.mean()), "low": float(low), "high": float(high), "n": len(valid)}


def no_nan(tree: Any) -> Any:  # noqa: ANN401
    """Return the tree with null for NaN: JSON knows none."""
    if isinstance(tree, dict):
        return {key: no_nan(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [no_nan(value) for value in tree]
    return None if isinstance(tree, float) and math.isnan(tree) else tree

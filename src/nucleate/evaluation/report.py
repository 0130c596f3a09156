"""Scores per image → means with intervals, pooled, per organ → JSON and CSV."""

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

import numpy as np

from nucleate.evaluation.compare import resampled_means
from nucleate.evaluation.metrics.classes import per_class
from nucleate.evaluation.score import METRICS, ImageScore, ratios
from nucleate.files import write_text


@dataclass(frozen=True, slots=True)
class Report:
    """Scores of a set of images.

    Attributes:
        images: one score per image.
        about: model, data and command, for the JSON file.
        coco: result of `average_precision`; None without scores.
    """

    images: list[ImageScore]
    about: dict[str, Any] = field(default_factory=dict)
    coco: dict[str, dict[str, dict[str, float]]] | None = None

    @property
    def names(self) -> list[str]:
        """Metrics that at least one image has."""
        has = {name for image in self.images for name in image.metrics}
        return [name for name in METRICS if name in has or not self.images]

    @property
    def seen(self) -> dict[str, str]:
        """Name of each image that the model saw in training -> how, and what shows it."""
        return {p.name: p.seen for p in self.images if p.seen is not None}

    def means(self) -> dict[str, dict[str, float]]:
        """Return the mean over images of each metric, its 95 % interval, and the number of images.

        The interval is the percentile bootstrap over groups, that is patients or slides (10,000
        resamples, seed 0). Images for which a metric is undefined are omitted; `n` is the number of
        the others.
        """
        rows = [image.metrics for image in self.images]
        groups = [p.group or p.name for p in self.images]
        return {
            name: mean_interval([row.get(name, math.nan) for row in rows], groups)
            for name in self.names
        }

    def pooled(self) -> dict[str, float]:
        """Compute each metric from the counts summed over all images; HD95 cannot be pooled."""
        total: dict[str, float] = defaultdict(float)
        for image in self.images:
            for name, value in image.counts.items():
                total[name] += value
        total["hd95_px"] = float("nan")
        return ratios(total)

    def per_organ(self) -> dict[str, dict[str, float]]:
        """Return organ -> mean of each metric over its images, and the number of images."""
        groups: dict[str, list[dict[str, float]]] = defaultdict(list)
        for image in self.images:
            groups[image.organ or "unknown"].append(image.metrics)
        return {
            organ: {
                "images": len(rows),
                **{
                    name: mean_interval([r.get(name, math.nan) for r in rows])["mean"]
                    for name in self.names
                },
            }
            for organ, rows in sorted(groups.items())
        }

    def content(self) -> dict[str, Any]:
        """Return the content of metrics.json."""
        return {
            "about": self.about,
            "images": len(self.images),
            "groups": len({p.group or p.name for p in self.images}),
            "conventions": "empty/empty is left out, empty/non-empty is 0; what divides by nothing "
            "(precision, recall, SQ, counting error) is left out; mean: over images; "
            "interval: 95 % percentile bootstrap over patients or slides; pooled: summed counts",
            "seen_in_training": self.seen,
            "mean": self.means(),
            "pooled": self.pooled(),
            "coco": self.coco,
            "per_organ": self.per_organ(),
            "per_class": per_class([p.counts for p in self.images]),
            "per_image": [
                {
                    "name": p.name,
                    "organ": p.organ,
                    "group": p.group,
                    **p.metrics,
                    "counts": p.counts,
                }
                for p in self.images
            ],
        }

    def write(self, folder: Path) -> None:
        """Write metrics.json and per_image.csv into a folder.

        Raises:
            OutputError: the files cannot be written.
        """
        content = json.dumps(no_nan(self.content()), indent=1)
        write_text(folder / "metrics.json", content + "\n")
        text = io.StringIO()
        names = ["name", "organ", *self.names, *(k for p in self.images for k in p.counts)]
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(dict.fromkeys(names))
        for p in self.images:
            row: dict[str, Any] = {"name": p.name, "organ": p.organ, **p.counts, **p.metrics}
            known = no_nan(row)
            writer.writerow("" if known.get(k) is None else known[k] for k in dict.fromkeys(names))
        write_text(folder / "per_image.csv", text.getvalue())


def seen_note(seen: dict[str, str], images: int) -> str:
    """Return the warning about images that a model saw in training.

    Args:
        seen: name of an image -> how it was seen, as `fingerprints.seen_as` returns it.
        images: total number of images.

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
        values: one per image.
        groups: patient or slide of each; whole groups are drawn. None makes each its own group.

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
    """Replace NaN, which JSON lacks, by null in a tree."""
    if isinstance(tree, dict):
        return {key: no_nan(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [no_nan(value) for value in tree]
    return None if isinstance(tree, float) and math.isnan(tree) else tree

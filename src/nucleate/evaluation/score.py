"""Predicted and true labels of one image → summable counts, and every metric from them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from nucleate.annotations.label_images import as_labels
from nucleate.errors import InputError
from nucleate.evaluation.metrics import instance, pixel
from nucleate.evaluation.metrics.matching import overlap
from nucleate.evaluation.metrics.nucleus_errors import outcomes
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
class ImageScore:
    """Summable counts of one image, from which every ratio follows.

    Attributes:
        name: name of the image.
        organ: organ, if known.
        counts: name -> number; they add up over images (all but `hd95_px`).
        group: patient or slide, if known: images of one group do not vary independently.
        seen: how the model saw the image in training, with the evidence; None if it did not.
    """

    name: str
    organ: str | None
    counts: dict[str, float]
    group: str | None = None
    seen: str | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """Every metric of this image; NaN if undefined."""
        return ratios(self.counts)


def score_labels(
    truth: Int32,
    pred: Int32,
    ignore: Bool | None = None,
    name: str = "",
    organ: str | None = None,
    radius_px: float | None = DETECTION_RADIUS_PX,
) -> ImageScore:
    """Score a predicted label image against the true one.

    Args:
        truth: int32 (H, W), 0 background.
        pred: int32 (H, W), 0 background.
        ignore: bool (H, W); these pixels are background in both.
        name: name of the image.
        organ: organ of the image.
        radius_px: largest distance of a detected centroid; None omits detection.

    Raises:
        InputError: the shapes differ, or one is not a label image: mask, negative, or not integer.

    Example:
        >>> labels = np.array([[1, 1, 0, 2]], np.int32)
        >>> score_labels(labels, labels).metrics["pq"]
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
        **outcomes(table).counts(),
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
    return ImageScore(name, organ, counts)


def _labels(side: str, given: Int32) -> Int32:
    """Convert a label image to int32, or raise."""
    if isinstance(given, np.ndarray) and given.dtype == bool:
        raise InputError(
            f"{side}: is a binary mask, which merges touching nuclei. Label its connected "
            "components first, for example with scipy.ndimage.label."
        )
    return as_labels(side, given)


def ratios(c: dict[str, float]) -> dict[str, float]:
    """Compute every metric from (summed) counts; NaN if undefined.

    `f1_detection` is omitted if its counts are, because the resolution was unknown.
    `count_error` is |predicted - true| / true nuclei. `component_count_error` is the same for
    4-connected components of the foreground, which merge touching nuclei: the count of
    Histology-NucleiSeg.
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
    """Count the 4-connected components of the foreground, regardless of labels.

    Example:
        >>> component_count(np.array([[1, 2, 0, 2]], np.int32))
        2
    """
    mask = (labels > 0).view(np.uint8)
    return int(cv2.connectedComponents(mask, connectivity=4)[0]) - 1

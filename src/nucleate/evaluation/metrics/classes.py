"""Metrics per nucleus class, each scored with all other classes as background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nucleate.evaluation.metrics import instance
from nucleate.evaluation.metrics.matching import overlap
from nucleate.geometry.labels import compact
from nucleate.types import Bool, Int16, Int32

_PREFIX = "class:"


class Typed(NamedTuple):
    """A label image and its classes.

    Attributes:
        labels: int32 (H, W), 1..n without gaps.
        classes: int16 (n,), class of nucleus i + 1.
    """

    labels: Int32
    classes: Int16


def compare_classes(
    truth: Typed, pred: Typed, names: Sequence[str], ignore: Bool | None, radius_px: float
) -> dict[str, float]:
    """Count errors per class; return summable counts named `class:NAME:COUNT`.

    Args:
        truth: ground truth of one image.
        pred: prediction for the same image.
        names: class names.
        ignore: bool (H, W); these pixels are background in both.
        radius_px: largest distance of a detected centroid.

    References:
        Graham et al. 2019, doi:10.1016/j.media.2019.101563 (classes scored separately).

    Example:
        >>> one = Typed(np.array([[1, 0, 2]], np.int32), np.array([0, 1], np.int16))
        >>> compare_classes(one, one, ["a", "b"], None, 12)["class:b:tp"]
        1
    """
    counts: dict[str, float] = {}
    for number, name in enumerate(names):
        a, b = _only(truth, number, ignore), _only(pred, number, ignore)
        tp, fp, fn, iou_sum = instance.matches(overlap(a, b), 0.5)
        near = instance.detection(instance.centroids(a), instance.centroids(b), radius_px)
        found = {"tp": tp, "fp": fp, "fn": fn, "iou_sum": iou_sum}
        found |= dict(zip(("near_tp", "near_fp", "near_fn"), near, strict=True))
        counts |= {f"{_PREFIX}{name}:{key}": value for key, value in found.items()}
    return counts


def per_class(images: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return PQ (mean over images, and pooled) and detection F1 (pooled) of each class.

    Images in which a class is neither true nor predicted are omitted from its mean.

    Args:
        images: counts of each image; images without classes give an empty result.
    """
    names = dict.fromkeys(
        key.removeprefix(_PREFIX).rpartition(":")[0]
        for counts in images
        for key in counts
        if key.startswith(_PREFIX)
    )
    found: dict[str, dict[str, float]] = {}
    for name in names:
        rows = [
            {key: counts.get(f"{_PREFIX}{name}:{key}", 0) for key in _COUNTS} for counts in images
        ]
        total = {key: sum(row[key] for row in rows) for key in _COUNTS}
        each = np.array([_quality(row) for row in rows])
        known = each[~np.isnan(each)]
        found[name] = {
            "nuclei": total["tp"] + total["fn"],
            "pq": float(known.mean()) if len(known) else float("nan"),
            "images": len(known),
            "pq_pooled": _quality(total),
            "f1_detection": instance.f1(
                int(total["near_tp"]), int(total["near_fp"]), int(total["near_fn"])
            ),
        }
    return found


_COUNTS = ("tp", "fp", "fn", "iou_sum", "near_tp", "near_fp", "near_fn")


def _quality(row: dict[str, float]) -> float:
    return instance.panoptic(int(row["tp"]), int(row["fp"]), int(row["fn"]), row["iou_sum"])[2]


def _only(typed: Typed, number: int, ignore: Bool | None) -> Int32:
    """Keep the labels of one class, and renumber them."""
    keep = np.concatenate([[False], typed.classes == number])[typed.labels]
    if ignore is not None:
        keep = keep & ~ignore
    return compact(np.where(keep, typed.labels, 0).astype(np.int32))[0]

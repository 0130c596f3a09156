"""Pixel metrics: confusion, Dice, IoU, and distances between boundaries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nucleate.evaluation.metrics.instance import ratio
from nucleate.geometry.labels import distance_inside
from nucleate.types import Bool, Int32


@dataclass(frozen=True, slots=True)
class Confusion:
    """Confusion of foreground (any nucleus) and background pixels. Counts add up over images."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN); NaN without foreground in either."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN); NaN without foreground in either."""
        return ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def accuracy(self) -> float:
        """Share of pixels that agree."""
        return ratio(self.tp + self.tn, self.tp + self.fp + self.fn + self.tn)

    @property
    def precision(self) -> float:
        """TP / (TP + FP); NaN without predicted foreground."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """TP / (TP + FN); NaN without true foreground."""
        return ratio(self.tp, self.tp + self.fn)


def confusion(truth: Int32, pred: Int32, ignore: Bool | None = None) -> Confusion:
    """Count the pixel confusion of two label images of one shape, without ignored pixels.

    Example:
        >>> confusion(np.array([[1, 1, 0, 0]], np.int32), np.array([[5, 0, 5, 0]], np.int32))
        Confusion(tp=1, fp=1, fn=1, tn=1)
    """
    counts = np.ones(truth.shape, bool) if ignore is None else ~ignore
    a, b = truth > 0, pred > 0
    return Confusion(
        tp=int((a & b & counts).sum()),
        fp=int((~a & b & counts).sum()),
        fn=int((a & ~b & counts).sum()),
        tn=int((~a & ~b & counts).sum()),
    )


def rim(labels: Int32) -> Bool:
    """Return the pixels of nuclei that touch (4 neighbours) another label or background.

    The border of the image does not count as background.

    Example:
        >>> rim(np.array([[1, 1, 1, 2, 2]], np.int32)).tolist()
        [[False, False, True, True, False]]
    """
    differs = np.zeros(labels.shape, bool)
    down = labels[1:] != labels[:-1]
    right = labels[:, 1:] != labels[:, :-1]
    differs[1:] |= down
    differs[:-1] |= down
    differs[:, 1:] |= right
    differs[:, :-1] |= right
    return differs & (labels > 0)


def boundary_scores(
    truth: Int32, pred: Int32, tolerance: float = 2.0
) -> tuple[tuple[int, int, int, int], float]:
    """Compute the counts of the boundary F score, and the 95th percentile Hausdorff distance.

    Both compare the rims of all nuclei, including rims between touching nuclei.

    Args:
        truth: int32 (H, W).
        pred: int32 (H, W).
        tolerance: largest distance between matching rim pixels, in pixels.

    Returns:
        Predicted rim pixels near the truth's, all predicted ones, true rim pixels near the
        prediction's, all true ones; and HD95 in pixels: the larger of the two directed 95th
        percentiles. HD95 is NaN if neither has a rim, and the image's diagonal if only one has.

    References:
        Csurka et al. 2013, doi:10.5244/C.27.32 (boundary F); Taha and Hanbury 2015,
        doi:10.1186/s12880-015-0068-x (HD95).

    Example:
        >>> a = np.zeros((1, 9), np.int32); b = a.copy(); a[0, 4] = 1; b[0, 7] = 1
        >>> boundary_scores(a, b)
        ((0, 1, 0, 1), 3.0)
    """
    a, b = rim(truth), rim(pred)
    n_true, n_pred = int(a.sum()), int(b.sum())
    if not n_true or not n_pred:
        far = float("nan") if n_true == n_pred else float(np.hypot(*truth.shape))
        return (0, n_pred, 0, n_true), far
    from_pred, from_true = distance_inside(~a)[b], distance_inside(~b)[a]
    near = (
        int((from_pred <= tolerance).sum()),
        n_pred,
        int((from_true <= tolerance).sum()),
        n_true,
    )
    return near, float(max(np.percentile(from_pred, 95), np.percentile(from_true, 95)))


def boundary_f(near_pred: int, n_pred: int, near_true: int, n_true: int) -> float:
    """Return the boundary F score: harmonic mean of the shares of rim pixels that are near.

    Example:
        >>> boundary_f(1, 2, 1, 1)
        0.6666666666666666
    """
    if not n_pred and not n_true:
        return float("nan")
    if not n_pred or not n_true:
        return 0.0
    precision, recall = near_pred / n_pred, near_true / n_true
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

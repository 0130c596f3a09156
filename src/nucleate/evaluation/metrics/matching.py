"""The overlap table: numbers of pixels shared by true and predicted nuclei."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nucleate.errors import InputError
from nucleate.geometry.labels import compact
from nucleate.types import Bool, Float64, Int32, Int64


@dataclass(frozen=True, slots=True)
class Overlap:
    """Areas of all nuclei, and shared pixels of every overlapping pair.

    Attributes:
        truth_areas: int64 (n,), pixels.
        pred_areas: int64 (m,), pixels.
        pairs: int64 (k, 2), indices of overlapping truth and prediction, sorted.
        shared: int64 (k,), number of pixels that pair k shares, at least 1.
    """

    truth_areas: Int64
    pred_areas: Int64
    pairs: Int64
    shared: Int64

    @property
    def iou(self) -> Float64:
        """Intersection over union of each pair, float64 (k,)."""
        return self.shared / self.union

    @property
    def union(self) -> Int64:
        """Pixels of the union of each pair, int64 (k,)."""
        areas = self.truth_areas[self.pairs[:, 0]] + self.pred_areas[self.pairs[:, 1]]
        return areas - self.shared


def overlap(truth: Int32, pred: Int32, ignore: Bool | None = None) -> Overlap:
    """Build the overlap table of two label images. Ids may have gaps; background is optional.

    Args:
        truth: int32 (H, W).
        pred: int32 (H, W).
        ignore: bool (H, W); these pixels are background in both.

    Raises:
        InputError: the shapes differ.

    Example:
        >>> overlap(np.array([[1, 1, 0]], np.int32), np.array([[0, 9, 9]], np.int32)).iou
        array([0.33333333])
    """
    if truth.shape != pred.shape:
        raise InputError(
            f"The prediction is {pred.shape[1]} × {pred.shape[0]} pixels, the truth "
            f"{truth.shape[1]} × {truth.shape[0]}. Compare images of one size."
        )
    if ignore is not None:
        truth, pred = np.where(ignore, 0, truth), np.where(ignore, 0, pred)
    truth, old_truth = compact(truth.astype(np.int32, copy=False))
    pred, old_pred = compact(pred.astype(np.int32, copy=False))
    n, m = len(old_truth), len(old_pred)
    both = (truth > 0) & (pred > 0)
    codes, shared = np.unique(
        (truth[both].astype(np.int64) - 1) * max(m, 1) + pred[both] - 1, return_counts=True
    )
    pairs = np.stack([codes // max(m, 1), codes % max(m, 1)], 1)
    return Overlap(
        truth_areas=np.bincount(truth.ravel(), minlength=n + 1)[1:].astype(np.int64),
        pred_areas=np.bincount(pred.ravel(), minlength=m + 1)[1:].astype(np.int64),
        pairs=pairs.astype(np.int64),
        shared=shared.astype(np.int64),
    )


def assign(pairs: Int64, gain: Float64) -> Int64:
    """Return the rows of `pairs` that form the one-to-one assignment of greatest total gain.

    Solved as a sparse problem, so memory grows with the number of pairs, not with its square.

    Args:
        pairs: int64 (k, 2), indices of left and right.
        gain: float64 (k,), positive.

    Returns:
        int64 indices into `pairs`, ascending.

    References:
        Jonker and Volgenant 1987, doi:10.1007/BF02278710; Volgenant 1996,
        doi:10.1016/0305-0548(96)00010-X (the sparse solver of `lap`).

    Example:
        >>> assign(np.array([[0, 0], [0, 1], [1, 0]]), np.array([0.6, 0.5, 0.4])).tolist()
        [1, 2]
    """
    import lap

    if len(pairs) == 0:
        return np.zeros(0, np.int64)
    alone = (np.bincount(pairs[:, 0])[pairs[:, 0]] == 1) & (
        np.bincount(pairs[:, 1])[pairs[:, 1]] == 1
    )
    contested = np.flatnonzero(~alone)
    if len(contested) == 0:
        return np.arange(len(pairs))
    left = np.unique(pairs[contested, 0], return_inverse=True)[1].astype(np.int64)
    right = np.unique(pairs[contested, 1], return_inverse=True)[1].astype(np.int64)
    n, m = int(left.max()) + 1, int(right.max()) + 1
    # a sparse square problem that always has a solution: left i may stay unmatched (column m + i),
    # right j may stay unmatched (row n + j), and a pair frees row n + j for column m + i
    rows = np.concatenate([left, np.arange(n), n + np.arange(m), n + right])
    columns = np.concatenate([right, m + np.arange(n), np.arange(m), m + left])
    # the solver needs non-negative costs; adding a constant to all does not change the solution
    most = float(gain.max())
    costs = np.concatenate([most - gain[contested], np.full(n + m + len(contested), most)])
    order = np.lexsort((columns, rows))
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n + m))])
    taken = lap.lapmod(
        n + m, costs[order], starts.astype(np.int32), columns[order].astype(np.int32)
    )[1]
    won = contested[taken[left] == right]
    return np.sort(np.concatenate([np.flatnonzero(alone), won]))

"""The overlap table: which nuclei of truth and prediction share how many pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nucleate.errors import InputError
from nucleate.labels import compact
from nucleate.types import Bool, Float64, Int32, Int64


@dataclass(frozen=True, slots=True)
class Overlap:
    """Areas of all nuclei, and the shared pixels of every pair that touches.

    Attributes:
        truth_areas: int64 (n,), pixels.
        pred_areas: int64 (m,), pixels.
        pairs: int64 (k, 2), indices of truth and prediction that share pixels, sorted.
        shared: int64 (k,), the pixels that pair k shares, at least 1.
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
    """Return the overlap table of two label images. Ids may have gaps and need no background.

    Args:
        truth: int32 (H, W).
        pred: int32 (H, W).
        ignore: bool (H, W): these pixels count as background in both.

    Raises:
        InputError: the shapes differ.

    Example:
        >>> overlap(np.array([[1, 1, 0]], np.int32), np.array([[0, 9, 9]], np.int32)).iou
        array([0.33333333])
    """
    if truth.shape != pred.shape:
        raise InputError(
            f"The prediction is {pred.shape[1]} × {pred.shape[0]} pixels, the truth "
            f"{truth.shape[1]} × {truth.shape[0]}. Compare pictures of one size."
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

    The graph falls into small connected parts, each solved by itself: any number of nuclei.

    Args:
        pairs: int64 (k, 2), indices of left and right.
        gain: float64 (k,), positive.

    Returns:
        int64 indices into `pairs`, ascending.

    References:
        Jonker and Volgenant 1987, doi:10.1007/BF02278710 (the solver of `lap`).

    Example:
        >>> assign(np.array([[0, 0], [0, 1], [1, 0]]), np.array([0.6, 0.5, 0.4])).tolist()
        [1, 2]
    """
    import lap

    if len(pairs) == 0:
        return np.zeros(0, np.int64)
    part = _connected(pairs)
    order = np.argsort(part, kind="stable")
    cuts = np.flatnonzero(np.diff(part[order])) + 1
    chosen: list[int] = []
    for rows in np.split(order, cuts):
        if len(rows) == 1:
            chosen.append(int(rows[0]))
            continue
        left, row_of = np.unique(pairs[rows, 0], return_inverse=True)
        right, column_of = np.unique(pairs[rows, 1], return_inverse=True)
        cost = np.zeros((len(left), len(right)))
        cost[row_of, column_of] = -gain[rows]
        where = np.full(cost.shape, -1, np.int64)
        where[row_of, column_of] = rows
        columns = lap.lapjv(cost, extend_cost=True)[1]
        hits = where[np.flatnonzero(columns >= 0), columns[columns >= 0]]
        chosen.extend(int(hit) for hit in hits if hit >= 0)
    return np.sort(np.array(chosen, np.int64))


def _connected(pairs: Int64) -> Int64:
    """Return for each pair the number of its connected part of the bipartite graph."""
    rights = int(pairs[:, 0].max()) + 1
    parent = np.arange(rights + int(pairs[:, 1].max()) + 1)

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = int(parent[at])
        return at

    for left, right in pairs.tolist():
        parent[root(left)] = root(rights + right)
    return np.array([root(int(left)) for left in pairs[:, 0]], np.int64)

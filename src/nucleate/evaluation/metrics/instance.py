"""Instance metrics: AJI, AJI+, PQ (DQ, SQ), F1 at an IoU, detection F1 by centroid."""

from __future__ import annotations

import numpy as np

from nucleate.evaluation.metrics.matching import Overlap, assign
from nucleate.geometry.labels import compact
from nucleate.types import Float64, Int32, Int64

_TIE = 1e-9  # IoU weight of the whole range of shared pixels, to break ties


def aji_counts(table: Overlap) -> tuple[int, int]:
    """Return the two sums of the Aggregated Jaccard Index, by the official definition (v1.0).

    Each true nucleus is assigned the prediction of highest IoU that touches it (several may share
    one); C sums the intersections and U the unions. True nuclei that nothing touches, and
    predictions that were not assigned, add their areas to U. Ties in IoU go to the prediction with
    the lower id.

    Args:
        table: from `overlap`.

    Returns:
        C and U in pixels; AJI = C / U. Both add up over images.

    References:
        Kumar et al. 2017, doi:10.1109/TMI.2017.2677499; Kumar et al. 2020,
        doi:10.1109/TMI.2019.2947628 (code v1.0).

    Example:
        >>> from nucleate.evaluation.metrics.matching import overlap
        >>> truth, pred = np.array([[1, 1, 0, 2]], np.int32), np.array([[0, 1, 1, 0]], np.int32)
        >>> aji_counts(overlap(truth, pred))
        (1, 4)
    """
    order = np.lexsort((table.pairs[:, 1], -table.iou, table.pairs[:, 0]))
    _, first = np.unique(table.pairs[order, 0], return_index=True)
    return _aggregate(table, order[first])


def aji_plus_counts(table: Overlap) -> tuple[int, int]:
    """Return the two sums of AJI+: as AJI, but each prediction is assigned to one nucleus only.

    The one-to-one assignment maximises the sum of IoU; ties are broken by the number of shared
    pixels, so the result does not depend on the solver.

    References:
        Graham et al. 2019, HoVer-Net, doi:10.1016/j.media.2019.101563.

    Example:
        >>> from nucleate.evaluation.metrics.matching import overlap
        >>> truth, pred = np.array([[1, 1, 2]], np.int32), np.array([[1, 1, 1]], np.int32)
        >>> aji_plus_counts(overlap(truth, pred))
        (2, 4)
    """
    tie = _TIE * table.shared / (1 + table.shared.max(initial=0))
    return _aggregate(table, assign(table.pairs, table.iou + tie))


def aji(table: Overlap) -> float:
    """Return the Aggregated Jaccard Index (v1.0): 0 to 1, NaN without truth and prediction.

    Example:
        >>> from nucleate.evaluation.metrics.matching import overlap
        >>> one = np.array([[1, 1]], np.int32)
        >>> aji(overlap(one, one))
        1.0
    """
    return ratio(*aji_counts(table))


def aji_plus(table: Overlap) -> float:
    """Return AJI+: 0 to 1, NaN without truth and prediction.

    Example:
        >>> from nucleate.evaluation.metrics.matching import overlap
        >>> aji_plus(overlap(np.array([[1, 2]], np.int32), np.array([[1, 1]], np.int32)))
        0.3333333333333333
    """
    return ratio(*aji_plus_counts(table))


def ratio(part: float, whole: float) -> float:
    """Return part / whole, NaN if the whole is 0.

    Example:
        >>> ratio(0, 0)
        nan
    """
    return part / whole if whole else float("nan")


def matches(table: Overlap, threshold: float) -> tuple[int, int, int, float]:
    """Return true positives, false positives, false negatives and the sum of the matches' IoU.

    A pair matches if its IoU is strictly above `threshold`. From 0.5 upwards, matches are unique;
    below it, they are the optimal assignment.

    Example:
        >>> from nucleate.evaluation.metrics.matching import overlap
        >>> same = np.array([[1, 0, 2]], np.int32)
        >>> matches(overlap(same, same), 0.5)
        (2, 0, 0, 2.0)
    """
    good = table.iou > threshold
    if threshold < 0.5:
        good_rows = np.flatnonzero(good)
        rows = good_rows[assign(table.pairs[good_rows], 1.0 + table.iou[good_rows])]
    else:
        rows = np.flatnonzero(good)
    tp = len(rows)
    return (
        tp,
        len(table.pred_areas) - tp,
        len(table.truth_areas) - tp,
        float(table.iou[rows].sum()),
    )


def f1(tp: int, fp: int, fn: int) -> float:
    """Return 2 TP / (2 TP + FP + FN); NaN when all are 0.

    Example:
        >>> f1(1, 1, 1)
        0.5
    """
    return ratio(2 * tp, 2 * tp + fp + fn)


def panoptic(tp: int, fp: int, fn: int, iou_sum: float) -> tuple[float, float, float]:
    """Return DQ (F1 at IoU 0.5), SQ (mean IoU of the matches) and PQ = DQ · SQ.

    Returns:
        All NaN without truth and prediction; without a match DQ and PQ are 0 and SQ is NaN, as
        there is nothing to average.

    References:
        Kirillov et al. 2019, doi:10.1109/CVPR.2019.00963.

    Example:
        >>> panoptic(1, 1, 1, 0.8)
        (0.5, 0.8, 0.4)
    """
    dq = f1(tp, fp, fn)
    if np.isnan(dq):
        return dq, dq, dq
    sq = iou_sum / tp if tp else float("nan")
    return dq, sq, (dq * sq if tp else 0.0)


def centroids(labels: Int32) -> Float64:
    """Return the centroids (x, y) of the labels in ascending order of id, in pixels: (n, 2).

    Example:
        >>> centroids(np.array([[0, 4, 4]], np.int32)).tolist()
        [[2.0, 0.5]]
    """
    compacted, old = compact(labels)
    flat = compacted.ravel()
    areas = np.bincount(flat, minlength=len(old) + 1)[1:]
    rows, columns = np.indices(labels.shape, np.float32)
    x = np.bincount(flat, weights=columns.ravel(), minlength=len(old) + 1)[1:] / areas + 0.5
    y = np.bincount(flat, weights=rows.ravel(), minlength=len(old) + 1)[1:] / areas + 0.5
    return np.stack([x, y], 1)


def detection(truth_xy: Float64, pred_xy: Float64, radius: float) -> tuple[int, int, int]:
    """Count TP, FP, FN of centroids matched one-to-one within `radius` (inclusive).

    The assignment has the most matches, and among those the smallest sum of distances.

    Args:
        truth_xy: (n, 2).
        pred_xy: (m, 2), in the same unit as `radius`.
        radius: largest distance; by convention 12 pixels at 40x (3 um).

    References:
        Graham et al. 2019, doi:10.1016/j.media.2019.101563 (detection quality F_d).

    Example:
        >>> detection(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [9.0, 9.0]]), 5)
        (1, 1, 0)
    """
    pairs, apart = _near(truth_xy, pred_xy, radius)
    # a match gains far more than all distances together, so the number of matches comes first
    chosen = assign(
        pairs, 1.0 + (radius - apart) / (radius * (1 + min(len(truth_xy), len(pred_xy))))
    )
    return len(chosen), len(pred_xy) - len(chosen), len(truth_xy) - len(chosen)


def _near(a_xy: Float64, b_xy: Float64, radius: float) -> tuple[Int64, Float64]:
    """Return all index pairs at most `radius` apart and their distances, without a full matrix."""
    if not len(a_xy) or not len(b_xy):
        return np.zeros((0, 2), np.int64), np.zeros(0)
    corner = np.minimum(a_xy.min(0), b_xy.min(0))
    cell = radius * (1 + 1e-9)  # so that rounding never puts a pair two cells apart
    a_cells, b_cells = (((xy - corner) // cell).astype(np.int64) for xy in (a_xy, b_xy))
    across = int(max(a_cells[:, 0].max(), b_cells[:, 0].max())) + 3  # the cells beside the rim too
    keys = b_cells[:, 1] * across + b_cells[:, 0]
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    found = []
    for down in (-1, 0, 1):  # three cells of a row are one range of keys
        centre = (a_cells[:, 1] + down) * across + a_cells[:, 0]
        low = np.searchsorted(keys, centre - 1, "left")
        counts = np.searchsorted(keys, centre + 1, "right") - low
        left = np.repeat(np.arange(len(a_xy)), counts)
        first = np.repeat(low - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
        found.append(np.stack([left, order[first + np.arange(len(left))]], 1))
    pairs = np.concatenate(found)
    apart = np.hypot(*(a_xy[pairs[:, 0]] - b_xy[pairs[:, 1]]).T)
    close = np.flatnonzero(apart <= radius)
    close = close[np.lexsort((pairs[close, 1], pairs[close, 0]))]
    return pairs[close], apart[close]


def _aggregate(table: Overlap, rows: Int64) -> tuple[int, int]:
    """Return intersections and unions of the chosen pairs; unassigned areas add to the union."""
    missed = np.ones(len(table.truth_areas), bool)
    missed[table.pairs[rows, 0]] = False
    unused = np.ones(len(table.pred_areas), bool)
    unused[table.pairs[rows, 1]] = False
    left_over = table.truth_areas[missed].sum() + table.pred_areas[unused].sum()
    return int(table.shared[rows].sum()), int(table.union[rows].sum() + left_over)

"""Tiles → one table: each nucleus once.

A nucleus belongs to the tile whose core holds the centre of its box. Two tiles may see a nucleus
on their common border a pixel apart, and then both or neither would own it. Therefore a tile also
emits the nuclei whose centre lies up to `MARGIN_PX` outside of its core, and what stands twice
along a seam is removed: the one deeper inside its own core stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nucleate.inference.tiling import Box
from nucleate.types import Bool, Float32, Float64, Frame, Instances, Int32, Int64

MARGIN_PX = 6  # tiles were seen to disagree by 1.5 pixels; docs/concepts/architecture.md


def depth(boxes_xyxy: Float32, core: Box, width: int, height: int) -> Float64:
    """Return how deep inside a core each box centre lies, in pixels; negative outside.

    The picture's own edges do not count: there is no tile beyond them.

    Example:
        >>> box = np.array([[8, 0, 10, 2]], np.float32)
        >>> depth(box, (0, 0, 10, 10), 20, 10).tolist()
        [1.0]
    """
    x = (boxes_xyxy[:, 0].astype(np.float64) + boxes_xyxy[:, 2]) / 2
    y = (boxes_xyxy[:, 1].astype(np.float64) + boxes_xyxy[:, 3]) / 2
    inside = np.full(len(boxes_xyxy), np.inf)
    x0, y0, x1, y1 = core
    if x0 > 0:
        inside = np.minimum(inside, x - x0)
    if y0 > 0:
        inside = np.minimum(inside, y - y0)
    if x1 < width:
        inside = np.minimum(inside, x1 - x)
    if y1 < height:
        inside = np.minimum(inside, y1 - y)
    return inside


@dataclass(frozen=True, slots=True)
class Part:
    """What one tile emits.

    Attributes:
        nuclei: in working pixels.
        depth: float64 (n,), from `depth`.
        reaches: bool (n,), the box reaches out of the core, towards another tile.
        cut: bool (n,), the outline ends where the tile's pixels end.
    """

    nuclei: Instances
    depth: Float64
    reaches: Bool
    cut: Bool


def reaches_out(boxes_xyxy: Float32, core: Box, width: int, height: int) -> Bool:
    """Return which boxes reach out of a core; the picture's own edges do not count.

    Example:
        >>> reaches_out(np.array([[8, 0, 11, 2]], np.float32), (0, 0, 10, 10), 20, 10).tolist()
        [True]
    """
    x0, y0, x1, y1 = core
    out: Bool = (
        ((boxes_xyxy[:, 0] < x0) & (x0 > 0))
        | ((boxes_xyxy[:, 1] < y0) & (y0 > 0))
        | ((boxes_xyxy[:, 2] > x1) & (x1 < width))
        | ((boxes_xyxy[:, 3] > y1) & (y1 < height))
    )
    return out


def stitch(parts: list[Part], frame: Frame) -> tuple[Instances, int]:
    """Join what the tiles emitted, without what stands twice, sorted from top to bottom.

    Args:
        parts: what each tile emits, in the coordinates of `frame`.
        frame: the working grid.

    Returns:
        One table with ids 1..n, whose order and ids do not depend on the tiles; and the number of
        nuclei in it that are larger than their tile could see.
    """
    joined = Instances.concatenate([part.nuclei for part in parts], frame)
    if not len(joined):
        return joined, 0
    keep = _first_of_each(
        joined,
        np.concatenate([np.full(len(part.nuclei), i) for i, part in enumerate(parts)]),
        np.concatenate([part.depth for part in parts]),
        np.concatenate([part.reaches for part in parts]),
    )
    rows = np.flatnonzero(keep)
    box = joined.boxes_xyxy[rows]
    order = rows[np.lexsort((box[:, 2], box[:, 3], box[:, 0], box[:, 1]))]
    cut = np.concatenate([part.cut for part in parts])
    return Instances.concatenate([joined.take(order)], frame), int(cut[order].sum())


def _first_of_each(nuclei: Instances, tile: Int64, deep: Float64, reaches: Bool) -> Bool:
    """Return which nuclei to keep: of two tiles' views of one nucleus, the deeper.

    Cores share no ground, so of two views that overlap at least one reaches out of its core.
    """
    keep = np.ones(len(nuclei), bool)
    boxes = nuclei.boxes_xyxy
    order = np.argsort(boxes[:, 0], kind="stable")
    xs = boxes[order, 0]
    widest = float((boxes[:, 2] - boxes[:, 0]).max())
    rank = np.empty(len(nuclei), np.int64)
    rank[np.lexsort((boxes[:, 0], boxes[:, 1], -deep))] = np.arange(len(nuclei))
    doubles: list[tuple[int, int]] = []  # deeper view, other view
    for i in np.flatnonzero(reaches):
        low = np.searchsorted(xs, boxes[i, 0] - widest, "left")
        high = np.searchsorted(xs, boxes[i, 2], "right")
        near = order[low:high]
        near = near[
            (tile[near] != tile[i])
            & (boxes[near, 0] < boxes[i, 2])
            & (boxes[near, 2] > boxes[i, 0])
            & (boxes[near, 1] < boxes[i, 3])
            & (boxes[near, 3] > boxes[i, 1])
        ]
        same = [int(j) for j in near if _share(nuclei, int(i), int(j)) > 0.5]
        doubles += [(int(i), j) if rank[i] < rank[j] else (j, int(i)) for j in same]
    for deeper, other in sorted(doubles, key=lambda pair: (rank[pair[0]], rank[pair[1]])):
        if keep[deeper]:
            keep[other] = False
    return keep


def _share(nuclei: Instances, i: int, j: int) -> float:
    """Return the shared pixels of two nuclei over the pixels of the smaller one."""
    a, b = _mask(nuclei, i, j), _mask(nuclei, j, i)
    smaller = min(int((a > 0).sum()), int((b > 0).sum()))
    return float(((a > 0) & (b > 0)).sum()) / smaller if smaller else 0.0


def _mask(nuclei: Instances, row: int, other: int) -> Int32:
    """Return nucleus `row` drawn in the box that holds both nuclei."""
    from nucleate.labels import rasterise

    low = np.floor(np.minimum(nuclei.boxes_xyxy[row, :2], nuclei.boxes_xyxy[other, :2]))
    high = np.ceil(np.maximum(nuclei.boxes_xyxy[row, 2:], nuclei.boxes_xyxy[other, 2:]))
    width, height = (high - low).astype(int)
    outline = nuclei.outline(row) - low
    return rasterise(outline, np.array([0, len(outline)]), (height, width))[0]

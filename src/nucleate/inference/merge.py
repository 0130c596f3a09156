"""Tiles → one table: each nucleus once.

A nucleus belongs to the tile whose core holds the centre of its box. Two tiles may see a nucleus
on their common border a pixel apart, and then both or neither would own it. Therefore a tile also
emits the nuclei whose centre lies up to `MARGIN_PX` outside of its core, and what stands twice
along a seam is removed: the one deeper inside its own core stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from nucleate.types import Bool, Float32, Float64, Frame, Instances, Int32, Int64

K = TypeVar("K")
Ground = tuple[float, float, float, float]  # x0, y0, x1, y1 of a core
MARGIN_PX = 6  # tiles were seen to disagree by 1.5 pixels; docs/concepts/architecture.md


def depth(boxes_xyxy: Float32, core: Ground, width: int, height: int) -> Float64:
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


def reaches_out(boxes_xyxy: Float32, core: Ground, width: int, height: int) -> Bool:
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
    views = Views(
        joined,
        np.concatenate([np.full(len(part.nuclei), i) for i, part in enumerate(parts)]),
        np.concatenate([part.depth for part in parts]),
        np.concatenate([part.reaches for part in parts]),
    )
    keep = np.ones(len(joined), np.bool_)
    keep[list(second_views(find_doubles(views), rank(views).__getitem__))] = False
    rows = np.flatnonzero(keep)
    order = rows[from_top(joined.boxes_xyxy[rows])]
    cut = np.concatenate([part.cut for part in parts])
    return Instances.concatenate([joined.take(order)], frame), int(cut[order].sum())


def from_top(boxes_xyxy: Float32) -> Int64:
    """Return the order of nuclei in a table: from top to bottom, then from left to right."""
    x0, y0, x1, y1 = boxes_xyxy.T
    return np.lexsort((x1, y1, x0, y0))


@dataclass(frozen=True, slots=True)
class Views:
    """What several tiles, or regions, see: nuclei that may stand twice.

    Attributes:
        nuclei: of all of them.
        owner: int64 (n,), which of them sees it.
        depth: float64 (n,), from `depth`.
        reaches: bool (n,), from `reaches_out`; only these are compared with others.
    """

    nuclei: Instances
    owner: Int64
    depth: Float64
    reaches: Bool


def rank(views: Views) -> list[tuple[float, float, float, int, int]]:
    """Return what views of one nucleus are sorted by: the deepest first; the rest breaks ties."""
    boxes = views.nuclei.boxes_xyxy
    return [
        (-float(deep), float(box[1]), float(box[0]), int(owner), row)
        for row, (deep, box, owner) in enumerate(zip(views.depth, boxes, views.owner, strict=True))
    ]


def second_views(doubles: set[tuple[K, K]], ranks: Callable[[K], Any]) -> set[K]:
    """Return which nuclei to drop, so that each stays once.

    Args:
        doubles: pairs of views of one nucleus.
        ranks: view -> what to sort by; the first of a pair stays, if nothing better replaced it.

    Example:
        >>> sorted(second_views({(0, 1), (1, 2)}, [5, 3, 9].__getitem__))
        [0, 2]
    """
    pairs = [(a, b) if ranks(a) < ranks(b) else (b, a) for a, b in doubles]
    gone: set[K] = set()
    for better, other in sorted(pairs, key=lambda pair: (ranks(pair[0]), ranks(pair[1]))):
        if better not in gone:
            gone.add(other)
    return gone


def find_doubles(views: Views) -> set[tuple[int, int]]:
    """Return pairs of rows that are views of one nucleus by two owners.

    Cores share no ground, so of two views that overlap at least one reaches out of its core.
    """
    nuclei, boxes = views.nuclei, views.nuclei.boxes_xyxy
    doubles: set[tuple[int, int]] = set()
    if not len(nuclei):
        return doubles
    order = np.argsort(boxes[:, 0], kind="stable")
    xs = boxes[order, 0]
    widest = float((boxes[:, 2] - boxes[:, 0]).max())
    for i in np.flatnonzero(views.reaches):
        low = np.searchsorted(xs, boxes[i, 0] - widest, "left")
        high = np.searchsorted(xs, boxes[i, 2], "right")
        near = order[low:high]
        near = near[
            (views.owner[near] != views.owner[i])
            & (boxes[near, 0] < boxes[i, 2])
            & (boxes[near, 2] > boxes[i, 0])
            & (boxes[near, 1] < boxes[i, 3])
            & (boxes[near, 3] > boxes[i, 1])
        ]
        doubles |= {
            (min(int(i), int(j)), max(int(i), int(j)))
            for j in near
            if _share(nuclei, int(i), int(j)) > 0.5
        }
    return doubles


def _share(nuclei: Instances, i: int, j: int) -> float:
    """Return the shared pixels of two nuclei over the pixels of the smaller one."""
    a, b = _mask(nuclei, i, j), _mask(nuclei, j, i)
    smaller = min(int((a > 0).sum()), int((b > 0).sum()))
    return float(((a > 0) & (b > 0)).sum()) / smaller if smaller else 0.0


def _mask(nuclei: Instances, row: int, other: int) -> Int32:
    """Return nucleus `row` drawn in the box that holds both nuclei."""
    from nucleate.geometry.outlines import rasterise

    low = np.floor(np.minimum(nuclei.boxes_xyxy[row, :2], nuclei.boxes_xyxy[other, :2]))
    high = np.ceil(np.maximum(nuclei.boxes_xyxy[row, 2:], nuclei.boxes_xyxy[other, 2:]))
    width, height = (high - low).astype(int)
    outline = nuclei.outline(row) - low
    return rasterise(outline, np.array([0, len(outline)]), (height, width))[0]

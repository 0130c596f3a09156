"""Merge units into one table in which each nucleus occurs once.

If several tiles emit the same nucleus (`inference.ownership`), the view that is deepest inside the
core of its tile is kept. All seams, between the tiles of a unit and between units, are resolved
only here, as soon as the next row of units is available, so only a few rows of units are in memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Protocol

import numpy as np

from nucleate.features import RADIUS_UM, neighbourhood, no_nuclei
from nucleate.geometry.outlines import centroids_xy
from nucleate.inference.units import Unit
from nucleate.resolution import check_mpp
from nucleate.types import Float32, Float64, Frame, Instances, Int32, Int64

Key = tuple[int, int]  # row and column of a unit
View = tuple[Key, int]  # key of a unit, and row in its table of seams
SEAM_COLUMNS = ("seam_tile", "seam_depth", "seam_reaches", "seam_cut")


class Segmented(Protocol):
    """A segmented unit, the input of `merge`."""

    @property
    def unit(self) -> Unit:
        """The work unit."""

    def seams(self) -> Instances:
        """Return the nuclei that another tile may contain too, with the columns `SEAM_COLUMNS`."""

    def inside(self) -> Instances:
        """Return the nuclei that no other tile contains, with the same columns."""


def from_top(boxes_xyxy: Float32) -> Int64:
    """Return the indices that sort boxes from top to bottom, then from left to right."""
    x0, y0, x1, y1 = boxes_xyxy.T
    return np.lexsort((x1, y1, x0, y0))


@dataclass(frozen=True, slots=True)
class Merged:
    """The nuclei of one unit, each once.

    Attributes:
        nuclei: from top to bottom, with all features; ids continue from unit to unit.
        cut: number of nuclei that are larger than their tile.
    """

    nuclei: Instances
    cut: int


def merge(
    segmented: Iterable[Segmented], frame: Frame, class_names: tuple[str, ...]
) -> Iterator[Merged]:
    """Yield the nuclei of each unit, each nucleus once, in the order of the units.

    Args:
        segmented: all units with tissue, row by row, in level-0 pixels.
        frame: frame of level 0.
        class_names: names of the classes of nuclei.
    """
    gone: dict[Key, set[int]] = defaultdict(set)
    earlier, current = _Row(), _Row()
    first = 1
    for following in chain(_rows(segmented), [_Row()]):
        _drop_second_views(current, following, frame, gone)
        centres = {
            key: _kept(views.centres, gone[key])
            for row in (earlier, current, following)
            for key, views in row.items()
        }
        for key, views in current.items():
            joined = Instances.concatenate(
                [_kept_nuclei(views.seams, gone[key]), views.of.inside()], frame
            )
            if len(joined):
                merged = _with_neighbours(joined, key, centres, frame, class_names, first)
                first += len(joined)
                yield merged
        earlier, current = current, following


@dataclass(frozen=True, slots=True)
class _Views:
    """The nuclei on the seams of a unit, and their centres."""

    of: Segmented
    seams: Instances
    centres: Float64


_Row = dict[Key, _Views]  # units from left to right


def _rows(segmented: Iterable[Segmented]) -> Iterator[_Row]:
    """Yield rows of units with their seams read."""
    row = _Row()
    for one in segmented:
        if row and next(iter(row))[0] != one.unit.row:
            yield row
            row = _Row()
        seams = one.seams()
        row[one.unit.key] = _Views(one, seams, centroids_xy(seams.coords_xy, seams.offsets))
    if row:
        yield row


def _drop_second_views(
    current: _Row, following: _Row, frame: Frame, gone: dict[Key, set[int]]
) -> None:
    """Drop duplicate views within the following row, and between it and the current row."""
    new = [views.seams.boxes_xyxy[:, 1] for views in following.values() if len(views.seams)]
    top = min(float(edges.min()) for edges in new) if new else np.inf
    tables, owners, views = list[Instances](), list[Int64](), list[View]()
    for row in (current, following):
        for key, one in row.items():
            near = np.flatnonzero(one.seams.boxes_xyxy[:, 3] > top)
            tables.append(one.seams.take(near))
            tiles = one.seams.features["seam_tile"][near] if len(near) else np.zeros(0)
            owners.append(len(tables) * 100_000 + tiles.astype(np.int64))
            views += [(key, int(k)) for k in near]
    if not views:
        return
    joined = Instances.concatenate(tables, frame)
    dropped = {(key, k) for key, rows in gone.items() for k in rows}
    deep, boxes = joined.features["seam_depth"], joined.boxes_xyxy
    ranks = [
        (-float(deep[i]), float(boxes[i, 1]), float(boxes[i, 0]), view)
        for i, view in enumerate(views)
    ]
    doubles = find_doubles(joined, np.concatenate(owners))
    known = {i for i, view in enumerate(views) if view in dropped}
    for i in second_views(doubles, ranks.__getitem__, known):
        key, k = views[i]
        gone[key].add(k)


def _kept(rows: Float64, gone: set[int]) -> Float64:
    """Return an array without some rows."""
    return np.delete(rows, list(gone), axis=0) if gone else rows


def _kept_nuclei(nuclei: Instances, gone: set[int]) -> Instances:
    """Return nuclei without some rows."""
    return nuclei.take(np.delete(np.arange(len(nuclei)), list(gone))) if gone else nuclei


def _with_neighbours(
    nuclei: Instances,
    key: Key,
    centres: dict[Key, Float64],
    frame: Frame,
    class_names: tuple[str, ...],
    first: int,
) -> Merged:
    """Return the nuclei of a unit from top to bottom, with neighbour counts and ids from `first`.

    Args:
        nuclei: nuclei of the unit, each once.
        key: key of the unit.
        centres: centres of the nuclei on the seams of the surrounding units.
        frame: frame of level 0.
        class_names: names of the classes of nuclei.
        first: id of the first nucleus.
    """
    nuclei = nuclei.take(from_top(nuclei.boxes_xyxy))
    own = centroids_xy(nuclei.coords_xy, nuclei.offsets)
    mpp = check_mpp(frame.mpp)
    low, high = own.min(axis=0) - RADIUS_UM / mpp, own.max(axis=0) + RADIUS_UM / mpp
    others = [own]
    for row in (-1, 0, 1):
        for column in (-1, 0, 1):
            there = centres.get((key[0] + row, key[1] + column))
            if there is not None and (row, column) != (0, 0):
                others.append(there[((there >= low) & (there <= high)).all(axis=1)])
    near = neighbourhood(own, np.concatenate(others), mpp)
    cut = int(nuclei.features["seam_cut"].sum())
    measured = {n: c for n, c in nuclei.features.items() if n not in SEAM_COLUMNS}
    columns = no_nuclei(frame, class_names).features
    features = {name: ({**measured, **near})[name] for name in columns}
    ids = np.arange(first, first + len(nuclei), dtype=np.int64)
    return Merged(replace(nuclei, ids=ids, features=features, class_names=class_names), cut)


def second_views(
    doubles: set[tuple[int, int]], ranks: Callable[[int], Any], gone: AbstractSet[int] = frozenset()
) -> set[int]:
    """Return the views to drop so that each nucleus occurs once.

    Args:
        doubles: pairs of views of one nucleus.
        ranks: view -> sort key; the lower of a pair is kept, unless a better view replaces it.
        gone: views that were dropped before.

    Example:
        >>> sorted(second_views({(0, 1), (1, 2)}, [5, 3, 9].__getitem__))
        [0, 2]
    """
    pairs = [(a, b) if ranks(a) < ranks(b) else (b, a) for a, b in doubles]
    dropped = set(gone)
    for better, other in sorted(pairs, key=lambda pair: (ranks(pair[0]), ranks(pair[1]))):
        if better not in dropped:
            dropped.add(other)
    return dropped


def find_doubles(nuclei: Instances, owner: Int64) -> set[tuple[int, int]]:
    """Return pairs of rows that are views of one nucleus by two owners.

    Cores do not overlap, so of two overlapping views at least one extends beyond its core.

    Args:
        nuclei: nuclei with the column `seam_reaches`.
        owner: int64 (n,), index of the tile that emitted each.
    """
    boxes = nuclei.boxes_xyxy
    doubles: set[tuple[int, int]] = set()
    order = np.argsort(boxes[:, 0], kind="stable")
    xs = boxes[order, 0]
    widest = float((boxes[:, 2] - boxes[:, 0]).max())
    for i in np.flatnonzero(nuclei.features["seam_reaches"]):
        low = np.searchsorted(xs, boxes[i, 0] - widest, "left")
        high = np.searchsorted(xs, boxes[i, 2], "right")
        near = order[low:high]
        near = near[
            (owner[near] != owner[i])
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
    """Return the intersection of two nuclei over the area of the smaller one."""
    a, b = _mask(nuclei, i, j), _mask(nuclei, j, i)
    smaller = min(int((a > 0).sum()), int((b > 0).sum()))
    return float(((a > 0) & (b > 0)).sum()) / smaller if smaller else 0.0


def _mask(nuclei: Instances, row: int, other: int) -> Int32:
    """Return nucleus `row` drawn in the box that contains both nuclei."""
    from nucleate.geometry.outlines import rasterise

    low = np.floor(np.minimum(nuclei.boxes_xyxy[row, :2], nuclei.boxes_xyxy[other, :2]))
    high = np.ceil(np.maximum(nuclei.boxes_xyxy[row, 2:], nuclei.boxes_xyxy[other, 2:]))
    width, height = (high - low).astype(int)
    outline = nuclei.outline(row) - low
    return rasterise(outline, np.array([0, len(outline)]), (height, width))[0]

"""Files of regions → one file of nuclei: seams closed, neighbours counted, ids given.

Only one region and the edges of those around it are in memory at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nucleate.errors import InputError
from nucleate.features import RADIUS_UM, neighbourhood, no_nuclei
from nucleate.geometry.outlines import centroids_xy
from nucleate.inference.merge import (
    Views,
    depth,
    find_doubles,
    from_top,
    rank,
    reaches_out,
    second_views,
)
from nucleate.resolution import check_mpp
from nucleate.results.parquet import NucleiFile, open_nuclei, writer
from nucleate.slides.manifest import job_digest
from nucleate.slides.work_units import Region, check_region
from nucleate.types import Float64, Frame, Instances, Int64

_AFTER = ((0, 1), (1, -1), (1, 0), (1, 1))  # neighbours that no earlier region has looked at
_AROUND = tuple((r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if (r, c) != (0, 0))
_EDGE, _INSIDE = 0, 1  # row groups of a region's file
_KEPT = 12  # edges of regions that stay in memory
T = TypeVar("T")
EdgeRow = tuple[int, int, int]  # row and column of a region, row in its edge


@dataclass(frozen=True, slots=True)
class Assembled:
    """What the regions gave.

    Attributes:
        nuclei: in the file.
        seams: nuclei that two regions saw, of which one view was dropped.
        cut: objects larger than a tile sees.
        lost: boxes in level-0 pixels that could not be read, and why.
    """

    nuclei: int
    seams: int
    cut: int
    lost: list[dict[str, Any]]


def assemble(
    folder: Path,
    regions: list[Region],
    out: Path,
    like: Instances,
    facts: dict[str, Any],
    each: Callable[[Instances], None] = lambda _: None,
) -> Assembled:
    """Write the file of all nuclei; `each` is given those of every region.

    Args:
        folder: of the files of the regions.
        regions: all of them.
        out: file to write.
        like: a table of no nuclei: frame, classes.
        facts: for the metadata of the file.
        each: is given a table per region.

    Raises:
        InputError: the file of a region is missing or damaged.
        OutputError: the file cannot be written.
    """
    known = {(region.row, region.column): region for region in regions}
    digest = job_digest(facts.get("job", {}))

    @lru_cache(maxsize=_KEPT)
    def edge(row: int, column: int) -> Instances:
        return _of(known[row, column], folder, digest, lambda file: file.group(_EDGE))

    gone = _doubles(known, edge, like.frame)
    cut, lost = 0, list[dict[str, Any]]()
    like = no_nuclei(like.frame, like.class_names)
    for region in regions:  # what could not be read has to be in the metadata, which come first
        told = _of(region, folder, digest, lambda file: file.facts)
        cut, lost = cut + int(told["cut"]), lost + list(told["lost"])
    mpp = check_mpp(like.frame.mpp)
    radius = RADIUS_UM / mpp
    with writer(out, like, {**facts, "lost": lost}) as file:
        for outputs, region in known.items():
            mine = _kept(edge(*outputs), gone[outputs])
            inside = _of(region, folder, digest, lambda file: file.group(_INSIDE))
            nuclei = Instances.concatenate([mine, inside], like.frame)
            if not len(nuclei):
                continue
            nuclei = nuclei.take(from_top(nuclei.boxes_xyxy))
            centres = centroids_xy(nuclei.coords_xy, nuclei.offsets)
            others = [centres]
            for row, column in _AROUND:
                there = outputs[0] + row, outputs[1] + column
                if there in known:
                    other = _kept(edge(*there), gone[there])
                    others.append(_near(other, region, radius))
            near = neighbourhood(centres, np.concatenate(others), mpp)
            first = file.count + 1
            nuclei = replace(
                nuclei,
                ids=np.arange(first, first + len(nuclei), dtype=np.int64),
                features={**nuclei.features, **near},
            )
            file.write(nuclei)
            each(nuclei)
        return Assembled(file.count, sum(map(len, gone.values())), cut, lost)


def _of(region: Region, folder: Path, digest: str, read: Callable[[NucleiFile], T]) -> T:
    """Return what is read of the file of a region; one that is damaged or foreign is removed."""
    path = folder / region.file
    try:
        found = open_nuclei(path)
        check_region(found, digest)
        return read(found)
    except InputError as error:
        path.unlink(missing_ok=True)
        raise InputError(
            f"{path}: was damaged, or of another run ({error}). It is removed: go on with --resume."
        ) from error


def _doubles(
    known: dict[tuple[int, int], Region],
    edge: Callable[[int, int], Instances],
    frame: Frame,
) -> dict[tuple[int, int], set[int]]:
    """Return region -> rows of its edge that are second views of what another region keeps."""
    pairs: set[tuple[EdgeRow, EdgeRow]] = set()
    ranks: dict[EdgeRow, Any] = {}
    for (row, column), region in known.items():
        around = [(row, column)] + [
            (row + r, column + c) for r, c in _AFTER if (row + r, column + c) in known
        ]
        views, places = _views(around, known, edge, region, frame)
        found = find_doubles(views)
        order = rank(views) if found else []
        for a, b in found:
            first, second = places[a], places[b]
            pairs.add((min(first, second), max(first, second)))
            for k in (a, b):  # the row in this table says nothing in another
                ranks[places[k]] = (*order[k][:3], places[k])
    gone: dict[tuple[int, int], set[int]] = defaultdict(set)
    for r, c, k in second_views(pairs, ranks.__getitem__):
        gone[r, c].add(k)
    return gone


def _views(
    around: list[tuple[int, int]],
    known: dict[tuple[int, int], Region],
    edge: Callable[[int, int], Instances],
    region: Region,
    frame: Frame,
) -> tuple[Views, list[EdgeRow]]:
    """Return what regions see near the border of one of them, and where each row comes from."""
    tables, owners, deep, reach = [], [], [], []
    places: list[EdgeRow] = []
    for number, outputs in enumerate(around):
        table = edge(*outputs)
        box = table.boxes_xyxy
        near: Int64 = np.flatnonzero(
            (box[:, 2] >= region.core[0] - region.margin)
            & (box[:, 0] <= region.core[2] + region.margin)
            & (box[:, 3] >= region.core[1] - region.margin)
            & (box[:, 1] <= region.core[3] + region.margin)
        )
        core = known[outputs].core
        tables.append(table.take(near))
        owners.append(np.full(len(near), number))
        deep.append(depth(box[near], core, frame.width, frame.height))
        reach.append(reaches_out(box[near], core, frame.width, frame.height))
        places += [(*outputs, int(k)) for k in near]
    joined = Instances.concatenate(tables, frame)
    return (
        Views(joined, np.concatenate(owners), np.concatenate(deep), np.concatenate(reach)),
        places,
    )


def _kept(nuclei: Instances, gone: set[int]) -> Instances:
    """Return nuclei without some rows."""
    keep = np.ones(len(nuclei), np.bool_)
    keep[list(gone)] = False
    return nuclei.take(keep) if gone else nuclei


def _near(nuclei: Instances, region: Region, radius: float) -> Float64:
    """Return the centres of nuclei that lie within `radius` of a region."""
    if not len(nuclei):
        return np.zeros((0, 2))
    xy = centroids_xy(nuclei.coords_xy, nuclei.offsets)
    x0, y0, x1, y1 = region.core
    near = (
        (xy[:, 0] > x0 - radius - 64)
        & (xy[:, 0] < x1 + radius + 64)
        & (xy[:, 1] > y0 - radius - 64)
        & (xy[:, 1] < y1 + radius + 64)
    )
    return np.asarray(xy[near])

"""Access to millions of nuclei: positions, filters, and outlines on demand.

Positions, boxes and requested features are in memory as arrays; outlines are read from the file,
row group by row group. Queries return the nuclei of a region that pass the filters.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from nucleate.errors import InputError
from nucleate.results.parquet import NucleiFile
from nucleate.types import Bool, Float32, Float64, Instances, Int64
from nucleate.viewer.selection import Filters, within

MapBox = tuple[float, float, float, float]  # x0, y0, x1, y1 in level-0 pixels
MOST_OUTLINES, MOST_POINTS = 8_000, 40_000  # a browser draws this many without lag while panning
HEAT_BINS = 160  # bins along the longer side of a view
HISTOGRAM_BINS = 48
_PER_CELL = 64  # mean number of nuclei in a cell of the index
_KEPT_MASKS, _KEPT_GROUPS = 8, 48


@dataclass(frozen=True, slots=True)
class View:
    """Drawing of a region: outlines for few nuclei, points for more, else a heat map.

    Attributes:
        kind: `outlines`, `points` or `heat`.
        count: number of nuclei in the region that pass.
        arrays: name -> array; for outlines `rows`, `coords_xy`, `offsets`, `values`; for points
            `rows`, `centres_xy`, `values`; for heat `counts`, `values` per bin, see `bins_xy`.
        bins_xy: columns and rows of the heat map.
    """

    kind: str
    count: int
    arrays: dict[str, Any]
    bins_xy: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Places:
    """Positions of the nuclei of a file, with a spatial index of square cells.

    Attributes:
        centres_xy: float32 (n, 2), in the order of the file.
        boxes_xyxy: float32 (n, 4), in the order of the file.
        starts: int64 (groups + 1,), first row of each row group.
        reach: maximum distance from the centre of a nucleus to a side of its box.
        cell: edge of a cell, in pixels.
        wide: cells per row.
        high: rows of cells.
        order: int64 (n,), the rows of the nuclei, cell by cell.
        begin: int64 (cells + 1,), first index of each cell in `order`.
    """

    centres_xy: Float32
    boxes_xyxy: Float32
    starts: Int64
    reach: float
    cell: float
    wide: int
    high: int
    order: Int64
    begin: Int64


def find_places(file: NucleiFile) -> Places:
    """Read the positions of the nuclei of a file."""
    parts = list(file.leaves(("x", "y", "bbox.xmin", "bbox.ymin", "bbox.xmax", "bbox.ymax")))
    x, y, left, top, right, bottom = (
        np.concatenate([part[i] for part in parts]) if parts else np.zeros(0, np.float32)
        for i in range(6)
    )
    sides = [x - left, right - x, y - top, bottom - y]
    frame = file.frame
    area = max(1, frame.width) * max(1, frame.height)
    cell = max(64.0, float(np.sqrt(area * _PER_CELL / max(1, file.count))))
    wide, high = int(frame.width / cell) + 1, int(frame.height / cell) + 1
    column = np.clip(np.floor(x / cell).astype(np.int64), 0, wide - 1)
    row = np.clip(np.floor(y / cell).astype(np.int64), 0, high - 1)
    order = np.argsort(row * wide + column, kind="stable")
    return Places(
        centres_xy=np.stack([x, y], axis=1).astype(np.float32),
        boxes_xyxy=np.stack([left, top, right, bottom], axis=1).astype(np.float32),
        starts=np.cumsum([0, *(len(part[0]) for part in parts)]),
        reach=float(max((side.max(initial=0) for side in sides), default=0.0)),
        cell=cell,
        wide=wide,
        high=high,
        order=order,
        begin=np.searchsorted((row * wide + column)[order], np.arange(wide * high + 1)),
    )


def _stamp(path: Path) -> tuple[int, int]:
    """Return size and modification time of a file, which show whether it has changed."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


class Table:
    """The nuclei of one file.

    Args:
        file: open Parquet file.
    """

    def __init__(self, file: NucleiFile) -> None:
        self.file, self.count = file, file.count
        self._written = _stamp(file.path)
        self._lock = threading.Lock()
        self.names: dict[str, tuple[str, ...]] = {"class": file.class_names}
        self._columns: dict[str, Any] = {}
        self.numeric = [n for n in file.numeric_columns() if n not in ("x", "y", "class")]
        self.mask = lru_cache(_KEPT_MASKS)(self._mask)
        self._group = lru_cache(_KEPT_GROUPS)(self._read_group)

    @cached_property
    def places(self) -> Places:
        """Positions of the nuclei, read on first use."""
        self._check_same()
        return find_places(self.file)

    @property
    def centres_xy(self) -> Float32:
        """Centres of mass, float32 (n, 2)."""
        return self.places.centres_xy

    def _check_same(self) -> None:
        """Raise an `InputError` if the file has changed since it was opened."""
        if _stamp(self.file.path) != self._written:
            raise InputError(
                f"{self.file.path.name} has changed since this page was opened. Start nucleate "
                "view again."
            )

    def _read_group(self, number: int) -> Instances:
        self._check_same()
        return self.file.group(number)

    def add(self, name: str, values: Any, names: tuple[str, ...]) -> None:  # noqa: ANN401
        """Add a categorical column, such as `outcome`, with the names of its values."""
        self._columns[name], self.names[name] = np.asarray(values, np.float32), names

    def column(self, name: str) -> Float32:
        """Return a column as float32, with NaN for missing values.

        Raises:
            InputError: there is no such column.
        """
        if name not in self.numeric and name not in self.names:
            raise InputError(f"Unknown column {name!r} in {self.file.path.name}.")
        with self._lock:
            if name not in self._columns:
                self._check_same()
                self._columns[name] = np.asarray(self.file.column(name), np.float32)
            return self._columns[name]  # type: ignore[no-any-return]

    def _mask(self, filters: Filters) -> Bool:
        passed = np.ones(self.count, np.bool_)
        for f in filters:
            values = self.column(f.column)
            passed &= (values >= f.low) & (values <= f.high)
        return passed

    def inside(self, box: MapBox, filters: Filters = ()) -> Int64:
        """Return the rows of nuclei that pass and whose centre is in a half-open box."""
        x0, y0, x1, y1 = box
        left = int(np.clip(x0 // self.places.cell, 0, self.places.wide - 1))
        right = int(np.clip(x1 // self.places.cell, 0, self.places.wide - 1))
        top = int(np.clip(y0 // self.places.cell, 0, self.places.high - 1))
        bottom = int(np.clip(y1 // self.places.cell, 0, self.places.high - 1))
        if x1 <= x0 or y1 <= y0 or not self.count:
            return np.zeros(0, np.int64)
        along = (np.arange(top, bottom + 1) * self.places.wide)[:, None] + [left, right + 1]
        spans = self.places.begin[along]  # cells of a row are contiguous
        rows = np.concatenate([self.places.order[a:b] for a, b in spans])
        x, y = self.places.centres_xy[rows, 0], self.places.centres_xy[rows, 1]
        keep = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
        if filters:
            keep &= self.mask(filters)[rows]
        return np.sort(rows[keep])

    def view(self, box: MapBox, filters: Filters, column: str | None) -> View:
        """Return the drawing of a region, with the values of a column for colours."""
        rows = self.inside(box, filters)
        if len(rows) > MOST_POINTS:
            return self._heat(box, rows, column)
        if len(rows) > MOST_OUTLINES:
            arrays = {"centres_xy": self.places.centres_xy[rows]}
            return View("points", len(rows), self._valued(rows, column) | arrays)
        x0, y0, x1, y1 = box
        reach = self.places.reach  # outlines may extend into the box
        rows = self.inside((x0 - reach, y0 - reach, x1 + reach, y1 + reach), filters)
        left, top, right, bottom = self.places.boxes_xyxy[rows].T
        rows = rows[(left < x1) & (right > x0) & (top < y1) & (bottom > y0)]
        coords, offsets = self.outlines(rows)
        drawn = self._valued(rows, column) | {"coords_xy": coords, "offsets": offsets}
        return View("outlines", len(rows), drawn)

    def _valued(self, rows: Int64, column: str | None) -> dict[str, Any]:
        values = np.zeros(0, np.float32) if column is None else self.column(column)[rows]
        return {"rows": rows.astype(np.uint32), "values": values}

    def _heat(self, box: MapBox, rows: Int64, column: str | None) -> View:
        x0, y0, x1, y1 = box
        edge = max(x1 - x0, y1 - y0) / HEAT_BINS
        wide, high = int(np.ceil((x1 - x0) / edge)), int(np.ceil((y1 - y0) / edge))
        at = np.floor((self.places.centres_xy[rows] - np.array([x0, y0], np.float32)) / edge)
        at = np.clip(at.astype(np.int64), 0, [wide - 1, high - 1])
        place = at[:, 1] * wide + at[:, 0]
        counts = np.bincount(place, minlength=wide * high).astype(np.float32)
        values = np.zeros(0, np.float32)
        if column is not None and column not in self.names:
            own = self.column(column)[rows]
            known = np.isfinite(own)
            weight = np.bincount(place[known], own[known], wide * high)
            number = np.bincount(place[known], minlength=wide * high)
            means = np.where(number > 0, weight / np.maximum(number, 1), np.nan)
            values = means.astype(np.float32)
        return View("heat", len(rows), {"counts": counts, "values": values}, (wide, high))

    def outlines(self, rows: Int64) -> tuple[Float32, Any]:
        """Return vertices float32 (m, 2) and offsets uint32 (n + 1,) of the outlines of rows."""
        parts = list(self.nuclei(rows))
        coords = [part.coords_xy for part in parts]
        lengths = [np.diff(part.offsets) for part in parts]
        offsets = np.cumsum(np.concatenate([[0], *lengths]))
        vertices = np.concatenate(coords) if coords else np.zeros((0, 2), np.float32)
        return vertices.astype(np.float32), offsets.astype(np.uint32)

    def nuclei(self, rows: Int64) -> Iterator[Instances]:
        """Yield the nuclei of ascending rows, row group by row group."""
        groups = np.searchsorted(self.places.starts, rows, side="right") - 1
        for number in np.unique(groups):
            yield self._group(int(number)).take(rows[groups == number] - self.places.starts[number])

    def facts(self, row: int) -> dict[str, Any]:
        """Return all values of one nucleus.

        Raises:
            InputError: there is no such row.
        """
        if not 0 <= row < self.count:
            raise InputError(f"There is no nucleus {row} in {self.file.path.name}.")
        one = next(self.nuclei(np.array([row])))
        facts: dict[str, Any] = {"id": int(one.ids[0]), "outline": one.coords_xy.tolist()}
        facts |= {name: _plain(values[0]) for name, values in one.features.items()}
        facts["score"] = _plain(one.scores[0])
        for name, names in self.names.items():
            facts[name] = names[int(self.column(name)[row])]
        return facts

    def select(self, filters: Filters, ring_xy: Float64 | None) -> Int64:
        """Return the rows that pass, and whose centre is inside the ring if given."""
        if ring_xy is None:
            rows = np.flatnonzero(self.mask(filters))
        else:
            low, high = ring_xy.min(axis=0), ring_xy.max(axis=0)
            box = (low[0], low[1], np.nextafter(high[0], np.inf), np.nextafter(high[1], np.inf))
            rows = self.inside(box, filters)
            rows = rows[within(ring_xy, self.places.centres_xy[rows])]
        return rows

    def histogram(self, rows: Int64, column: str) -> dict[str, Any]:
        """Return bin edges (k + 1,) over the `span` of the column, and the count per bin."""
        span = self.span(column)
        values = np.clip(self.column(column)[rows], *span)
        counts, edges = np.histogram(values, HISTOGRAM_BINS, span)
        return {"edges": edges.tolist(), "counts": counts.tolist()}

    def span(self, column: str) -> tuple[float, float]:
        """Return the range of a column without the rarest values at both ends."""
        if column in self.names:
            return 0.0, float(max(1, len(self.names[column]) - 1))
        values = self._known(column)
        if not len(values):
            return 0.0, 1.0
        low, high = np.quantile(values, (0.02, 0.98)).tolist()
        return (low, high) if high > low else (low - 0.5, low + 0.5)

    def _known(self, column: str) -> Float32:
        values = self.column(column)
        return values[np.isfinite(values)]

    def ends(self, column: str) -> tuple[float, float]:
        """Return the minimum and maximum of a column."""
        values = self._known(column)
        return (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)


def _plain(value: Any) -> float | None:  # noqa: ANN401
    return round(float(value), 4) if np.isfinite(value) else None

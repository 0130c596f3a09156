"""THE engine: the only way from pixels to nuclei.

`run` segments the work units of a source and passes each to a sink. An array, a file, a slide, the
page server, validation and a Dask worker differ only in the sink: `InMemory` keeps the units in
memory, `slides.unit_files.UnitFiles` writes them to disk. `merge` turns either into one table.

All computation is on the model's pixel grid (the working grid: the asked grid of
`readers.reader.Grid` at the model's mpp); results are in level-0 pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from nucleate.cards import ModelCard
from nucleate.features import RADIUS_UM, no_nuclei
from nucleate.geometry.outlines import centroids_xy
from nucleate.inference.backends import Model
from nucleate.inference.inputs import as_reader, frame_of, stain_transform
from nucleate.inference.ownership import Part, reaches_out
from nucleate.inference.pipeline import Done, EngineOptions, ahead, run_tiles, workers
from nucleate.inference.seams import SEAM_COLUMNS, merge
from nucleate.inference.tiling import plan
from nucleate.inference.units import Unit, plan_units
from nucleate.quality.tissue import Tissue
from nucleate.readers.reader import Reader
from nucleate.readers.source import Source
from nucleate.stain.normalise import Transform
from nucleate.types import Bool, Frame, Instances, Maps


@dataclass(frozen=True, slots=True)
class UnitNuclei:
    """The nuclei of one unit, in level-0 pixels; a nucleus on a seam may occur twice.

    Attributes:
        unit: the work unit.
        nuclei: its nuclei, with the columns `SEAM_COLUMNS`.
        on_seam: bool (n,), whether another tile may contain the nucleus too.
        lost: boxes in level-0 pixels that could not be read, and the reasons.
        ink: number of objects left out because they have the colour of ink.
        seconds: time for reading, the network, and decoding.
    """

    unit: Unit
    nuclei: Instances
    on_seam: Bool
    lost: list[dict[str, Any]]
    ink: int
    seconds: tuple[float, float, float]

    def seams(self) -> Instances:
        """Return the nuclei that another tile may contain too."""
        return self.nuclei.take(self.on_seam)

    def inside(self) -> Instances:
        """Return the nuclei that no other tile contains."""
        return self.nuclei.take(~self.on_seam)


class Sink(Protocol):
    """Consumer of segmented units."""

    def put(self, segmented: UnitNuclei) -> None:
        """Accept a unit; called in the order of the units, from one thread."""


class InMemory:
    """Sink that keeps units in memory.

    Attributes:
        units: the units received so far.
    """

    def __init__(self) -> None:
        self.units: list[UnitNuclei] = []

    def put(self, segmented: UnitNuclei) -> None:
        """Keep a unit."""
        self.units.append(segmented)

    @property
    def lost(self) -> list[dict[str, Any]]:
        """Boxes that could not be read, and the reasons."""
        return [entry for one in self.units for entry in one.lost]

    @property
    def ink(self) -> int:
        """Number of objects left out because they have the colour of ink."""
        return sum(one.ink for one in self.units)

    def nuclei(self, frame: Frame, class_names: tuple[str, ...]) -> tuple[Instances, int]:
        """Return all nuclei, each once, and the number that are larger than a tile."""
        merged = list(merge(self.units, frame, class_names))
        if not merged:
            return no_nuclei(frame, class_names), 0
        return (
            Instances.concatenate([one.nuclei for one in merged], frame),
            sum(one.cut for one in merged),
        )


def run(
    reader: Reader,
    model: Model,
    options: EngineOptions,
    sink: Sink,
    units: list[Unit] | None = None,
    tissue: Tissue | None = None,
    colours: Transform | None = None,
    tell: Callable[[Done], None] = lambda _: None,
) -> None:
    """Segment a source unit by unit and pass each unit to a sink.

    Args:
        reader: the source to segment.
        model: the model to run.
        options: tiling, threads and processes.
        sink: receives the units, in order.
        units: units to segment, from `plan_units`; None for all.
        tissue: area in which nuclei are kept; None for everywhere.
        colours: stain transform of the whole source, from `stain_transform`; None estimates it.
        tell: called with every finished tile.

    Raises:
        InputError: the source can no longer be read.
        NucleateError: any error of the sink.
    """
    if units is None:
        units = plan_units(reader, model.card, options, tissue)
    colours = colours or stain_transform(reader.source, model.card)
    tiles = (tile for unit in units for tile in unit.tiles)
    collect = _Collect(reader, model.card, tissue)
    with workers(options) as pools, ThreadPoolExecutor(1, "put") as pen:
        done = run_tiles(reader, model, tiles, options, colours, pools)
        blocks = ((unit, [_reported(next(done), tell) for _ in unit.tiles]) for unit in units)
        for _ in ahead(pen, lambda block: sink.put(collect(*block)), blocks, 2):
            pass


def _reported(done: Done, tell: Callable[[Done], None]) -> Done:
    tell(done)
    return done


@dataclass(frozen=True, slots=True)
class _Collect:
    """Combines the output of the tiles of a unit into one table."""

    reader: Reader
    card: ModelCard
    tissue: Tissue | None

    def __call__(self, unit: Unit, done: list[Done]) -> UnitNuclei:
        grid, frame = self.reader.grid(self.card.mpp), frame_of(self.reader)
        scale = grid.asked_per_level0
        emitted = [(i, d.part) for i, d in enumerate(done) if d.part is not None]
        working = Frame(grid.width, grid.height, self.card.mpp)
        nuclei = to_level0(
            Instances.concatenate([_with_seams(part, i) for i, part in emitted], working),
            frame,
            scale,
        )
        # another tile may contain nuclei within a halo of its core; neighbours are within a radius
        band = max(float(self.card.halo_px), RADIUS_UM / grid.mpp) + 16
        size = grid.width, grid.height
        on_seam = np.concatenate(
            [np.zeros(0, np.bool_)]
            + [
                reaches_out(part.nuclei.boxes_xyxy, done[i].tile.core, *size, band)
                for i, part in emitted
            ]
        )
        ink = 0
        if len(nuclei):
            inked = np.concatenate([part.ink for _, part in emitted])
            kept = np.ones(len(nuclei), np.bool_)
            if self.tissue is not None:
                kept = self.tissue.holds(centroids_xy(nuclei.coords_xy, nuclei.offsets))
            owned = nuclei.features["seam_depth"] >= 0  # by one tile only
            ink = int((inked & kept & owned).sum())
            nuclei, on_seam = nuclei.take(kept & ~inked), on_seam[kept & ~inked]
        if not len(nuclei):
            nuclei, on_seam = unmerged(frame, tuple(self.card.classes)), np.zeros(0, np.bool_)
        lost = [
            {"box": [v / scale for v in d.tile.core], "reason": d.error}
            for d in done
            if d.part is None
        ]
        read, network, decode = (sum(d.seconds[i] for d in done) for i in range(3))
        return UnitNuclei(unit, nuclei, on_seam, lost, ink, (read, network, decode))


def unmerged(frame: Frame, class_names: tuple[str, ...]) -> Instances:
    """Return an empty table with the columns that a unit has before `merge`."""
    later = ("neighbours_50um", "nearest_um")
    none = no_nuclei(frame, class_names)
    features = {name: column for name, column in none.features.items() if name not in later}
    seams = {name: np.zeros(0, np.float32) for name in SEAM_COLUMNS}
    return replace(none, features={**features, **seams})


def _with_seams(part: Part, tile: int) -> Instances:
    """Return the nuclei of a tile with the columns that `merge` needs."""
    values = np.full(len(part.depth), tile), part.depth, part.reaches, part.cut
    seams = {
        name: np.asarray(column, np.float32)
        for name, column in zip(SEAM_COLUMNS, values, strict=True)
    }
    return replace(part.nuclei, features={**part.nuclei.features, **seams})


def predict_maps(source: Source, model: Model, mpp: float | None = None) -> Maps:
    """Return the network's maps of a whole source as one tile, for tuning and validation.

    Maps may be larger than the source; the decoder crops them.
    """
    card = model.card
    reader = as_reader(source, card, mpp)
    grid = reader.grid(card.mpp)
    tile = plan(grid.width, grid.height, max(grid.width, grid.height) + card.align_px, 0,
                card.align_px)[0]  # fmt: skip
    maps = model.backend(reader.read(tile.read, card.mpp)[None])
    return {head: m[0] for head, m in maps.items()}


def to_level0(nuclei: Instances, frame: Frame, scale: float) -> Instances:
    """Return nuclei in level-0 pixels, clipped to the image where rounding exceeds it.

    Args:
        nuclei: nuclei in working pixels.
        frame: frame of level 0.
        scale: working pixels per level-0 pixel.
    """
    limit = np.array([frame.width, frame.height], np.float32)
    factor = np.float32(1 / scale)
    return replace(
        nuclei,
        coords_xy=np.clip(nuclei.coords_xy * factor, 0, limit),
        boxes_xyxy=np.clip(nuclei.boxes_xyxy * factor, 0, np.tile(limit, 2)),
        frame=frame,
    )

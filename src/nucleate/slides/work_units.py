"""A slide is worked on region by region; a finished region is a file, so that nothing is lost.

A region is a block of tiles. What its tiles find is stitched and written under a final name at
once; the edges, which the neighbours see too, stand in a row group of their own, so that seams can
be closed without reading the rest (`slides.merge_units`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nucleate.cards import ModelCard
from nucleate.errors import InputError
from nucleate.features import RADIUS_UM, no_nuclei
from nucleate.geometry.outlines import centroids_xy
from nucleate.inference.backends import Model
from nucleate.inference.engine import frame_of, stain_transform, to_level0
from nucleate.inference.merge import MARGIN_PX, Ground, stitch
from nucleate.inference.pipeline import Done, EngineOptions, ahead, run_tiles, workers
from nucleate.inference.tiling import Tile, plan
from nucleate.quality.tissue import Tissue
from nucleate.readers.reader import Grid, Reader
from nucleate.results.parquet import NucleiFile, open_nuclei, writer
from nucleate.stain.normalise import Transform
from nucleate.types import Bool, Float32, Frame, Instances

REGION_PX = 6144  # edge of a region, about, in working pixels


@dataclass(frozen=True, slots=True)
class Region:
    """A block of tiles.

    Attributes:
        row: of the grid of regions.
        column: likewise.
        core: the ground whose nuclei it owns, in level-0 pixels.
        margin: how far beyond that its nuclei may lie, in level-0 pixels.
        tiles: those of its tiles that see tissue.
    """

    row: int
    column: int
    core: Ground
    margin: float
    tiles: tuple[Tile, ...]

    @property
    def file(self) -> str:
        """Name of the file of the finished region."""
        return f"region-{self.row:04d}-{self.column:04d}.parquet"


@dataclass(frozen=True, slots=True)
class Finished:
    """What became of a region.

    Attributes:
        region: which one.
        nuclei: in its file.
        lost: how many of its tiles could not be read.
        seconds: spent on reading, in the network, on decoding, and on writing.
    """

    region: Region
    nuclei: int
    lost: int
    seconds: tuple[float, float, float, float]


def check_region(found: NucleiFile, digest: str) -> None:
    """Raise an `InputError` unless the file of a region is whole and of the job of `digest`."""
    facts = found.facts
    if facts.get("job_digest") != digest:
        raise InputError("begun differently")
    if not isinstance(facts.get("cut"), int) or not isinstance(facts.get("lost"), list):
        raise InputError("not a region")


def is_finished(path: Path, digest: str) -> bool:
    """Return whether a region is done, by this job, and with all of its tiles."""
    try:
        found = open_nuclei(path)
        check_region(found, digest)
    except InputError:
        return False
    return not found.facts["lost"]  # what could not be read may be readable now


def plan_regions(
    reader: Reader, card: ModelCard, options: EngineOptions, tissue: Tissue | None
) -> list[Region]:
    """Return the regions of a slide that hold tissue, row by row.

    Args:
        reader: what to segment.
        card: of the model.
        options: how to tile.
        tissue: where; None for everywhere.
    """
    grid = reader.grid(card.mpp)
    tiles = plan(grid.width, grid.height, options.tile_px, card.halo_px, card.align_px)
    across = max(1, REGION_PX // options.tile_px)
    lefts = {x: i // across for i, x in enumerate(sorted({t.core[0] for t in tiles}))}
    tops = {y: i // across for i, y in enumerate(sorted({t.core[1] for t in tiles}))}
    blocks: dict[tuple[int, int], list[Tile]] = {}
    for tile in tiles:
        blocks.setdefault((tops[tile.core[1]], lefts[tile.core[0]]), []).append(tile)
    regions = []
    for (row, column), block in sorted(blocks.items()):
        level0_per_px = 1 / grid.asked_per_level0
        seen = [t for t in block if tissue is None or tissue.touches(t.core, level0_per_px)]
        if seen:
            core = _core(block, grid, reader)
            margin = (MARGIN_PX + 2) * level0_per_px
            regions.append(Region(row, column, core, margin, tuple(seen)))
    return regions


def _core(block: list[Tile], grid: Grid, reader: Reader) -> Ground:
    """Return the ground of the tiles of a block; at the picture's edges it ends as the picture."""
    scale = grid.asked_per_level0
    right, bottom = max(t.core[2] for t in block), max(t.core[3] for t in block)
    return (
        min(t.core[0] for t in block) / scale,
        min(t.core[1] for t in block) / scale,
        reader.source.width if right == grid.width else right / scale,
        reader.source.height if bottom == grid.height else bottom / scale,
    )


def run_regions(
    reader: Reader,
    model: Model,
    regions: list[Region],
    tissue: Tissue | None,
    options: EngineOptions,
    folder: Path,
    digest: str,
    tell: Callable[[Done], None] = lambda _: None,
    colours: Transform | None = None,
) -> Iterator[Finished]:
    """Segment regions and write their files into `folder`.

    Args:
        reader: what to segment.
        model: with what.
        regions: which.
        tissue: where nuclei are kept; None for everywhere.
        options: how to tile.
        folder: for the files.
        digest: of the job, written into every file: regions of two jobs are never mixed.
        tell: is given every tile.
        colours: of the whole slide, from `stain_transform`; None estimates it.

    Raises:
        InputError: nothing can be read any more.
        OutputError: a file cannot be written.
    """
    colours = colours or stain_transform(reader.source, model.card)
    tiles = (tile for region in regions for tile in region.tiles)
    keeper = _Keeper(reader, model.card, tissue, folder, digest)
    with workers(options) as pools, ThreadPoolExecutor(1, "write") as pen:
        done = run_tiles(reader, model, tiles, options, colours, pools)
        blocks = ((region, [_told(next(done), tell) for _ in region.tiles]) for region in regions)
        yield from ahead(pen, keeper, blocks, 2)


def _told(done: Done, tell: Callable[[Done], None]) -> Done:
    tell(done)
    return done


@dataclass(frozen=True, slots=True)
class _Keeper:
    """Stitches a region and writes its file."""

    reader: Reader
    card: ModelCard
    tissue: Tissue | None
    folder: Path
    digest: str

    def __call__(self, block: tuple[Region, list[Done]]) -> Finished:
        begun = time.perf_counter()
        region, done = block
        frame, grid = frame_of(self.reader), self.reader.grid(self.card.mpp)
        joined, cut = stitch(
            [d.part for d in done if d.part is not None],
            Frame(grid.width, grid.height, self.card.mpp),
        )
        nuclei = to_level0(joined, frame, grid.asked_per_level0)
        if self.tissue is not None and len(nuclei):
            nuclei = nuclei.take(self.tissue.holds(centroids_xy(nuclei.coords_xy, nuclei.offsets)))
        band = edge_band(self.reader, self.card)
        edge = near_edge(nuclei.boxes_xyxy, region.core, frame, band)
        lost = [
            {"box": [v / grid.asked_per_level0 for v in d.tile.core], "reason": d.error}
            for d in done
            if d.part is None
        ]
        facts: dict[str, Any] = {"job_digest": self.digest, "lost": lost, "cut": cut}
        like = _unplaced(no_nuclei(frame, tuple(self.card.classes)))
        with writer(self.folder / region.file, like, facts) as out:
            for rows in (edge, ~edge):
                out.write(nuclei.take(rows) if len(nuclei) else like)
        seconds = [sum(d.seconds[i] for d in done) for i in range(3)]
        spent = time.perf_counter() - begun
        return Finished(region, len(nuclei), len(lost), (*seconds, spent))  # type: ignore[arg-type]


def _unplaced(nuclei: Instances) -> Instances:
    """Return nuclei without the features that need the other regions."""
    near = ("neighbours_50um", "nearest_um")
    return replace(nuclei, features={n: c for n, c in nuclei.features.items() if n not in near})


def edge_band(reader: Reader, card: ModelCard) -> float:
    """Return how far from its border a nucleus of one region can matter to another, in pixels."""
    return max(card.halo_px / reader.grid(card.mpp).asked_per_level0, RADIUS_UM / reader.mpp) + 16


def near_edge(boxes_xyxy: Float32, core: Ground, frame: Frame, band: float) -> Bool:
    """Return which boxes come within `band` of a border to another region.

    Example:
        >>> import numpy as np
        >>> box = np.array([[40, 40, 50, 50], [85, 40, 95, 50]], np.float32)
        >>> near_edge(box, (0, 0, 100, 100), Frame(200, 100), 10).tolist()
        [False, True]
    """
    x0, y0, x1, y1 = core
    near: Bool = (
        ((boxes_xyxy[:, 0] < x0 + band) & (x0 > 0))
        | ((boxes_xyxy[:, 1] < y0 + band) & (y0 > 0))
        | ((boxes_xyxy[:, 2] > x1 - band) & (x1 < frame.width))
        | ((boxes_xyxy[:, 3] > y1 - band) & (y1 < frame.height))
    )
    return near

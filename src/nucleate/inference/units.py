"""Plan the work units of a source: blocks of tiles, planned before anything is read.

Long runs resume unit by unit, clusters distribute units, and nuclei are ordered by unit.
"""

from __future__ import annotations

from dataclasses import dataclass

from nucleate.cards import ModelCard
from nucleate.inference.pipeline import EngineOptions
from nucleate.inference.tiling import Tile, plan
from nucleate.quality.tissue import Tissue
from nucleate.readers.reader import Reader

UNIT_PX = 6144  # approximate edge of a unit in working pixels


@dataclass(frozen=True, slots=True)
class Unit:
    """A block of tiles.

    Attributes:
        row: row in the grid of units.
        column: column in the grid of units.
        tiles: its tiles with tissue.
    """

    row: int
    column: int
    tiles: tuple[Tile, ...]

    @property
    def key(self) -> tuple[int, int]:
        """Row and column."""
        return self.row, self.column


def plan_units(
    reader: Reader, card: ModelCard, options: EngineOptions, tissue: Tissue | None
) -> list[Unit]:
    """Return the units of a source that contain tissue, row by row.

    Args:
        reader: the source to segment.
        card: model card.
        options: tile size.
        tissue: tissue area; None for everywhere.
    """
    grid = reader.grid(card.mpp)
    tile_px = options.tile_of(card)
    tiles = plan(grid.width, grid.height, tile_px, card.halo_px, card.align_px)
    across = max(1, UNIT_PX // tile_px)
    lefts = {x: i // across for i, x in enumerate(sorted({t.core[0] for t in tiles}))}
    tops = {y: i // across for i, y in enumerate(sorted({t.core[1] for t in tiles}))}
    level0_per_px = 1 / grid.asked_per_level0
    blocks: dict[tuple[int, int], list[Tile]] = {}
    for tile in tiles:
        if tissue is None or tissue.touches(tile.core, level0_per_px):
            blocks.setdefault((tops[tile.core[1]], lefts[tile.core[0]]), []).append(tile)
    return [Unit(*key, tuple(block)) for key, block in sorted(blocks.items())]

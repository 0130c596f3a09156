"""A source is segmented in work units: blocks of tiles, planned before anything is read.

A unit is what a long run resumes by, what a cluster spreads, and the order of the nuclei.
"""

from __future__ import annotations

from dataclasses import dataclass

from nucleate.cards import ModelCard
from nucleate.errors import pick
from nucleate.inference.pipeline import EngineOptions
from nucleate.inference.tiling import Tile, plan
from nucleate.postprocess import DECODERS
from nucleate.quality.tissue import Tissue
from nucleate.readers.reader import Reader

UNIT_PX = 6144  # edge of a unit, about, in working pixels


@dataclass(frozen=True, slots=True)
class Unit:
    """A block of tiles.

    Attributes:
        row: of the grid of units.
        column: likewise.
        tiles: those of its tiles that see tissue.
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
    """Return the units of a source that see tissue, row by row.

    Args:
        reader: what to segment.
        card: of the model.
        options: how to tile.
        tissue: where; None for everywhere.
    """
    grid = reader.grid(card.mpp)
    tile_px = min(options.tile_px, pick(DECODERS, card.decoder, "decoder").most_tile_px)
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

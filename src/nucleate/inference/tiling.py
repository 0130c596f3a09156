"""Plan which pixels a tile reads and which area it owns: integers only, no images.

read ┌───────────────────┐        core: the area that the tile owns; cores cover the image
     │  halo             │        halo: context, read but not owned
     │   ┌───────────┐   │        align: all origins and sizes are multiples of it,
     │   │   core    │   │               so that strides and attention windows of the
     │   └───────────┘   │               network fall on the same pixels in all tiles
     └───────────────────┘        at the image's edge there is no halo
"""

from __future__ import annotations

from dataclasses import dataclass

from nucleate.errors import ConfigError
from nucleate.readers.reader import PixelBox


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile of a plan, in pixels of the working grid.

    Attributes:
        core: the area whose nuclei the tile emits.
        read: the area it reads; may extend past the right and lower edge of the image.
    """

    core: PixelBox
    read: PixelBox


def plan(width: int, height: int, tile_px: int, halo_px: int, align_px: int) -> list[Tile]:
    """Return tiles whose cores cover an image exactly once, row by row.

    Args:
        width: image width in pixels, at least 1.
        height: image height in pixels, at least 1.
        tile_px: largest edge of a tile with halo; rounded down to a multiple of `align_px`.
        halo_px: context on each side; rounded up to a multiple of `align_px`.
        align_px: all origins and sizes are multiples of this.

    Raises:
        ConfigError: no core is left between the halos.

    Example:
        >>> [tile.core for tile in plan(100, 50, 64, 16, 16)]
        [(0, 0, 48, 50), (48, 0, 80, 50), (80, 0, 100, 50)]
        >>> plan(100, 50, 64, 16, 16)[1].read
        (32, 0, 96, 64)
    """
    tile = tile_px - tile_px % align_px
    halo = halo_px + -halo_px % align_px
    if tile <= 2 * halo:
        raise ConfigError(
            f"A tile of {tile_px} pixels leaves no core between two halos of {halo} pixels. "
            f"Choose at least {2 * halo + align_px} pixels."
        )
    columns = _spans(width, tile, halo, align_px)
    rows = _spans(height, tile, halo, align_px)
    return [
        Tile((x0, y0, x1, y1), (left, top, right, bottom))
        for y0, y1, top, bottom in rows
        for x0, x1, left, right in columns
    ]


def _spans(length: int, tile: int, halo: int, align: int) -> list[tuple[int, int, int, int]]:
    """Return (core start, core end, read start, read end) along one axis."""
    padded = length + -length % align
    if padded <= tile:
        return [(0, length, 0, padded)]
    spans = []
    start = 0
    while start < length:
        left = max(0, start - halo)
        right = min(padded, left + tile)
        end = length if right == padded else right - halo
        spans.append((start, end, left, right))
        start = end
    return spans

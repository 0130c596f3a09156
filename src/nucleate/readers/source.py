"""What a source of pixels is: size, resolution, levels, and regions that are read on demand."""

from __future__ import annotations

from typing import Protocol

from nucleate.errors import InputError
from nucleate.types import UInt8

REMEDY = "The file is damaged or is no slide: copy it again, or convert it to a tiled TIFF."


class RegionError(InputError):
    """One region of a slide cannot be read; others may be."""


def whole_ratio(edge: int, level_edge: int) -> float:
    """Return a downsample without what comes of sizes that were cut to whole pixels.

    Args:
        edge: of level 0, in pixels.
        level_edge: of the level.

    Example:
        >>> whole_ratio(10_000, 624), whole_ratio(10_000, 4_000), whole_ratio(9_000, 2_000)
        (16.0, 2.5, 4.5)
    """
    ratio = edge / level_edge
    whole = max(1, round(ratio))
    return float(whole) if abs(edge / whole - level_edge) < 1.5 else ratio


class Source(Protocol):
    """Pixels of one image at one or several resolutions (levels), on demand."""

    name: str
    width: int
    """Of level 0, in pixels, as all sizes and positions that are not said to be of a level."""
    height: int
    mpp: float | None
    origin_xy: tuple[int, int]
    """Where the corner of this image is in the file's level 0."""
    downsamples: tuple[float, ...]
    """Of each level: level-0 pixels per pixel; the first is 1."""
    level_sizes: tuple[tuple[int, int], ...]
    """Width and height of each level, in its pixels."""
    notes: tuple[str, ...]
    """What a user has to know about how it is read, a phrase each."""

    def read(self, x0: int, y0: int, x1: int, y1: int, level: int = 0) -> UInt8:
        """Return uint8 (y1 - y0, x1 - x0, 3) of a region that is inside a level, in its pixels.

        Raises:
            RegionError: this region cannot be read.
            InputError: nothing can be read any more.
        """
        ...


def notes_of(source: Source) -> tuple[str, ...]:
    """Return what a user has to know about how a source is read; nothing of a caller's own."""
    return tuple(getattr(source, "notes", ()))

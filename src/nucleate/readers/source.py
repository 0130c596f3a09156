"""The protocol of pixel sources: size, resolution, levels, and regions read on demand."""

from __future__ import annotations

from typing import Protocol

from nucleate.errors import InputError
from nucleate.types import UInt8

REMEDY = "The file is damaged or not a slide: copy it again, or convert it to a tiled TIFF."


class RegionError(InputError):
    """One region of a slide cannot be read; others may be."""


def whole_ratio(edge: int, level_edge: int) -> float:
    """Return the downsample of a level, corrected for sizes rounded to whole pixels.

    Args:
        edge: edge of level 0, in pixels.
        level_edge: edge of the level, in pixels.

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
    """Width of level 0 in pixels; sizes and positions are in level 0 unless stated otherwise."""
    height: int
    mpp: float | None
    origin_xy: tuple[int, int]
    """Position of the corner of this image in the file's level 0."""
    downsamples: tuple[float, ...]
    """Level-0 pixels per pixel of each level; the first is 1."""
    level_sizes: tuple[tuple[int, int], ...]
    """Width and height of each level, in its pixels."""
    notes: tuple[str, ...]
    """Warnings about how it is read, one phrase each."""

    def read(self, x0: int, y0: int, x1: int, y1: int, level: int = 0) -> UInt8:
        """Return a region inside a level, in its pixels: uint8 (y1 - y0, x1 - x0, 3).

        Raises:
            RegionError: this region cannot be read.
            InputError: the source can no longer be read.
        """
        ...


def notes_of(source: Source) -> tuple[str, ...]:
    """Return the warnings of a source; empty for a caller's own source without `notes`."""
    return tuple(getattr(source, "notes", ()))

"""Outlines → label images; how shared pixels are assigned."""

from __future__ import annotations

import numpy as np

from nucleate.annotations.doubts import misplaced, shared
from nucleate.drawing_report import DrawingReport
from nucleate.errors import InputError
from nucleate.files import PathLike
from nucleate.geometry.labels import compact
from nucleate.geometry.outlines import rasterise
from nucleate.types import Float64, Int32, Int64

MAX_BYTES = 1 << 30


def draw(outlines: tuple[Float64, Int64], shape: tuple[int, int]) -> Int32:
    """Draw outlines into a label image of `shape` (H, W); the earlier keeps shared pixels."""
    return rasterise(*outlines, shape)[0]


def draw_counted(
    outlines: tuple[Float64, Int64], shape: tuple[int, int], later_wins: bool = False
) -> tuple[Int32, Int64, DrawingReport]:
    """Draw outlines into a label image, and report on the drawing.

    Args:
        outlines: vertices and offsets.
        shape: (H, W).
        later_wins: give shared pixels to the later outline; by default the earlier keeps them.

    Returns:
        Labels int32 (H, W) 1..n without gaps; int64 (n,) the outline of each label; the report.

    Example:
        >>> squares = np.array([[0, 0], [2, 0], [2, 1], [0, 1], [1, 0], [3, 0], [3, 1], [1, 1.0]])
        >>> labels, owners, drawn = draw_counted((squares, np.array([0, 4, 8])), (1, 3))
        >>> labels.tolist(), drawn.contested_px
        ([[1, 1, 2]], 1)
    """
    coords, offsets = outlines
    count = len(offsets) - 1
    order = np.arange(count)[::-1] if later_wins else np.arange(count)
    if later_wins and count:
        coords = np.concatenate([coords[offsets[i] : offsets[i + 1]] for i in order])
        offsets = np.concatenate([[0], np.cumsum(np.diff(offsets)[order])]).astype(np.int64)
    drawn, contested = rasterise(coords, offsets, shape, order.astype(np.int64) + 1)
    labels, old = compact(drawn)
    outside, problems = misplaced(*outlines, shape)
    hidden = count - len(old) - outside
    problems += shared(count, hidden, contested, int((labels > 0).sum()))
    return (
        labels,
        old - 1,
        DrawingReport(count, contested, hidden, outside, problems=tuple(problems)),
    )


def finite(path: PathLike, outline: Float64) -> Float64:
    """Return an outline, or raise an `InputError` if an image cannot have its coordinates."""
    if not np.isfinite(outline).all() or np.abs(outline).max() > 1e7:
        raise InputError(
            f"{path}: an outline has impossible coordinates. Export it again, in pixels."
        )
    return outline


def ring_area(ring: Float64) -> float:
    """Return the area inside a ring of vertices, float64 (n, 2), in square pixels."""
    x, y = ring[:, 0], ring[:, 1]
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2.0


def ragged(outlines: list[Float64]) -> tuple[Float64, Int64]:
    """Concatenate outlines: vertices float64 (m, 2) and offsets int64 (n + 1,)."""
    counts = [len(outline) for outline in outlines]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return (np.concatenate(outlines) if outlines else np.zeros((0, 2))), offsets

"""Checks for doubtful annotations: wrong frame, regions among nuclei, masks as labels."""

from __future__ import annotations

import cv2
import numpy as np

from nucleate.geometry.labels import boxes_areas, compact
from nucleate.types import Bool, Float64, Int32, Int64

_PIECE_PX = 10  # smaller pieces of a label are specks of drawing
_SHARE = 0.1  # share of affected nuclei from which results are distorted
_REMEDY = "Export them in pixels of the image"
_CHANCE = 1e-3  # accepted chance that scattered nuclei leave the far side of an image empty


def misplaced(coords: Float64, offsets: Int64, shape: tuple[int, int]) -> tuple[int, list[str]]:
    """Count the outlines wholly outside an image, and describe errors of their coordinate frame.

    Args:
        coords: vertices float64 (m, 2) as (x, y) in pixels.
        offsets: int64 (n + 1,).
        shape: (H, W) of the image.

    Example:
        >>> square = np.array([[47000, 5], [47004, 5], [47004, 9]], np.float64)
        >>> misplaced(square, np.array([0, 3]), (100, 100))[0]
        1
    """
    count = len(offsets) - 1
    if not count:
        return 0, []
    height, width = shape
    low, high = _extents(coords, offsets)
    off = (high <= 0).any(1) | (low >= (width, height)).any(1)
    outside = int(off.sum())
    size = f"{width} × {height} image"
    if outside:
        first, last = low.min(0), high.max(0)
        where = f"x {first[0]:.0f} to {last[0]:.0f}, y {first[1]:.0f} to {last[1]:.0f}"
        why = "they have no pixels. Remove them, or export them with the image that they belong to"
        if outside > _SHARE * count:
            why = f"positions of a slide or of another level? {_REMEDY}"
        return outside, [
            f"{outside} of {count} outlines lie outside of the {size} ({where}): {why}"
        ]
    far = high.max(0)
    if far.max() <= 1 and min(shape) > 2:
        message = f"all outlines lie within the first pixel of the {size}: relative positions."
        return 0, [f"{message} {_REMEDY}"]
    beyond = (high > (width * 1.02 + 2, height * 1.02 + 2)).any(1) | (low < -2).any(1)
    if count > 1 and beyond.all():
        message = f"all {count} outlines extend beyond the {size}: another level or image?"
        return 0, [f"{message} {_REMEDY}"]
    ends = far / (width, height)
    if ends.max() < min(0.8, _CHANCE ** (1 / count)) and abs(ends[0] - ends[1]) < 0.1 * ends.max():
        message = (
            f"all {count} outlines are in the first {100 * ends[0]:.0f} % of the width and "
            f"{100 * ends[1]:.0f} % of the height of the {size}: micrometres, or pixels of another "
            "level?"
        )
        return 0, [f"{message} {_REMEDY}, or crop the image to the annotated area"]
    return 0, []


def shared(count: int, hidden: int, contested_px: int, drawn_px: int) -> list[str]:
    """Return the problems of outlines that cover each other.

    Example:
        >>> shared(100, 1, 20, 9000)
        []
    """
    found = []
    if hidden > _SHARE * count:
        found.append(
            f"{hidden} of {count} outlines have no pixel: they are under others, or "
            "are smaller than a pixel"
        )
    if contested_px > 0.3 * drawn_px and count > 2:
        found.append(
            f"{contested_px} of {drawn_px} annotated pixels are claimed by more than one outline: "
            "is one of them a region?"
        )
    return found


def surround(coords: Float64, offsets: Int64) -> Bool:
    """Return which outlines surround others and therefore mark regions, not nuclei.

    These have more than five times the median area and surround the centres of three others, or
    more than thirty times and surround one. Overlapping nuclei do not qualify.

    Args:
        coords: vertices float64 (m, 2) as (x, y).
        offsets: int64 (n + 1,).

    Returns:
        bool (n,).
    """
    count = len(offsets) - 1
    found = np.zeros(count, np.bool_)
    if count < 2:
        return found
    low, high = _extents(coords, offsets)
    sizes = areas_of(coords, offsets)
    middle, centres = np.median(sizes), (low + high) / 2
    for i in np.flatnonzero(sizes > 5 * middle):
        others = inside(coords[offsets[i] : offsets[i + 1]], np.delete(centres, i, 0)).sum()
        found[i] = others >= (1 if sizes[i] > 30 * middle else 3)
    return found


def inside(ring: Float64, points: Float64) -> Int64:
    """Return 1 for each point inside a ring, else 0, by the even-odd rule.

    Example:
        >>> square = np.array([[0, 0], [4, 0], [4, 4], [0, 4.0]])
        >>> inside(square, np.array([[1, 1], [9, 1.0]])).tolist()
        [1, 0]
    """
    odd = np.zeros(len(points), np.int64)
    near = np.flatnonzero(((points >= ring.min(0)) & (points <= ring.max(0))).all(1))
    x, y = points[near, 0], points[near, 1]
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, 0), strict=True):
        if y0 != y1:
            crossed = (y0 > y) != (y1 > y)
            odd[near] ^= crossed & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return odd


def are_boxes(coords: Float64, offsets: Int64) -> bool:
    """Return whether all outlines (at least five) are axis-aligned rectangles."""
    if len(offsets) < 6:
        return False
    low, high = _extents(coords, offsets)
    sides = (high - low).prod(1)
    return bool(np.isclose(areas_of(coords, offsets), sides, rtol=1e-6).all())


def doubtful_labels(labels: Int32) -> list[str]:
    """Return reasons to doubt that labels are nuclei: a mask, types, or ids used twice.

    Args:
        labels: int32 (H, W), 0 is background.

    Example:
        >>> mask = np.kron(np.array([[1, 0, 1, 0, 1]], np.int32), np.ones((4, 4), np.int32))
        >>> doubtful_labels(mask)
        ['one label in 3 pieces: a mask, not nuclei. Give each nucleus a separate number']
    """
    numbers, old = compact(labels)
    if not len(old):
        return []
    boxes, areas = boxes_areas(numbers, len(old))
    pieces = np.zeros(len(old), np.int64)
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        if areas[i] == (y1 - y0) * (x1 - x0):  # the label fills its box
            pieces[i] = 1
            continue
        mask = (numbers[y0:y1, x0:x1] == i + 1).view(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        pieces[i] = max(1, int((stats[1:, cv2.CC_STAT_AREA] >= _PIECE_PX).sum()))
    return _of_pieces(pieces) + _of_ground(labels, old, areas)


def _of_pieces(pieces: Int64) -> list[str]:
    many, total = pieces >= 3, int(pieces.sum())
    if many.any() and pieces[many].sum() >= 0.5 * total:
        labels = "one label" if len(pieces) == 1 else f"{len(pieces)} labels"
        kind = "a mask" if len(pieces) == 1 else "types or a mask"
        return [
            f"{labels} in {total} pieces: {kind}, not nuclei. Give each nucleus a separate number"
        ]
    several = int((pieces > 1).sum())
    if several >= 3 and several > _SHARE * len(pieces):
        message = f"{several} of {len(pieces)} labels are in several pieces: numbers used twice?"
        return [f"{message} Give each nucleus a separate number"]
    return []


def _of_ground(labels: Int32, old: Int64, areas: Int64) -> list[str]:
    largest = int(np.argmax(areas))
    if len(old) > 1 and areas[largest] > 0.5 * labels.size:
        share = 100 * areas[largest] / labels.size
        message = f"the label {old[largest]} covers {share:.0f} % of the image: the background,"
        return [f"{message} or a region? Background is 0"]
    return []


def _extents(coords: Float64, offsets: Int64) -> tuple[Float64, Float64]:
    """Return the lowest and the highest (x, y) of each outline, each float64 (n, 2)."""
    starts = offsets[:-1]
    return np.minimum.reduceat(coords, starts, 0), np.maximum.reduceat(coords, starts, 0)


def areas_of(coords: Float64, offsets: Int64) -> Float64:
    """Return the area of each outline, float64 (n,)."""
    local = coords - np.repeat(coords[offsets[:-1]], np.diff(offsets), 0)
    following = np.arange(1, len(local) + 1)
    following[offsets[1:] - 1] = offsets[:-1]
    after = local[following]
    cross = local[:, 0] * after[:, 1] - after[:, 0] * local[:, 1]
    return np.asarray(np.abs(np.add.reduceat(cross, offsets[:-1])) / 2, np.float64)

"""Label images: renumbering, boxes, pieces, flooding."""

from __future__ import annotations

import cv2
import numpy as np

from nucleate.geometry.runs import Runs, runs_of
from nucleate.types import Bool, Float32, Int32, Int64


def compact(labels: Int32) -> tuple[Int32, Int64]:
    """Renumber a label image to 1..n in ascending order of the old ids.

    Args:
        labels: int32 (H, W), 0 is background; ids may have gaps.

    Returns:
        The renumbered labels, and int64 (n,) the old id of each new label.

    Example:
        >>> new, old = compact(np.array([[0, 7], [3, 7]], np.int32))
        >>> new.tolist(), old.tolist()
        ([[0, 2], [1, 2]], [3, 7])
    """
    runs = runs_of(labels)
    old, new = np.unique(runs.labels, return_inverse=True)
    return runs.draw(new + 1, np.zeros(labels.shape, np.int32)), old.astype(np.int64)


def boxes_areas(labels: Int32, count: int) -> tuple[Int64, Int64]:
    """Measure the boxes and areas of the labels 1..count.

    Args:
        labels: int32 (H, W).
        count: the largest label.

    Returns:
        Boxes int64 (count, 4) as x0, y0, x1, y1 half-open, in pixels, and areas int64 (count,)
        in pixels. An absent label has area 0 and an inverted box.

    Example:
        >>> boxes, areas = boxes_areas(np.array([[0, 1], [0, 1]], np.int32), 1)
        >>> boxes.tolist(), areas.tolist()
        ([[1, 0, 2, 2]], [2])
    """
    runs = runs_of(labels)
    return runs.boxes(count), runs.areas(count)


def largest_pieces(labels: Int32) -> Int32:
    """Keep the largest 4-connected piece of every label, fill its holes, and renumber.

    Args:
        labels: int32 (H, W), 0 is background; ids may have gaps.

    Returns:
        int32 (H, W) with values 0..m, in the order of the old ids: every label is one piece, and
        its holes contain other labels at most.

    Example:
        >>> largest_pieces(np.array([[1, 0, 1, 1]], np.int32)).tolist()
        [[0, 0, 1, 1]]
    """
    return nuclei_of(runs_of(labels), labels.shape)


def nuclei_of(runs: Runs, shape: tuple[int, ...], min_area: float = 1.0) -> Int32:
    """Draw the largest 4-connected piece of every label of runs, without holes, if large enough.

    Args:
        runs: runs of an image of (H, W) pixels.
        shape: H, W.
        min_area: nuclei of fewer pixels are omitted.

    Returns:
        int32 (H, W) with values 0..m, as `largest_pieces` returns.

    Example:
        >>> runs = runs_of(np.array([[1, 0, 1, 1, 2]], np.int32))
        >>> nuclei_of(runs, (1, 5), min_area=2).tolist()
        [[0, 0, 1, 1, 0]]
    """
    runs = runs.largest_pieces()
    out = runs.draw(runs.labels, np.zeros(shape, np.int32))
    areas = runs.areas()
    y, x, around = _fill_holes(runs, areas, out)
    areas += np.bincount(around, minlength=len(areas) + 1)[1:]
    if (areas < min_area).any():
        enough = np.concatenate([[False], areas >= min_area])
        numbers = np.cumsum(enough) * enough
        runs.draw(numbers[runs.labels], out)
        out[y, x] = numbers[around]
    return out


def _fill_holes(runs: Runs, areas: Int64, out: Int32) -> tuple[Int64, Int64, Int64]:
    """Fill holes of background in `out`, which shows `runs`, whole pieces of `areas` pixels.

    Returns:
        y, x and label of each filled pixel.
    """
    found = [np.zeros((3, 0), np.int64)]
    holed, boxes = np.flatnonzero(runs.holes()), runs.boxes()
    for i in holed[np.argsort(areas[holed], kind="stable")]:  # inner rings first
        x0, y0, x1, y1 = boxes[i]
        window = out[y0:y1, x0:x1]
        ring = (window == i + 1).view(np.uint8)
        contours, _ = cv2.findContours(ring, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        filled = cv2.drawContours(np.zeros_like(ring), contours, -1, 1, thickness=-1)
        y, x = np.nonzero((filled > 0) & (window == 0))
        window[y, x] = i + 1
        found.append(np.stack([y + y0, x + x0, np.full(len(y), i + 1)]))
    y, x, around = np.concatenate(found, axis=1)
    return y, x, around


def peaks(heights: Float32, runs: Runs, rise: float, least: int) -> Runs:
    """Label the peaks of heights, among the pixels of some runs.

    Each 8-connected piece is a peak, unless it contains several peaks that rise by at least `rise`
    above the pass between them, with at least `least` pixels above it. Then each of these is a
    peak down to the pass, and the pixels below it are no peak's.

    Args:
        heights: float32 (H, W) in 0..1, compared in 256 levels.
        runs: runs of the pixels.
        rise: 0 to 1; 1 separates no peaks.
        least: pixels.

    Returns:
        Runs labelled 1..n, without those of no peak.

    References:
        Grimaud 1992, A new measure of contrast: the dynamics, doi:10.1117/12.60650.

    Example:
        >>> heights = np.array([[0.9, 0.5, 0.7, 0.5, 0.6]], np.float32)
        >>> found = peaks(heights, runs_of(heights > 0), rise=0.15, least=1)
        >>> found.labels.tolist(), found.lengths.tolist()
        ([1, 2], [1, 1])
        >>> peaks(heights, runs_of(heights > 0), rise=0.3, least=1).lengths.tolist()
        [5]
    """
    from nucleate.geometry.kernels import runs as _kernels

    pieces = runs.pieces(diagonal=True)
    if rise >= 1:
        return pieces
    levels = max(1, round(255 * rise))
    labels = _kernels.peaks(
        heights, runs.starts, runs.ends, pieces.labels, runs.wide, levels, max(1, least)
    )
    return runs.split(labels)


def flood(heights: Float32, markers: Runs, mask: Runs) -> Runs:
    """Flood from markers inside a mask, in 256 levels from high to low: watershed by markers.

    Args:
        heights: float32 (H, W) in 0..1.
        markers: runs of the markers, all inside the mask.
        mask: runs of the pixels to flood.

    Returns:
        Runs with the labels of the markers; pixels that no marker reaches are background.

    References:
        Meyer 1994, doi:10.1016/0165-1684(94)90060-4.

    Example:
        >>> heights = np.array([[1.0, 0.8, 0.5, 0.8, 1.0]], np.float32)
        >>> markers = runs_of(np.array([[1, 0, 0, 0, 2]], np.int32))
        >>> flooded = flood(heights, markers, runs_of(heights > 0))
        >>> flooded.labels.tolist(), flooded.lengths.tolist()
        ([1, 2], [3, 2])
    """
    from nucleate.geometry.kernels import runs as _kernels

    labels = _kernels.flood(
        heights,
        mask.starts,
        mask.ends,
        mask.pieces().labels,
        markers.starts,
        markers.ends,
        markers.labels,
        mask.wide,
    )
    return mask.split(labels)


def distance_inside(mask: Bool) -> Float32:
    """Compute the Euclidean distance of each True pixel to the nearest False one, in pixels.

    Distances between pixel centres; 0 on False pixels; a huge number without any False pixel. The
    squared distance is an integer and is rounded to it, because OpenCV's last bit depends on the
    memory address of the array and would make two runs of one training differ.

    Example:
        >>> distance_inside(np.array([[False, True, True]])).tolist()
        [[0.0, 1.0, 2.0]]
    """
    far = cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    squares = np.rint(np.square(far.astype(np.float64)))
    return np.asarray(np.sqrt(squares), np.float32)


def grown(labels: Int32, by_px: float) -> Int32:
    """Move the edges of labels outwards by `by_px` pixels, or inwards if negative.

    The edge of a label runs half a pixel outside its outermost centres. The signed distance to it
    is smoothed over a pixel, so fractions have an effect: half a pixel is added on about half of
    the rim. Where two labels grow into each other, a pixel goes to the nearer; no label takes
    another's pixels, and none vanishes, as its innermost pixels stay.

    Args:
        labels: int32 (H, W), 0 is background.
        by_px: distance in pixels.

    Example:
        >>> square = np.pad(np.full((6, 6), 5, np.int32), 4)  # its corners become round
        >>> [int((grown(square, by) > 0).sum()) for by in (-1, 0, 1)]
        [12, 36, 60]
    """
    if by_px == 0:
        return labels
    numbers, old = compact(labels)
    boxes, _ = boxes_areas(numbers, len(old))
    height, width = labels.shape
    margin = int(np.ceil(max(by_px, 0.0))) + 3
    out = labels.copy() if by_px > 0 else np.zeros_like(labels)
    best = np.full(labels.shape, -np.inf, np.float32)  # depth of each pixel inside its label
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        rows = slice(max(0, y0 - margin), min(height, y1 + margin))
        columns = slice(max(0, x0 - margin), min(width, x1 + margin))
        mask = numbers[rows, columns] == i + 1
        # a nucleus may continue beyond the image, so the border is not its edge
        inside = cv2.GaussianBlur(
            signed_distance(mask), (0, 0), 1.0, borderType=cv2.BORDER_REPLICATE
        )
        deepest = mask & (inside >= inside[mask].max())
        taken = (inside >= -by_px) | deepest
        if by_px > 0:
            taken &= (numbers[rows, columns] == 0) & (inside > best[rows, columns])
        else:
            taken &= mask
        best[rows, columns][taken] = inside[taken]
        out[rows, columns][taken] = old[i]
    return out


def signed_distance(mask: Bool, precise: bool = True) -> Float32:
    """Return the distance to the edge of a mask, in pixels: above 0 inside, below 0 outside.

    The edge runs half a pixel from the centres. A mask without an edge gives a huge distance.

    Args:
        mask: bool (H, W).
        precise: exact Euclidean distance; if false, within 2 %, in a tenth of the time.

    Example:
        >>> signed_distance(np.array([[False, True, True]])).tolist()
        [[-0.5, 0.5, 1.5]]
    """
    kind = cv2.DIST_MASK_PRECISE if precise else cv2.DIST_MASK_5
    inside = cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, kind)
    outside = cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, kind)
    far = np.minimum(inside, 1e6) - np.minimum(outside, 1e6)
    return np.asarray(np.where(mask, far - 0.5, far + 0.5), np.float32)

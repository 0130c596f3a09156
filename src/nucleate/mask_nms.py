"""Boxes with small masks → nuclei: mask non-maximum suppression, highest score first."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from nucleate.geometry.labels import largest_pieces
from nucleate.types import Bool, Float32, Int16, Int32, Maps

INSTANCES = "instances"  # the head whose output is OUTPUTS instead of a map
OUTPUTS = ("boxes", "scores", "masks")  # (n, 4), (n,), (n, m, m)
MIN_SCORE = 0.01  # default minimum score of a detection
MOST_TILE_PX = 1536  # the network finds a limited number of nuclei per tile


@dataclass(frozen=True, slots=True)
class Layer:
    """Decoded nuclei that do not overlap; overlapping nuclei are in different layers.

    Attributes:
        labels: int32 (H, W), 0 background, 1..n without gaps, each nucleus one 4-connected piece.
        scores: float32 (n,), 0 to 1.
        classes: int16 (n,).
    """

    labels: Int32
    scores: Float32
    classes: Int16


def mask_nms(maps: Maps, thresholds: dict[str, float], shape: tuple[int, int]) -> list[Layer]:
    """Draw detections, highest score first, and suppress duplicates.

    A nucleus is the largest piece of its mask, with holes filled. It is dropped if its score is not
    above `score`, if it has fewer than `min_area` pixels, or if nuclei of higher score cover more
    than the share `overlap` of its pixels. Nuclei that overlap less are kept whole, in separate
    layers.

    Args:
        maps: `boxes` float32 (n, 4), x0, y0, x1, y1 in pixels; `scores` (n,), 0 to 1; `masks`
            (n, m, m), 0 to 1, each stretched over its box.
        thresholds: `score`, `mask` (for pixels of a mask), `overlap`, `min_area`.
        shape: (H, W) of the image; masks are clipped to it.

    Returns:
        At least one layer.

    References:
        He et al. 2017, doi:10.1109/ICCV.2017.322 (masks in boxes).

    Example:
        >>> maps = {
        ...     "boxes": np.array([[0, 0, 2, 1], [1, 0, 4, 1]], np.float32),
        ...     "scores": np.array([0.6, 0.9], np.float32),
        ...     "masks": np.ones((2, 28, 28), np.float32),
        ... }
        >>> layers = mask_nms(maps, dict(score=0.5, mask=0.5, overlap=0.5, min_area=1), (1, 4))
        >>> [layer.labels.tolist() for layer in layers]
        [[[0, 1, 1, 1]], [[1, 1, 0, 0]]]
    """
    scores = maps["scores"]
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] > thresholds["score"]]
    drawn: list[Int32] = [np.zeros(shape, np.int32)]
    found: list[list[float]] = [[]]
    for i in order:
        mask, left, top = _paste(maps["boxes"][i], maps["masks"][i], thresholds["mask"], shape)
        area = int(mask.sum())
        if area < max(1, thresholds["min_area"]):
            continue
        window = slice(top, top + mask.shape[0]), slice(left, left + mask.shape[1])
        taken = [(layer[window] > 0) & mask for layer in drawn]
        if np.any(taken, axis=0).sum() > thresholds["overlap"] * area:
            continue
        free = next((k for k, pixels in enumerate(taken) if not pixels.any()), len(drawn))
        if free == len(drawn):
            drawn.append(np.zeros(shape, np.int32))
            found.append([])
        found[free].append(float(scores[i]))
        drawn[free][window][mask] = len(found[free])
    return [
        Layer(labels, np.array(held, np.float32), np.zeros(len(held), np.int16))
        for labels, held in zip(drawn, found, strict=True)
    ]


def _paste(
    box: Float32, mask: Float32, threshold: float, shape: tuple[int, int]
) -> tuple[Bool, int, int]:
    """Return the mask of a nucleus within its box, and the left and top of that window.

    The mask is interpolated at pixel centres and falls to 0 within half a cell beyond its outermost
    centres, so a mask that fills its box gives the box.
    """
    (x0, y0, x1, y1), (height, width) = box.astype(np.float64), shape
    if not np.isfinite(box).all() or x1 - x0 < 1e-3 or y1 - y0 < 1e-3:
        return np.zeros((0, 0), np.bool_), 0, 0
    left, right = (int(np.clip(f(x), 0, width)) for f, x in ((np.floor, x0), (np.ceil, x1)))
    top, bottom = (int(np.clip(f(y), 0, height)) for f, y in ((np.floor, y0), (np.ceil, y1)))
    if right <= left or bottom <= top:
        return np.zeros((0, 0), np.bool_), 0, 0
    drawn = spread(box, mask, (left, top, right, bottom))
    piece = largest_pieces((drawn >= threshold).astype(np.int32))
    return piece > 0, left, top


def spread(box: Float32, mask: Float32, window: tuple[int, int, int, int]) -> Float32:
    """Resample a mask, which fills its box, to the pixels of a window: float32 (h, w), 0 outside.

    Args:
        box: x0, y0, x1, y1 in pixels, not empty.
        mask: float32 (m, m), 0 to 1.
        window: left, top, right, bottom in whole pixels.

    Example:
        >>> spread(np.array([1, 0, 3, 1]), np.ones((4, 4), np.float32), (0, 0, 4, 1)).tolist()
        [[0.0, 1.0, 1.0, 0.0]]
    """
    (x0, y0, x1, y1), (left, top, right, bottom) = box.astype(np.float64), window
    rows, columns = mask.shape
    step_x, step_y = columns / (x1 - x0), rows / (y1 - y0)
    # pixel c of the window has its centre at left + c + 0.5, cell k of the mask at k + 0.5
    to_mask = np.array(
        [
            [step_x, 0, (left + 0.5 - x0) * step_x - 0.5],
            [0, step_y, (top + 0.5 - y0) * step_y - 0.5],
        ]
    )
    return cv2.warpAffine(  # type: ignore[no-any-return]
        mask,
        to_mask,
        (right - left, bottom - top),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0,
    )

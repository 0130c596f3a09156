"""The only resampling: training and inference get the same pixels at every resolution."""

from __future__ import annotations

import cv2
import numpy as np

from nucleate.types import Float64, UInt8

FINER = cv2.INTER_CUBIC  # benchmarks/resampling.py compares it with others


def resample(
    image: UInt8, scale_xy: tuple[float, float], start_xy: tuple[float, float],
    size: tuple[int, int],
) -> UInt8:  # fmt: skip
    """Resample part of an image to another pixel grid.

    For a coarser grid the image is blurred by a Gaussian against aliasing, then interpolated
    linearly. For a finer one it is interpolated cubically, as linear interpolation would blur
    details. Pixels at the border are repeated: pass a margin of `margin_px` on each side.

    Args:
        image: uint8 (H, W, 3).
        scale_xy: pixels of the result per pixel of the image, along x and y.
        start_xy: position of the result's corner, in pixels of the image.
        size: (width, height) of the result.

    Returns:
        uint8 (height, width, 3). Its pixel (c, r) has its centre at
        `start_xy + (c + 0.5, r + 0.5) / scale_xy`.

    Example:
        >>> grey = np.full((4, 4, 3), 7, np.uint8)
        >>> resample(grey, (0.5, 0.5), (0, 0), (2, 2))[..., 0].tolist()
        [[7, 7], [7, 7]]
    """
    blur_x, blur_y = (_blur(scale) for scale in scale_xy)
    if max(blur_x, blur_y) > 0.1:
        image = cv2.GaussianBlur(image, (0, 0), max(blur_x, 0.01), sigmaY=max(blur_y, 0.01))
    (scale_x, scale_y), (left, top) = scale_xy, start_xy
    shift = left + 0.5 / scale_x - 0.5, top + 0.5 / scale_y - 0.5
    matrix: Float64 = np.array([[1 / scale_x, 0, shift[0]], [0, 1 / scale_y, shift[1]]], np.float64)
    finer = scale_x > 1 and scale_y > 1
    return cv2.warpAffine(  # type: ignore[no-any-return]
        image, matrix, size,
        flags=(FINER if finer else cv2.INTER_LINEAR) | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip


def margin_px(scale: float) -> int:
    """Return how far around a region its resampled pixels depend on, in pixels of the image.

    Example:
        >>> margin_px(2.0), margin_px(0.5)
        (2, 6)
    """
    return 2 + int(np.ceil(4 * _blur(scale)))


def _blur(scale: float) -> float:
    return 0.5 * float(np.sqrt(max(1 / scale**2 - 1, 0.0)))

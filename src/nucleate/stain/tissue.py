"""Which pixels are stained tissue: not glass, not pen, not the black outside of a scan."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nucleate.types import Bool, UInt8

TISSUE_DENSITY = 0.15  # sum of the three optical densities, natural logarithm; below it is glass
_SAMPLE = 1 << 16  # pixels that are enough to know an image's colours
_DENSITY = -np.log(np.maximum(np.arange(256), 1) / 255.0).astype(np.float32)


def tissue_mask(image: UInt8) -> Bool:
    """Return True on stained tissue.

    Glass has an optical density (sum of the three channels, natural logarithm) below 0.15. H&E
    passes more red than green; green, cyan and blue pens do not. Black pen, and the outside of a
    scan, are darker than any nucleus and without colour; red pen keeps no blue and no green.

    Args:
        image: uint8 (..., 3), RGB.

    Returns:
        bool (...).

    Example:
        >>> nucleus, glass, green_pen, black = [110, 80, 150], [250] * 3, [20, 120, 60], [9] * 3
        >>> tissue_mask(np.array([nucleus, glass, green_pen, black], np.uint8)).tolist()
        [True, False, False, False]
    """
    red, green, blue = (image[..., c].astype(np.int16) for c in range(3))
    density = _DENSITY[image[..., 0]] + _DENSITY[image[..., 1]] + _DENSITY[image[..., 2]]
    brightest = np.maximum(np.maximum(red, green), blue)
    pen = (red < green - 4) | ((red > 140) & (blue < 60) & (green < 60))
    black = brightest < 35
    return np.asarray((density > TISSUE_DENSITY) & ~pen & ~black)


def sample_pixels(image: UInt8) -> UInt8:
    """Return every k-th pixel of every k-th row, uint8 (n, 3): about 65,000 where there are more.

    Example:
        >>> sample_pixels(np.zeros((1024, 1024, 3), np.uint8)).shape
        (65536, 3)
    """
    step = max(1, int((image.shape[0] * image.shape[1] / _SAMPLE) ** 0.5))
    return np.ascontiguousarray(image[::step, ::step]).reshape(-1, 3)


def is_coloured(pixels: NDArray[np.uint8]) -> bool:
    """Return whether pixels (n, 3) have colours at all: a grey picture holds no stains.

    Example:
        >>> is_coloured(np.array([[90, 90, 90], [200, 201, 200]], np.uint8))
        False
    """
    spread = pixels.max(axis=1).astype(np.int16) - pixels.min(axis=1)
    return bool(np.percentile(spread, 95) >= 8) if len(pixels) else False

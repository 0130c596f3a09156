"""Classify pixels as stained tissue, as opposed to glass, pen, or the black outside a scan."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nucleate.stain.deconvolution import OD_OF_BYTE
from nucleate.types import Bool, Float32, UInt8

_PALE = 0.15  # sum of the three optical densities (natural logarithm) below which a pixel is glass
_DARK = 1.0  # sum above which a pixel is not glass, even if grey
_COLOURLESS = 0.05  # density difference of two channels: glass under a dim lamp is grey
_ONSET = 0.1  # width of the transition from glass to tissue
_SAMPLE = 110_000  # pixels that determine an image's colours to a grey level


def tissue_mask(image: UInt8) -> Bool:
    """Return which pixels are stained tissue.

    Glass absorbs little, or, under a dim lamp, all colours equally. H&E transmits more red than
    green; green, cyan and blue pens do not. Black pen and the outside of a scan are darker than any
    nucleus; red pen transmits neither blue nor green.

    Args:
        image: uint8 (..., 3), RGB.

    Returns:
        bool (...).

    Example:
        >>> nucleus, glass, pen, black = [110, 80, 150], [223, 227, 230], [20, 120, 60], [9] * 3
        >>> tissue_mask(np.array([nucleus, glass, pen, black], np.uint8)).tolist()
        [True, False, False, False]
    """
    return np.asarray((stainedness(OD_OF_BYTE[image]) > 0.5) & (penned(image) < 0.5))


def penned(colours: UInt8 | Float32) -> Float32:
    """Return the degree to which colours are pen, or the black outside a scan: 0 no, 1 yes.

    Args:
        colours: (..., 3), RGB, 0 to 255.

    Returns:
        float32 (...).

    Example:
        >>> penned(np.array([[110, 80, 150], [20, 120, 60], [0, 0, 0], [200, 20, 20]])).tolist()
        [0.0, 1.0, 1.0, 1.0]
    """
    red, green, blue = (colours[..., c].astype(np.float32) for c in range(3))
    brightest = np.maximum(np.maximum(red, green), blue)
    cold = _ramp(green - red, 0.0, 10.0)
    warm = _ramp(red, 120.0, 40.0) * _ramp(80 - np.maximum(green, blue), 0.0, 40.0)
    black = _ramp(45 - brightest, 0.0, 20.0)
    return np.asarray(np.maximum(np.maximum(cold, warm), black), np.float32)


def stainedness(density: Float32) -> Float32:
    """Return the degree to which colours are stained: 0 glass, 1 stained, smooth in between.

    Args:
        density: float32 (..., 3), optical densities of red, green and blue.

    Returns:
        float32 (...).

    Example:
        >>> stainedness(np.array([[0.0, 0.0, 0.0], [0.3, 0.7, 0.4]], np.float32)).tolist()
        [0.0, 1.0]
    """
    red, green, blue = density[..., 0], density[..., 1], density[..., 2]
    total = red + green + blue
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    coloured = _ramp(spread, _COLOURLESS - _ONSET / 4, _ONSET / 2)
    dark = _ramp(total, _DARK - _ONSET, 2 * _ONSET)
    absorbing = _ramp(total, _PALE - _ONSET / 2, _ONSET)
    return np.asarray(absorbing * np.maximum(coloured, dark), np.float32)


def _ramp(values: Float32, begin: float, width: float) -> Float32:
    """Return 0 below `begin`, 1 from `begin + width` on, and a smooth step in between."""
    at = np.clip((values - np.float32(begin)) / np.float32(width), 0, 1)
    return np.asarray(at * at * (3 - 2 * at), np.float32)


def sample_pixels(image: UInt8) -> UInt8:
    """Return every k-th pixel of every k-th row, uint8 (n, 3): 110,000 or a little more.

    Example:
        >>> sample_pixels(np.zeros((1024, 1024, 3), np.uint8)).shape
        (116964, 3)
    """
    step = max(1, int((image.shape[0] * image.shape[1] / _SAMPLE) ** 0.5))
    return np.ascontiguousarray(image[::step, ::step]).reshape(-1, 3)


def is_coloured(pixels: NDArray[np.uint8]) -> bool:
    """Return whether pixels (n, 3) are coloured: a grey image contains no stains.

    Example:
        >>> is_coloured(np.array([[90, 90, 90], [200, 201, 200]], np.uint8))
        False
    """
    red, green, blue = pixels[:, 0], pixels[:, 1], pixels[:, 2]
    most, least = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    return bool(np.percentile(most - least, 95) >= 8) if len(pixels) else False

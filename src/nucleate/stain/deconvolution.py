"""RGB ⇄ optical density ⇄ amounts of haematoxylin, eosin and residual (Ruifrok and Johnston)."""

from __future__ import annotations

import cv2
import numpy as np

from nucleate.types import Float32, UInt8

# Rows: optical density per channel (red, green, blue) of haematoxylin, eosin and DAB (as the
# residual), as published; rows are normalised to length 1.
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], np.float64)
STAINS_TO_OD = (_STAINS / np.linalg.norm(_STAINS, axis=1, keepdims=True)).astype(np.float32)
OD_TO_STAINS = np.linalg.inv(STAINS_TO_OD.astype(np.float64)).astype(np.float32)

# Optical density of each 8-bit value, natural logarithm; 0 counts as 1 to stay finite.
OD_OF_BYTE = -np.log(np.maximum(np.arange(256), 1) / 255.0).astype(np.float32)

# 8-bit value of each optical density, in fine steps until no light is left.
_PER_DENSITY = 1024.0
_LIGHT = np.rint(255 * np.exp(-np.arange(6.5 * _PER_DENSITY) / _PER_DENSITY)).astype(np.uint8)


def to_stains(image: UInt8) -> Float32:
    """Return the amounts of haematoxylin, eosin and residual in optical density.

    Args:
        image: uint8 (H, W, 3), RGB.

    Returns:
        float32 (H, W, 3); 0 on white. Negative amounts occur off the plane of the two stains.

    References:
        Ruifrok and Johnston 2001, Quantification of histochemical staining by color
        deconvolution, Anal Quant Cytol Histol 23(4):291-299.

    Example:
        >>> bool(np.all(to_stains(np.full((1, 1, 3), 255, np.uint8)) == 0))
        True
    """
    return cv2.transform(OD_OF_BYTE[image], OD_TO_STAINS.T)  # type: ignore[no-any-return]


def from_stains(stains: Float32) -> UInt8:
    """Return the RGB image of stain amounts: the inverse of `to_stains`, clipped to 0..255.

    Example:
        >>> image = np.array([[[120, 60, 150]]], np.uint8)
        >>> from_stains(to_stains(image)).tolist()
        [[[120, 60, 150]]]
    """
    density = cv2.transform(stains, STAINS_TO_OD.T)
    light = cv2.exp(-density) * 255.0
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)  # type: ignore[no-any-return]


def restained(image: UInt8, factor: Float32, shift: Float32) -> UInt8:
    """Scale and shift the amounts of haematoxylin, eosin and residual of an image.

    Equals `from_stains(to_stains(image) * factor + shift)` to one grey level, in one pass: the
    three steps are one matrix on optical densities, and light is looked up in steps of 1/1024.

    Args:
        image: uint8 (H, W, 3), RGB.
        factor: float32 (3,), multiplies each amount.
        shift: float32 (3,), added to each amount, in optical density.

    Example:
        >>> image = np.array([[[120, 60, 150]]], np.uint8)
        >>> restained(image, np.ones(3, np.float32), np.zeros(3, np.float32)).tolist()
        [[[120, 60, 150]]]
    """
    from nucleate.geometry.kernels import colours as _kernels

    matrix = (OD_TO_STAINS * factor) @ STAINS_TO_OD
    return _kernels.mix(  # type: ignore[no-any-return]
        np.ascontiguousarray(image), OD_OF_BYTE, matrix, shift @ STAINS_TO_OD, _LIGHT, _PER_DENSITY
    )

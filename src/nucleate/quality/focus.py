"""Check whether an image is in focus."""

from __future__ import annotations

import cv2
import numpy as np

from nucleate.stain.deconvolution import OD_OF_BYTE
from nucleate.types import UInt8

_SIGMAS_UM = (0.25, 0.5, 1.0)
_BLURRED = -2.75  # 312 annotated images have at least -2.5; blurred by 1 um, at most -2.9
_COARSEST_MPP = 0.6  # coarser pixels do not resolve the measured structures
_FLAT = 1e-5  # variance of the optical density below which there is no structure


def sharpness(images: list[UInt8], mpp: float) -> float | None:
    """Return the energy of structures of 0.5 um relative to those of 1 um, as log2.

    The optical density is blurred by Gaussians of 0.25, 0.5 and 1 um; the energies are those of
    the differences between the first two and between the last two.

    Args:
        images: uint8 (h, w, 3), parts of one image.
        mpp: micrometres per pixel.

    Returns:
        About -1 for a sharp scan, below -2.75 out of focus; None if undefined: pixels above
        0.6 um, or no structure.

    Example:
        >>> noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
        >>> blurred = cv2.GaussianBlur(noise, (0, 0), 4)
        >>> sharpness([noise], 0.25) > sharpness([blurred], 0.25)
        True
    """
    if mpp > _COARSEST_MPP:
        return None
    fine = coarse = 0.0
    for image in images:
        density = OD_OF_BYTE[cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)]
        steps = [cv2.GaussianBlur(density, (0, 0), max(s / mpp, 0.3)) for s in _SIGMAS_UM]
        fine += float(np.square(steps[0] - steps[1]).sum())
        coarse += float(np.square(steps[1] - steps[2]).sum())
    pixels = sum(image.shape[0] * image.shape[1] for image in images)
    if not pixels or coarse / pixels < _FLAT:
        return None
    return float(np.log2(max(fine, 1e-9) / coarse))


def is_blurred(images: list[UInt8], mpp: float) -> bool:
    """Return whether an image is out of focus.

    Example:
        >>> is_blurred([np.full((64, 64, 3), 200, np.uint8)], 0.25)
        False
    """
    found = sharpness(images, mpp)
    return found is not None and found < _BLURRED

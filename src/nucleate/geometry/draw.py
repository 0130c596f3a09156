"""Outlines drawn on images, and the palette for it."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from nucleate.types import Instances, UInt8

OUTLINE_RGB = (255, 225, 0)  # yellow: the opposite of purple, with any colour vision
CLASS_RGB = (  # Okabe and Ito: told apart with any colour vision
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233),
    (240, 228, 66),
)  # fmt: skip


def draw_outlines(
    image: UInt8,
    nuclei: Instances,
    colour: tuple[int, int, int] | None = None,
    thickness: int = 1,
) -> UInt8:
    """Return a copy of the image with all outlines drawn on it.

    Args:
        image: uint8 (H, W, 3) of the size of `nuclei.frame`.
        nuclei: what to draw.
        colour: RGB of all; None takes one per type.
        thickness: of a line, in pixels.
    """
    canvas = image.copy()
    if len(nuclei):
        fine = np.rint((nuclei.coords_xy - 0.5) * 16).astype(np.int32)  # 4 bits below the pixel
        rings = np.split(fine, nuclei.offsets[1:-1])
        for kind in range(len(nuclei.class_names)):
            mine = [rings[row] for row in np.flatnonzero(nuclei.classes == kind)]
            chosen = colour or class_colour(nuclei, kind)
            cv2.polylines(canvas, mine, True, chosen, thickness, cv2.LINE_AA, shift=4)
    return canvas


def enlarge(image: UInt8, nuclei: Instances, factor: int) -> tuple[UInt8, Instances]:
    """Return an image and its nuclei on a grid that is finer by a whole factor.

    Args:
        image: uint8 (H, W, 3).
        nuclei: in its pixels.
        factor: 1 or more.
    """
    large = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    return large, replace(nuclei, coords_xy=nuclei.coords_xy * np.float32(factor))


def class_colour(nuclei: Instances, kind: int) -> tuple[int, int, int]:
    """Return the colour of a class; yellow where there is only one."""
    return OUTLINE_RGB if len(nuclei.class_names) == 1 else CLASS_RGB[kind % len(CLASS_RGB)]

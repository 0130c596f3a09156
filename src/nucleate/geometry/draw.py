"""Draw outlines on images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nucleate.geometry.palette import Rgb, class_colour
from nucleate.types import Instances, UInt8


def draw_rings(
    canvas: UInt8,
    rings_xy: Sequence[NDArray[np.floating[Any]]],
    colour: Rgb,
    thickness: int = 1,
    fill: bool = False,
) -> None:
    """Draw closed outlines into an image, with a precision of 1/16 pixel.

    Args:
        canvas: uint8 (H, W, 3), changed in place.
        rings_xy: vertices (n, 2) of each outline, corner origin.
        colour: RGB of all outlines.
        thickness: line thickness, in pixels.
        fill: fill the outlines instead.

    Example:
        >>> from nucleate.geometry.palette import SKY
        >>> canvas = np.zeros((5, 5, 3), np.uint8)
        >>> draw_rings(canvas, [np.array([[0.5, 0.5], [4.5, 0.5], [4.5, 4.5], [0.5, 4.5]])], SKY)
        >>> canvas[2, 2].any().item(), canvas[2, 4].any().item()
        (False, True)
    """
    fine = [np.rint((ring - 0.5) * 16).astype(np.int32) for ring in rings_xy]  # 4 fractional bits
    if fill:
        cv2.fillPoly(canvas, fine, colour, cv2.LINE_AA, shift=4)
    else:
        cv2.polylines(canvas, fine, True, colour, thickness, cv2.LINE_AA, shift=4)


def draw_outlines(
    image: UInt8,
    nuclei: Instances,
    colour: Rgb | None = None,
    thickness: int = 1,
) -> UInt8:
    """Draw all outlines on a copy of an image.

    Args:
        image: uint8 (H, W, 3) of the size of `nuclei.frame`.
        nuclei: nuclei to draw.
        colour: RGB of all outlines; None uses one colour per type.
        thickness: line thickness, in pixels.
    """
    canvas = image.copy()
    if len(nuclei):
        rings = np.split(nuclei.coords_xy, nuclei.offsets[1:-1])
        for kind in range(len(nuclei.class_names)):
            mine = [rings[row] for row in np.flatnonzero(nuclei.classes == kind)]
            draw_rings(canvas, mine, colour or class_colour(nuclei, kind), thickness)
    return canvas


def enlarge(image: UInt8, nuclei: Instances, factor: int) -> tuple[UInt8, Instances]:
    """Enlarge an image and its nuclei by a whole factor.

    Args:
        image: uint8 (H, W, 3).
        nuclei: in pixels of the image.
        factor: 1 or more.
    """
    large = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    return large, replace(nuclei, coords_xy=nuclei.coords_xy * np.float32(factor))

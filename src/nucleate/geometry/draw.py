"""Outlines drawn on images, and the palette of all colours with a meaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nucleate.types import Instances, UInt8

Rgb = tuple[int, int, int]

# Okabe and Ito: distinguishable with any colour vision, on pink and purple too
BLACK: Rgb = (0, 0, 0)
ORANGE: Rgb = (230, 159, 0)
SKY: Rgb = (86, 180, 233)
GREEN: Rgb = (0, 158, 115)
YELLOW: Rgb = (240, 228, 66)
BLUE: Rgb = (0, 114, 178)
VERMILION: Rgb = (213, 94, 0)
PINK: Rgb = (204, 121, 167)

OUTLINE_RGB: Rgb = (255, 225, 0)  # on tissue: contrasts with purple for any colour vision
OUTLINE_ON_WHITE_RGB = GREEN  # without an image below
CLASS_RGB = (BLUE, VERMILION, GREEN, PINK, ORANGE, SKY, YELLOW)
OUTCOME_RGB: dict[str, Rgb] = {  # of true nuclei and predictions, see `metrics.nucleus_errors`
    "matched": YELLOW,
    "merged": GREEN,
    "split": SKY,
    "inaccurate": (255, 255, 255),
    "missed": VERMILION,
    "part": BLUE,
    "spurious": BLACK,
}
# scale for continuous values: cividis, doi:10.1371/journal.pone.0199239
SCALE_RGB: tuple[Rgb, ...] = (
    (0, 34, 78), (18, 53, 112), (59, 73, 108), (87, 93, 109), (112, 113, 115), (138, 134, 120),
    (165, 156, 116), (195, 179, 105), (225, 204, 85), (253, 231, 55),
)  # fmt: skip


def web_colour(rgb: Rgb) -> str:
    """Return a colour in the hexadecimal form of web pages, matplotlib and napari.

    Example:
        >>> web_colour(BLUE)
        '#0072b2'
    """
    return "#{:02x}{:02x}{:02x}".format(*rgb)


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


def class_colour(nuclei: Instances, kind: int) -> Rgb:
    """Return the colour of a class; yellow if there is only one."""
    return OUTLINE_RGB if len(nuclei.class_names) == 1 else CLASS_RGB[kind % len(CLASS_RGB)]

"""The palette: every colour with a meaning, for images, pages and plots."""

from __future__ import annotations

from nucleate.types import Instances

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


def class_colour(nuclei: Instances, kind: int) -> Rgb:
    """Return the colour of a class; yellow if there is only one."""
    return OUTLINE_RGB if len(nuclei.class_names) == 1 else CLASS_RGB[kind % len(CLASS_RGB)]

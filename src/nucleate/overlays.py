"""True and predicted outlines on one picture, coloured by what went wrong."""

from __future__ import annotations

import cv2
import numpy as np

from nucleate.labels import compact, trace
from nucleate.metrics.errors import PRED_FATES, TRUTH_FATES, fates
from nucleate.metrics.matching import overlap
from nucleate.types import Bool, Int32, UInt8

# The palette of Okabe and Ito, told apart with any colour vision, on pink and purple.
COLOURS: dict[str, tuple[int, int, int]] = {
    "matched": (240, 228, 66),
    "merged": (0, 158, 115),
    "split": (86, 180, 233),
    "inaccurate": (255, 255, 255),
    "missed": (213, 94, 0),
    "spurious": (0, 0, 0),
}


def outlined(
    image: UInt8, truth: Int32, pred: Int32, ignore: Bool | None = None, thickness: int = 1
) -> UInt8:
    """Return the picture with the outlines of all true nuclei, and of what was predicted wrongly.

    True outlines take the colour of their fate (`metrics.errors`); predictions are thin and grey,
    spurious ones black.

    Args:
        image: uint8 (H, W, 3), RGB.
        truth: int32 (H, W), 0 background.
        pred: int32 (H, W), 0 background.
        ignore: bool (H, W); what lies there has no fate.
        thickness: of the true outlines, in pixels; the predicted ones are thin.

    Returns:
        uint8 (H, W, 3).
    """
    if ignore is not None:
        truth, pred = np.where(ignore, 0, truth), np.where(ignore, 0, pred)
    truth, pred = compact(np.ascontiguousarray(truth))[0], compact(np.ascontiguousarray(pred))[0]
    found = fates(overlap(truth, pred))
    canvas = np.ascontiguousarray(image).copy()
    grey = (190, 190, 190)
    spurious = PRED_FATES.index("spurious")
    thin = [COLOURS["spurious"] if f == spurious else grey for f in found.pred]
    _draw(canvas, pred, thin, 1)
    _draw(canvas, truth, [COLOURS[TRUTH_FATES[f]] for f in found.truth], thickness)
    return canvas


def _draw(
    canvas: UInt8, labels: Int32, colours: list[tuple[int, int, int]], thickness: int
) -> None:
    coords, offsets, _ = trace(labels)
    fine = np.rint((coords - 0.5) * 16).astype(np.int32)  # 4 bits below the pixel
    for i, colour in enumerate(colours):
        ring = fine[offsets[i] : offsets[i + 1]]
        cv2.polylines(canvas, [ring], True, colour, thickness, cv2.LINE_AA, shift=4)

"""True and predicted outlines on one image, coloured by outcome; and nuclei one by one."""

from __future__ import annotations

import cv2
import numpy as np

from nucleate.evaluation.metrics.matching import overlap
from nucleate.evaluation.metrics.nucleus_errors import PRED_OUTCOMES, TRUTH_OUTCOMES, outcomes
from nucleate.geometry.draw import draw_rings
from nucleate.geometry.labels import compact
from nucleate.geometry.outlines import trace
from nucleate.geometry.palette import OUTCOME_RGB, Rgb
from nucleate.types import Bool, Instances, Int32, UInt8

Window = tuple[slice, slice]  # rows and columns
_WHOLE: Window = (slice(None), slice(None))


def outlined(
    image: UInt8,
    truth: Int32,
    pred: Int32,
    ignore: Bool | None = None,
    window: Window = _WHOLE,
    times: int = 1,
) -> UInt8:
    """Draw the outlines of all true and predicted nuclei on an image, or on a window of it.

    True outlines have the colour of their outcome (`metrics.nucleus_errors`) in the whole image;
    predictions are thin and grey, spurious ones black.

    Args:
        image: uint8 (H, W, 3), RGB.
        truth: int32 (H, W), 0 background.
        pred: int32 (H, W), 0 background.
        ignore: bool (H, W); nuclei in it have no outcome.
        window: rows and columns to draw.
        times: enlargement factor, and thickness of true outlines.

    Returns:
        uint8 (times · h, times · w, 3), for a window of h × w.
    """
    if ignore is not None:
        truth, pred = np.where(ignore, 0, truth), np.where(ignore, 0, pred)
    truth, pred = compact(np.ascontiguousarray(truth))[0], compact(np.ascontiguousarray(pred))[0]
    found = outcomes(overlap(truth, pred))
    canvas = np.ascontiguousarray(image[window]).copy()
    if times > 1:
        canvas = cv2.resize(canvas, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC)
    spurious = PRED_OUTCOMES.index("spurious")
    grey = (190, 190, 190)
    thin = [OUTCOME_RGB["spurious"] if f == spurious else grey for f in found.pred]
    _draw(canvas, pred[window], thin, times, 1)
    _draw(
        canvas, truth[window], [OUTCOME_RGB[TRUTH_OUTCOMES[f]] for f in found.truth], times, times
    )
    return canvas


def coloured(image: UInt8, nuclei: Instances) -> UInt8:
    """Tint and outline each nucleus in a separate colour, and draw its box.

    Args:
        image: uint8 (H, W, 3), RGB, of the size of `nuclei.frame`.
        nuclei: nuclei to draw; they may overlap.
    """
    canvas = image.copy()
    if not len(nuclei):
        return canvas
    hues = (np.arange(len(nuclei)) * 0.618034 % 1 * 180).astype(np.uint8)  # golden ratio: far apart
    colours = cv2.cvtColor(
        np.stack([hues, np.full_like(hues, 220), np.full_like(hues, 255)], -1)[None],
        cv2.COLOR_HSV2RGB,
    )[0]
    for row, colour in enumerate(colours.tolist()):
        box = nuclei.boxes_xyxy[row]
        size = np.array(canvas.shape[1::-1])
        x0, y0 = np.clip(np.floor(box[:2]), 0, size - 1).astype(int).tolist()
        x1, y1 = np.clip(np.ceil(box[2:]), (x0 + 1, y0 + 1), size).astype(int).tolist()
        window = canvas[y0:y1, x0:x1]
        ring = nuclei.outline(row) - np.array([x0, y0], np.float32)
        tint = window.copy()
        draw_rings(tint, [ring], colour, fill=True)
        window[:] = cv2.addWeighted(window, 0.6, tint, 0.4, 0)
        draw_rings(window, [ring], colour)
        cv2.rectangle(canvas, (x0, y0), (x1 - 1, y1 - 1), colour, 1)
    return canvas


def _draw(
    canvas: UInt8,
    labels: Int32,
    colours: list[Rgb],
    times: int,
    thickness: int,
) -> None:
    """Outline each label in its colour, on a canvas `times` as large as the labels."""
    shown, ids = compact(np.ascontiguousarray(labels))
    coords, offsets, _ = trace(shown)
    for row, number in enumerate(ids):
        ring = coords[offsets[row] : offsets[row + 1]] * np.float32(times)
        draw_rings(canvas, [ring], colours[int(number) - 1], thickness)

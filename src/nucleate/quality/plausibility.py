"""Check the plausibility of an image; each doubt has a reason and a remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from nucleate.quality.calibration import CALIBRATION
from nucleate.quality.colours import is_exchanged, other_stain, some
from nucleate.quality.focus import is_blurred
from nucleate.quality.glimpse import Window, whole
from nucleate.quality.scale import FEWEST, octaves_off
from nucleate.stain.tissue import tissue_mask
from nucleate.types import Bool, Instances, Int32, UInt8

KINDS = ("scale", "exchanged", "stain", "focus", "nothing")
_ROOM_MM2 = 0.05  # area of tissue that always contains at least five nuclei
_ON_TISSUE = 0.5  # minimum fraction of the pixels in nuclei that are tissue
_EVERY, _FOUND_PX = 4, 12  # subsampling of rows and columns; number of pixels needed


@dataclass(frozen=True, slots=True)
class Doubt:
    """An implausible property of an image.

    Attributes:
        kind: one of `KINDS`.
        reason: explanation and remedy, for users.
    """

    kind: str
    reason: str


def doubts_of(windows: list[Window], nuclei: Instances, mpp: float, mm2: float) -> list[Doubt]:
    """Return doubts about an image and the nuclei found in it.

    Args:
        windows: windows of the image, from `glimpse`.
        nuclei: nuclei in level-0 pixels; without feature columns their scale is not checked.
        mpp: stated micrometres per level-0 pixel.
        mm2: area in which nuclei were searched.

    Example:
        >>> from nucleate.types import Frame
        >>> windows = whole(np.full((64, 64, 3), 255, np.uint8))[0]
        >>> doubts_of(windows, Instances.empty(Frame(64, 64)), 0.25, 1.0)
        []
    """
    inside = [window.inside(nuclei) for window in windows]
    found = _of_pixels([window.pixels for window in windows], inside, mpp, annotated=False)
    if not {"stain", "exchanged", "nothing"} & {doubt.kind for doubt in found}:
        found += _of_scale(windows, nuclei, mpp, mm2)
    return found


def doubts_about_sample(image: UInt8, labels: Int32 | None, mpp: float | None) -> list[Doubt]:
    """Return doubts about an annotated image, whose labels may be None.

    Example:
        >>> doubts_about_sample(np.full((64, 64, 3), 255, np.uint8), None, 0.25)
        []
    """
    windows, inside = whole(image, labels)
    images = [window.pixels for window in windows]
    return _of_pixels(images, inside, mpp, annotated=labels is not None)


def _of_pixels(
    images: list[UInt8], inside: list[Bool], mpp: float | None, *, annotated: bool
) -> list[Doubt]:
    """Return doubts about the colours, the focus and the positions of the nuclei."""
    if not images:
        return []
    found = []
    nothing = "" if annotated else _on_nothing(images, inside)
    stain = other_stain(images)
    if nothing:
        found.append(Doubt("nothing", nothing))
    if stain:
        found.append(Doubt("stain", stain))
    if not found and is_exchanged(images, inside, mpp or 0.25, annotated):
        found.append(Doubt("exchanged", EXCHANGED))
    if mpp is not None and is_blurred(images if annotated else some(images), mpp):
        found.append(
            Doubt("focus", "out of focus, or coarser than its mpp: no structure below 1 um")
        )
    return found


EXCHANGED = (
    "red and blue look exchanged: brown nuclei on blue. Write the image again with its channels in "
    "the order RGB; for a data set, set the option channels=bgr"
)


def _on_nothing(images: Iterable[UInt8], inside: Iterable[Bool]) -> str:
    """Return a message if most pixels in nuclei are ink or glass; else an empty text."""
    pairs = zip(images, inside, strict=True)
    pixels = np.concatenate([i[::_EVERY, ::_EVERY][m[::_EVERY, ::_EVERY]] for i, m in pairs])
    if len(pixels) < _FOUND_PX or int(tissue_mask(pixels).sum()) >= _ON_TISSUE * len(pixels):
        return ""
    return "most nuclei found are on ink, glass or black, not on tissue"


def _of_scale(windows: list[Window], nuclei: Instances, mpp: float, mm2: float) -> list[Doubt]:
    """Return a doubt if the nuclei do not fit the stated mpp."""
    off = octaves_off(nuclei, mm2)
    if off is not None and abs(off) >= CALIBRATION.scale_least:
        size = "large" if off > 0 else "small"
        median = float(np.median(nuclei.features["area_um2"]))
        reason = (
            f"{mpp:.3g} um/px looks too {size}: {len(nuclei)} nuclei with a median area of "
            f"{median:.0f} um² suggest {mpp / 2**off:.2g} um/px. See segment --suggest-mpp"
        )
        return [Doubt("scale", reason)]
    if len(nuclei) >= FEWEST:
        return []
    stained = sum(int(tissue_mask(window.pixels).sum()) for window in windows)
    pixels = sum(window.pixels.shape[0] * window.pixels.shape[1] for window in windows)
    tissue_mm2 = mm2 * stained / max(1, pixels)
    if tissue_mm2 > _ROOM_MM2:
        reason = (
            f"{len(nuclei)} nuclei in {tissue_mm2:.2g} mm² of tissue: {mpp:.3g} um/px may be "
            "wrong. See segment --suggest-mpp"
        )
        return [Doubt("scale", reason)]
    return []

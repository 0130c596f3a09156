"""Check whether the colours of an image are those of haematoxylin and eosin."""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np

from nucleate.quality.calibration import CALIBRATION
from nucleate.stain.deconvolution import OD_OF_BYTE
from nucleate.stain.tissue import is_coloured
from nucleate.types import Bool, Float32, Float64, UInt8

Array = TypeVar("Array", UInt8, Bool)

_STAINED = 0.3  # sum of the three optical densities above which a pixel is evaluated
_OPAQUE = 3.0  # optical density of the least absorbing channel above which a pixel is black
_FEWEST = 50  # pixels needed for a judgement
_DARK_SHARE, _DARK_BYTE = 0.5, 40  # fraction and brightness of dark pixels: fluorescence
_EMPTY_BYTE = 2.0  # standard deviation of an image without content
_BROWN_SHARE = 0.12  # fraction of stained pixels that absorb blue most: DAB
_LEAST_GREEN = 0.30  # fraction of green in the density of H&E: haematoxylin 0.43, eosin 0.85
_RING_UM = 1.5
_SAMPLE = 10_000  # pixels sampled to judge the stain
_PARTS, _PART_PX = 3, 192  # parts checked for exchanged channels if a model found the nuclei


def other_stain(images: list[UInt8]) -> str:
    """Return why an image cannot be stained with H&E; empty if it can.

    H&E absorbs green most; haematoxylin absorbs nearly as much red, eosin hardly any. DAB absorbs
    blue most. Fluorescence is bright on black.

    Example:
        >>> grey = np.random.default_rng(0).integers(0, 256, (64, 64, 1)).astype(np.uint8)
        >>> other_stain([np.repeat(grey, 3, axis=2)])
        'the image is grey: it shows no haematoxylin or eosin'
    """
    every = [image[::2, ::2].reshape(-1, 3) for image in images]
    step = max(1, sum(map(len, every)) // _SAMPLE)
    pixels = np.concatenate([some[::step] for some in every])
    if float(pixels.std()) <= _EMPTY_BYTE:
        return ""
    brightest = np.maximum.reduce(np.split(pixels, 3, axis=1))
    if float((brightest < _DARK_BYTE).mean()) > _DARK_SHARE:
        return "most of the image is black, as in fluorescence: it shows no haematoxylin or eosin"
    density = OD_OF_BYTE[pixels]
    total = density @ np.ones(3, np.float32)
    seen = (total > _STAINED) & (np.minimum.reduce(density.T) < _OPAQUE)
    if int(seen.sum()) < _FEWEST:
        return ""
    if not is_coloured(pixels[seen]):
        return "the image is grey: it shows no haematoxylin or eosin"
    red, green, blue = density[seen].T
    brown = (blue > 1.1 * green) & (blue > 1.3 * red)
    if float(brown.mean()) > _BROWN_SHARE:
        return "the image is brown, as with DAB: the model is made for haematoxylin and eosin"
    if float(green.sum() / total[seen].sum()) < _LEAST_GREEN:
        return "the colours are not those of haematoxylin and eosin"
    return ""


def exchange_facts(images: list[UInt8], inside: list[Bool], mpp: float) -> Float64 | None:
    """Return features that show whether red and blue are exchanged; None if too little is stained.

    Blue nuclei on pink absorb more red and less blue than their surroundings; brown nuclei on blue
    do the opposite.

    Args:
        images: uint8 (h, w, 3), parts of one image.
        inside: bool (h, w) for each image, which pixels are in nuclei.
        mpp: micrometres per pixel.

    Returns:
        Three features whose sign flips with the channels: the correlation of the hue (red minus
        blue, relative) with the density; the difference in spread of red and blue relative to
        green; the slope of red minus blue over the density, for structures below 10 um. Then, for
        nuclei against the ring of 1.5 um around them: red minus blue, relative; the same as a
        difference of logarithms; the density.

    Example:
        >>> exchange_facts([np.full((9, 9, 3), 255, np.uint8)], [np.zeros((9, 9), bool)], 1) is None
        True
    """
    stained, fine, nuclei, rings = [], [], [], []
    for image, mask in zip(images, inside, strict=True):
        density = cv2.blur(cv2.LUT(image, OD_OF_BYTE), (3, 3))
        mask = np.ascontiguousarray(mask)
        red, green, blue = cv2.split(density)  # ten times as fast as numpy's sum over the last axis
        total = red + green + blue
        seen = (total > _STAINED) & (cv2.min(cv2.min(red, green), blue) < _OPAQUE)
        size = [max(1, round(edge * min(1.0, mpp / 2))) for edge in density.shape[1::-1]]
        small = cv2.resize(density, size, interpolation=cv2.INTER_AREA)
        smooth = cv2.GaussianBlur(small, (0, 0), 5.0 / max(mpp, 2.0))
        around = cv2.resize(smooth, density.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        stained.append(_pixels(density[::2, ::2], seen[::2, ::2]))
        fine.append(_pixels((density - around)[::2, ::2], seen[::2, ::2]))
        reach = 2 * max(1, round(_RING_UM / mpp)) + 1
        grown = cv2.dilate(mask.view(np.uint8), np.ones((reach, reach), np.uint8)) > 0
        nuclei.append(_pixels(density, mask))
        rings.append(_pixels(density, grown & ~mask & (total > _STAINED / 2)))
    seen_density = np.concatenate(stained)
    if len(seen_density) < _FEWEST:
        return None
    general = _general(seen_density, np.concatenate(fine))
    return np.array([*general, *_of_nuclei(np.concatenate(nuclei), np.concatenate(rings))])


def _pixels(density: Float32, which: Bool) -> Float32:
    """Return `density[which]`, in a fifth of the time."""
    return density.reshape(-1, 3).take(np.flatnonzero(which), axis=0)


def _general(density: Float32, fine: Float32) -> tuple[float, float, float]:
    """Return the first three features of `exchange_facts`."""
    red, green, blue = np.ascontiguousarray(density.T)
    total = red + green + blue
    hue, spread = (red - blue) / total, total.std() + 1e-6
    correlation = float(np.mean((hue - hue.mean()) * (total - total.mean())))
    correlation /= float(hue.std() + 1e-6) * float(spread)
    spreads = float((red / (red + green + 1e-6)).std() - (blue / (blue + green + 1e-6)).std())
    detail = fine @ np.ones(3, np.float32)
    detail = detail - detail.mean()
    slope = float(np.mean(detail * (fine[:, 0] - fine[:, 2])) / (np.mean(detail**2) + 1e-4))
    return correlation, spreads, slope


def _of_nuclei(nuclei: Float32, rings: Float32) -> tuple[float, float, float]:
    """Return the last three features of `exchange_facts`; 0 without nuclei."""
    if not len(nuclei) or not len(rings):
        return 0.0, 0.0, 0.0
    within, around = (
        np.maximum(
            np.full(len(pixels), 1 / len(pixels), np.float32) @ pixels, 1e-3
        )  # faster than mean
        for pixels in (nuclei, rings)
    )
    more = within - around
    share = float((more[0] - more[2]) / max(float(more.sum()), 0.05))
    logs = float(np.log(within[0] / within[2]) - np.log(around[0] / around[2]))
    return (
        float(np.clip(share, -0.5, 0.5)),
        float(np.clip(logs, -0.6, 0.6)),
        float(np.clip(more.sum(), 0, 2)),
    )


def is_exchanged(
    images: list[UInt8], inside: list[Bool], mpp: float, annotated: bool = False
) -> bool:
    """Return whether red and blue are exchanged.

    Args:
        images: uint8 (h, w, 3), parts of one image.
        inside: bool (h, w) for each image, which pixels are in nuclei.
        mpp: micrometres per pixel.
        annotated: whether the nuclei were annotated by people; then only they are used. With
            exchanged colours a model finds false nuclei, so the whole image is used as well.

    Example:
        >>> is_exchanged([np.full((9, 9, 3), 255, np.uint8)], [np.zeros((9, 9), bool)], 1.0)
        False
    """
    if not annotated:  # keep it fast: `segment` checks every image
        images, inside = some(images), some(inside)
    facts = exchange_facts(images, inside, mpp)
    if facts is None:
        return False
    if annotated and facts[5] > 0:
        return bool(facts[3] < 0)
    return CALIBRATION.exchange(facts) > CALIBRATION.exchange_least


def some(parts: list[Array]) -> list[Array]:
    """Return the middle of at most three parts of an image.

    Example:
        >>> [part.shape for part in some([np.zeros((300, 9), np.uint8)] * 9)]
        [(192, 9), (192, 9), (192, 9)]
    """
    chosen = parts[:: max(1, -(-len(parts) // _PARTS))]
    corners = [[max(0, (edge - _PART_PX) // 2) for edge in part.shape[:2]] for part in chosen]
    return [
        part[y : y + _PART_PX, x : x + _PART_PX]
        for part, (y, x) in zip(chosen, corners, strict=True)
    ]

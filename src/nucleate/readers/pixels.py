"""Convert stored pixels to upright 8-bit RGB: depth, opacity, colour space, orientation.

Pixels are converted in strips of rows, in place if possible: memory may have room for an image of
10,000 squared once, but not three times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nucleate.errors import InputError
from nucleate.readers.colour_spaces import from_profile
from nucleate.types import UInt8

_STRIP = 1 << 18  # pixels converted at a time
_DEPTHS = (8, 10, 12, 14, 16)


@dataclass(frozen=True, slots=True)
class Stored:
    """A decoded image with the metadata of its file.

    Attributes:
        pixels: (H, W) or (H, W, C).
        mpp: micrometres per pixel, None if the file states none.
        orientation: 1 to 8, as in EXIF and TIFF.
        bits: significant bits of each value; None if the file does not state it.
        premultiplied: whether the colours are premultiplied by the opacity.
        notes: warnings for the user, one phrase each.
        owned: whether the pixels may be overwritten.
        profile: ICC profile to apply; None if there is none.
    """

    pixels: NDArray[np.generic]
    mpp: float | None = None
    orientation: int = 1
    bits: int | None = None
    premultiplied: bool = False
    notes: tuple[str, ...] = ()
    owned: bool = True
    profile: object = None


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return an upright view of an image.

    Args:
        pixels: (H, W) or (H, W, C), as stored.
        orientation: tag 274 of EXIF and TIFF, 1 to 8; any other value is treated as 1.

    Example:
        >>> upright(np.array([[1, 2]]), 6).tolist(), upright(np.array([[1, 2]]), 3).tolist()
        ([[1], [2]], [[2, 1]])
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def to_rgb(owner: object, stored: Stored) -> tuple[UInt8, tuple[str, ...]]:
    """Convert stored pixels to upright uint8 (H, W, 3); return them with notes.

    Raises:
        InputError: the image is grey, or has other channels or another type.
    """
    pixels, notes = stored.pixels, list(stored.notes)
    _check(owner, pixels)
    if pixels.dtype == np.uint8 and pixels.shape[2] == 3:
        rgb = np.asarray(pixels, np.uint8)
    else:
        depth = 8
        if pixels.dtype == np.uint16:
            depth, note = _depth(pixels, stored.bits)
            notes += [note] if note else []
        opaque = pixels.shape[2] == 4 and not pixels[..., 3].any() and bool(pixels.size)
        if opaque:
            notes.append("its opacity is zero everywhere and is ignored")
        rgb = _converted(pixels, depth, opaque, stored.premultiplied, stored.owned)
    rgb, said = from_profile(rgb, stored.profile)
    return np.ascontiguousarray(upright(rgb, stored.orientation)), (*notes, *said)


def _check(owner: object, pixels: NDArray[np.generic]) -> None:
    """Raise an `InputError` for pixels that are not colours."""
    if pixels.ndim == 3 and pixels.shape[0] in (3, 4) and pixels.shape[2] not in (3, 4):
        raise InputError(
            f"{owner}: has the shape {pixels.shape}, with the channels first. Move them to the "
            "end: np.moveaxis(image, 0, -1)."
        )
    if pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] <= 2):
        raise InputError(
            f"{owner}: the image is grey-scale, but the model needs the colours of H&E. "
            "Export it as RGB."
        )
    if pixels.ndim != 3 or pixels.shape[2] > 4:
        raise InputError(
            f"{owner}: has the shape {pixels.shape}, but an image has three colour channels. "
            "Export it as RGB."
        )
    if 0 in pixels.shape:
        raise InputError(f"{owner}: the image has no pixels. Export it again.")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"{owner}: pixels are {pixels.dtype}, but must be 8 or 16 bits. Export it as 8-bit "
            "RGB; convert an array in 0..1 with (255 * image).round().astype(np.uint8)."
        )


def _depth(pixels: NDArray[Any], stated: int | None) -> tuple[int, str]:
    """Return the number of significant bits of 16-bit colours, and a note if it is below 16.

    The number that the file states is used, unless its values are larger; else the smallest of 8,
    10, 12, 14 and 16 bits that fits the largest value.
    """
    largest = max(int(pixels[..., c].max()) for c in range(3))
    if stated is not None and 8 <= stated < 16 and largest < 1 << stated:
        return stated, f"its 16-bit values are read as {stated} bits, as the file states"
    depth = next(d for d in _DEPTHS if largest < 1 << d)
    if depth == 16 or stated == 16 or not largest:
        return 16, ""
    return depth, f"its largest 16-bit value is {largest:,}: values are read as {depth} bits"


def _converted(
    pixels: NDArray[Any], depth: int, opaque: bool, premultiplied: bool, owned: bool
) -> UInt8:
    """Return 8-bit colours blended with white, written over the pixels if they are owned.

    The lower bits of 10 to 14 are cut off, which restores 8-bit values exactly, whether they were
    shifted (255 to 4080) or scaled (255 to 4095).
    """
    height, width, channels = pixels.shape
    flat = owned and pixels.flags.c_contiguous and pixels.flags.writeable
    if flat:  # a row of the result ends before the next of the pixels begins
        raw = pixels.reshape(-1).view(np.uint8)
        out = raw[: height * width * 3].reshape(height, width, 3)
    else:
        out = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP // max(width, 1))
    scale, blended = 255.0 / ((1 << depth) - 1), channels == 4 and not opaque
    if blended:
        most = int(pixels[..., 3].max())
        full = float((1 << depth) - 1 if most < 1 << depth else np.iinfo(pixels.dtype).max)
    for top in range(0, height, rows):
        part = pixels[top : top + rows]
        if not blended and depth == 8:
            out[top : top + rows] = part[..., :3].copy()
            continue
        if not blended and depth < 16:
            out[top : top + rows] = (part[..., :3] >> (depth - 8)).astype(np.uint8)
            continue
        levels = part[..., :3].astype(np.float32) * np.float32(scale)
        if blended:
            alpha = part[..., 3:].astype(np.float32) / np.float32(full)
            over = 255.0 * (1.0 - alpha)
            levels = levels + over if premultiplied else levels * alpha + over
        out[top : top + rows] = np.rint(np.clip(levels, 0, 255)).astype(np.uint8)
    return out


def from_ycbcr(
    pixels: NDArray[np.uint8],
    coefficients: tuple[float, float, float] = (0.299, 0.587, 0.114),
    black_white: tuple[float, ...] = (0, 255, 128, 255, 128, 255),
) -> UInt8:
    """Convert luma and chroma to red, green and blue, in place if possible.

    Args:
        pixels: uint8 (H, W, 3 or more); channels after the third are unchanged.
        coefficients: weights of red, green and blue in the luma.
        black_white: reference values of black and white, channel by channel.

    Returns:
        uint8 of the same shape.

    References:
        TIFF revision 6.0 (Adobe 1992), section 21; ITU-R BT.601.

    Example:
        >>> from_ycbcr(np.array([[[255, 128, 128], [76, 85, 255]]], np.uint8)).tolist()
        [[[255, 255, 255], [254, 0, 0]]]
    """
    red, green, blue = coefficients
    low = np.array(black_white[0::2], np.float32)
    span = np.maximum(np.array(black_white[1::2], np.float32) - low, 1.0)
    gain = np.array((255.0, 127.0, 127.0), np.float32) / span
    out = pixels if pixels.flags.writeable else pixels.copy()
    rows = max(1, _STRIP // max(pixels.shape[1], 1))
    for top in range(0, len(out), rows):
        part = out[top : top + rows]
        y, cb, cr = np.moveaxis((part[..., :3].astype(np.float32) - low) * gain, -1, 0)
        r, b = y + cr * (2 - 2 * red), y + cb * (2 - 2 * blue)
        g = (y - blue * b - red * r) / green
        part[..., :3] = np.rint(np.clip(np.stack([r, g, b], -1), 0, 255)).astype(np.uint8)
    return out

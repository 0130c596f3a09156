"""Images: PNG, JPEG, BMP, WebP, TIFF files, arrays and PIL images → uint8 RGB."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nucleate.errors import InputError
from nucleate.files import PathLike, as_path, read_bytes
from nucleate.readers.decoding import (
    MAX_PIXELS,
    TIFF_ENDINGS,
    decode_npy,
    decode_pillow,
    decode_tiff,
    pillow_pixels,
)
from nucleate.types import UInt8

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".npy")


def read_image(path: str | PathLike, most_pixels: int = MAX_PIXELS) -> tuple[UInt8, float | None]:
    """Read a picture as 8-bit RGB, and its resolution where the file states one.

    16-bit pictures are scaled to 8 bits, transparency is laid over white, palettes are resolved.
    Grey-scale pictures are refused: the stains are in the colours.

    Args:
        path: PNG, JPEG, BMP, WebP, TIFF or NPY; may be inside a zip file.
        most_pixels: larger ones are refused before they are unpacked.

    Returns:
        uint8 (H, W, 3), and micrometres per pixel or None when the file states none.

    Raises:
        InputError: missing, empty, corrupt, grey-scale, or not a picture.
    """
    path = as_path(path)
    data = read_bytes(path)
    suffix = path.suffix.lower()
    if suffix in TIFF_ENDINGS:
        pixels, mpp = decode_tiff(path, data, most_pixels)
    elif suffix == ".npy":
        pixels, mpp = decode_npy(path, data), None
        if pixels.size > 4 * most_pixels:
            raise InputError(f"{path}: {pixels.size:,} values are too many. Cut it into pieces.")
    elif suffix in PICTURES:
        pixels, mpp = decode_pillow(path, data, most_pixels), None
    else:
        raise InputError(
            f"{path}: {suffix or 'a file without an ending'} is not a picture format known here. "
            f"Convert it to one of: {' '.join(PICTURES)}"
        )
    return _to_rgb(path, pixels), mpp


def as_image(owner: object, given: object) -> UInt8:
    """Return an image that is in memory as 8-bit RGB, by the rules of `read_image`.

    Args:
        owner: what to name in an error message.
        given: uint8 or uint16 array (H, W, 3) or (H, W, 4), or a PIL image.

    Returns:
        uint8 (H, W, 3).

    Raises:
        InputError: neither, or an array of another shape or type.

    Example:
        >>> as_image("x", np.array([[[257, 514, 65535, 65535]]], np.uint16)).tolist()
        [[[1, 2, 255]]]
    """
    if isinstance(given, np.ndarray):
        return _to_rgb(owner, given)
    from PIL import Image

    if isinstance(given, Image.Image):
        return _to_rgb(owner, pillow_pixels(given))
    raise InputError(
        f"{owner}: {type(given).__name__} is not an image. Pass a path, a uint8 or uint16 array "
        "(H, W, 3), or a PIL image."
    )


def _to_rgb(owner: object, pixels: NDArray[np.generic]) -> UInt8:
    """Return uint8 (H, W, 3), or raise an `InputError` that says why that is impossible."""
    if pixels.ndim == 3 and pixels.shape[0] in (3, 4) and pixels.shape[2] not in (3, 4):
        raise InputError(
            f"{owner}: has the shape {pixels.shape}, with the channels first. Move them to the "
            "end: np.moveaxis(image, 0, -1)."
        )
    if pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] <= 2):
        raise InputError(
            f"{owner}: the picture is grey-scale, but the model reads the colours of H&E. "
            "Export it as RGB."
        )
    if pixels.ndim != 3 or pixels.shape[2] > 4:
        raise InputError(
            f"{owner}: has the shape {pixels.shape}, but a picture has three colour channels. "
            "Export it as RGB."
        )
    if 0 in pixels.shape:
        raise InputError(f"{owner}: the picture has no pixels. Export it again.")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"{owner}: pixels are {pixels.dtype}, but must be 8 or 16 bits. Export it as 8-bit "
            "RGB; an array from 0 to 1 as (255 * image).round().astype(np.uint8)."
        )
    if pixels.dtype == np.uint8 and pixels.shape[2] == 3:
        return np.ascontiguousarray(pixels, np.uint8)
    levels = pixels.astype(np.float32) / (257.0 if pixels.dtype == np.uint16 else 1.0)
    if pixels.shape[2] == 4:
        alpha = levels[..., 3:] / 255.0
        levels = levels[..., :3] * alpha + 255.0 * (1.0 - alpha)
    return np.rint(levels).astype(np.uint8)  # type: ignore[no-any-return]

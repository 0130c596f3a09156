"""Images: PNG, JPEG, BMP, WebP, TIFF files, arrays and PIL images → uint8 RGB."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nucleate.errors import InputError, explain_os_error
from nucleate.files import PathLike, as_path, read_bytes
from nucleate.readers.contents import foreign, format_of, not_read
from nucleate.readers.decoding import decode_npy, decode_pillow, of_pillow
from nucleate.readers.limits import MAX_PIXELS
from nucleate.readers.pixels import Stored, to_rgb
from nucleate.readers.tiff_image import TIFF_ENDINGS, decode_tiff
from nucleate.types import UInt8

IMAGES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp", ".tif", ".tiff", ".npy")


class ImageNote(UserWarning):
    """What a user has to know about how an image was read."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image as it was read.

    Attributes:
        pixels: uint8 (H, W, 3), upright.
        mpp: micrometres per pixel, None where the file states none.
        notes: what a user has to know about how it was read, a phrase each.
    """

    pixels: UInt8
    mpp: float | None
    notes: tuple[str, ...] = ()


def read_image(path: str | PathLike, most_pixels: int = MAX_PIXELS) -> tuple[UInt8, float | None]:
    """Read an image as 8-bit RGB, and its resolution where the file states one.

    Images are turned upright as EXIF and TIFF say, values of 10 to 16 bits are scaled to 8 bits,
    transparency is laid over white, palettes and YCbCr are resolved. Grey-scale images are refused:
    the stains are in the colours. What a file is, its content states, not its ending.

    Args:
        path: PNG, JPEG, BMP, WebP, TIFF or NPY; may be inside a zip file.
        most_pixels: larger ones are refused before they are unpacked.

    Returns:
        uint8 (H, W, 3), and micrometres per pixel or None when the file states none.

    Warns:
        ImageNote: the file had to be interpreted: its depth, its opacity, its colour profile.

    Raises:
        InputError: missing, empty, corrupt, grey-scale, or not an image.
    """
    found = load_image(path, most_pixels)
    for note in found.notes:
        warnings.warn(f"{path}: {note}", ImageNote, stacklevel=2)
    return found.pixels, found.mpp


def load_image(
    path: str | PathLike, most_pixels: int = MAX_PIXELS, plane: int | None = None
) -> ImageFile:
    """Read an image as `read_image` does; what has to be said about it comes with it.

    Args:
        path: PNG, JPEG, BMP, WebP, TIFF or NPY; may be inside a zip file.
        most_pixels: larger ones are refused before they are unpacked.
        plane: which of several focal planes or time points of a TIFF, from 1 on.

    Raises:
        InputError: missing, empty, corrupt, grey-scale, of several planes, or not an image.
    """
    path = as_path(path)
    head = read_head(path)
    kind = format_of(head)
    if kind is None:
        raise InputError(f"{path}: {_why_not(path, head)}")
    if plane not in (None, 1) and kind != "TIFF":
        raise InputError(f"{path}: has one plane. Omit --plane.")
    if kind == "TIFF":
        data = None if isinstance(path, Path) else read_bytes(path)
        stored = decode_tiff(path, data, most_pixels, plane)
    elif kind == "NPY":
        stored = Stored(decode_npy(path, read_bytes(path), most_pixels))
    else:
        stored = decode_pillow(path, read_bytes(path), most_pixels)
    pixels, notes = to_rgb(path, stored)
    return ImageFile(pixels, stored.mpp, notes)


def read_head(path: PathLike) -> bytes:
    """Return the first bytes of a file.

    Raises:
        InputError: it is missing, or empty.
    """
    if not isinstance(path, Path):
        return read_bytes(path)[:64]
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise InputError(explain_os_error(error, path)) from error
    if not head:
        raise InputError(f"{path}: the file is empty. Copy or download it again.")
    return head


def _why_not(path: PathLike, head: bytes) -> str:
    """Return why a file is not read as an image, and what to do."""
    suffix = Path(path.name).suffix.lower()
    named = not_read(head) or foreign(Path(path.name))
    if named is not None:
        return named
    if suffix in TIFF_ENDINGS:
        return (
            "cannot be read as TIFF (its first bytes are those of no image). The file is damaged "
            "or is not what its ending states: export it again."
        )
    if suffix in IMAGES:
        return (
            "cannot be read as an image (its first bytes are those of no image). The file is "
            "damaged or is not what its ending states: export it again."
        )
    return (
        f"{suffix or 'a file without an ending'} is not an image format known here. "
        f"Convert it to one of: {' '.join(IMAGES)}"
    )


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
    return image_in_memory(owner, given).pixels


def image_in_memory(owner: object, given: object) -> ImageFile:
    """Return an image that is in memory as `load_image` returns a file.

    Args:
        owner: what to name in an error message.
        given: uint8 or uint16 array (H, W, 3) or (H, W, 4), or a PIL image.

    Raises:
        InputError: neither, or an array of another shape or type.
    """
    if isinstance(given, np.ndarray):
        stored = Stored(given, owned=False)
    else:
        from PIL import Image

        if isinstance(given, str | Path):
            raise InputError(f"{owner}: a path is not an image. Read it: read_image(path)[0].")
        if not isinstance(given, Image.Image):
            raise InputError(
                f"{owner}: {type(given).__name__} is not an image. Pass a path, a uint8 or uint16 "
                "array (H, W, 3), or a PIL image."
            )
        stored = of_pillow(given)
    pixels, notes = to_rgb(owner, stored)
    return ImageFile(pixels, None, notes)

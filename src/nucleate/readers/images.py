"""Read PNG, JPEG, BMP, WebP and TIFF files, arrays and PIL images as uint8 RGB."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nucleate.errors import InputError, explain_os_error
from nucleate.files import PathLike, as_path, read_bytes
from nucleate.readers.boundary import DAMAGED
from nucleate.readers.contents import foreign, format_of, not_read
from nucleate.readers.decoding import decode_npy, decode_pillow, of_pillow
from nucleate.readers.limits import MAX_PIXELS
from nucleate.readers.pixels import Stored, to_rgb
from nucleate.readers.tiff_image import TIFF_ENDINGS, decode_tiff
from nucleate.types import UInt8

IMAGES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp", ".tif", ".tiff", ".npy")


class ImageNote(UserWarning):
    """A warning about how an image was read."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image that was read.

    Attributes:
        pixels: uint8 (H, W, 3), upright.
        mpp: micrometres per pixel, None if the file states none.
        notes: warnings about how it was read, one phrase each.
    """

    pixels: UInt8
    mpp: float | None
    notes: tuple[str, ...] = ()


def read_image(path: str | PathLike, most_pixels: int = MAX_PIXELS) -> tuple[UInt8, float | None]:
    """Read an image as 8-bit RGB, and its resolution if the file states one.

    Images are rotated upright according to EXIF or TIFF, values of 10 to 16 bits are scaled to 8
    bits, transparency is blended with white, palettes and YCbCr are converted. Grey-scale images
    are rejected: the stains are in the colours. The format is determined by the content of the
    file, not by its ending.

    Args:
        path: PNG, JPEG, BMP, WebP, TIFF or NPY; may be inside a zip file.
        most_pixels: larger images are rejected before they are unpacked.

    Returns:
        uint8 (H, W, 3), and micrometres per pixel or None if the file states none.

    Warns:
        ImageNote: the depth, opacity or colour profile of the file had to be interpreted.

    Raises:
        InputError: the file is missing, empty, corrupt, grey-scale, or not an image.
    """
    found = load_image(path, most_pixels)
    for note in found.notes:
        warnings.warn(f"{path}: {note}", ImageNote, stacklevel=2)
    return found.pixels, found.mpp


def load_image(
    path: str | PathLike, most_pixels: int = MAX_PIXELS, plane: int | None = None
) -> ImageFile:
    """Read an image like `read_image`, but return warnings as notes.

    Args:
        path: PNG, JPEG, BMP, WebP, TIFF or NPY; may be inside a zip file.
        most_pixels: larger images are rejected before they are unpacked.
        plane: focal plane or time point to read from a TIFF that has several, counted from 1.

    Raises:
        InputError: the file is missing, empty, corrupt, grey-scale, not an image, or has several
            planes.
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
        InputError: the file is missing or empty.
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
    """Return why a file cannot be read as an image, with a remedy."""
    suffix = Path(path.name).suffix.lower()
    named = not_read(head) or foreign(Path(path.name))
    if named is not None:
        return named
    if suffix in TIFF_ENDINGS:
        return f"cannot be read as TIFF (its first bytes are not those of an image). {DAMAGED}"
    if suffix in IMAGES:
        return f"cannot be read as an image (its first bytes are not those of an image). {DAMAGED}"
    return (
        f"{suffix or 'a file without an ending'} is not a supported image format. "
        f"Convert it to one of: {' '.join(IMAGES)}"
    )


def as_image(owner: object, given: object) -> UInt8:
    """Convert an image in memory to 8-bit RGB, by the rules of `read_image`.

    Args:
        owner: name for error messages.
        given: uint8 or uint16 array (H, W, 3) or (H, W, 4), or a PIL image.

    Returns:
        uint8 (H, W, 3).

    Raises:
        InputError: neither an array nor a PIL image, or an array of another shape or type.

    Example:
        >>> as_image("x", np.array([[[257, 514, 65535, 65535]]], np.uint16)).tolist()
        [[[1, 2, 255]]]
    """
    return image_in_memory(owner, given).pixels


def image_in_memory(owner: object, given: object) -> ImageFile:
    """Convert an image in memory to the form that `load_image` returns.

    Args:
        owner: name for error messages.
        given: uint8 or uint16 array (H, W, 3) or (H, W, 4), or a PIL image.

    Raises:
        InputError: neither an array nor a PIL image, or an array of another shape or type.
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

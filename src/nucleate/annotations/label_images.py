"""Label images: PNG, TIFF, NPY and MATLAB files or arrays → int32 labels."""

from __future__ import annotations

import io
import warnings

import numpy as np
from numpy.typing import NDArray

from nucleate.errors import InputError
from nucleate.files import PathLike, as_path, read_bytes
from nucleate.readers.decoding import decode_npy, decode_pillow
from nucleate.readers.pixels import Stored, upright
from nucleate.readers.tiff_image import TIFF_ENDINGS, decode_tiff
from nucleate.types import Int32

LABEL_IMAGES = (".png", ".tif", ".tiff", ".npy", ".mat")


def read_labels(path: str | PathLike) -> Int32:
    """Read a label image: 0 is background, every other value a nucleus.

    Images with a palette are read as indices, as in the masks of VOC and labelme.

    Args:
        path: PNG, TIFF, NPY or MAT (`inst_map`); may be inside a zip file.

    Returns:
        int32 (H, W).

    Raises:
        InputError: missing, corrupt, floating-point, negative, or with several channels.
    """
    path = as_path(path)
    suffix = path.suffix.lower()
    data = b"" if suffix == ".mat" else read_bytes(path)
    if suffix in TIFF_ENDINGS:
        pixels = _upright(decode_tiff(path, data, labels=True))
        pixels = _without_border(path, data, pixels)
    elif suffix == ".npy":
        pixels = decode_npy(path, data)
    elif suffix == ".mat":
        from nucleate.annotations.matlab import read_mat

        pixels = read_mat(path, ("inst_map",))["inst_map"]
    elif suffix == ".png":
        pixels = _upright(decode_pillow(path, data, indices=True))
        pixels = _without_border(path, data, pixels)
    else:
        raise InputError(
            f"{path}: {suffix or 'a file without an ending'} is not a known label format. "
            f"Convert it to one of: {' '.join(LABEL_IMAGES)}"
        )
    return as_labels(path, pixels)


def _without_border(
    path: PathLike, data: bytes, pixels: NDArray[np.generic]
) -> NDArray[np.generic]:
    """Set the pale yellow border (index 255) of PASCAL VOC masks to background."""
    from PIL import Image

    if pixels.ndim != 2 or not (pixels == 255).any():
        return pixels
    try:
        with Image.open(io.BytesIO(data)) as image:
            palette = image.getpalette() if image.mode == "P" else None
    except (OSError, ValueError):  # a TIFF that Pillow cannot read has no such palette
        return pixels
    if palette is None or palette[3 * 255 :] != [224, 224, 192]:
        return pixels
    warnings.warn(
        f"{path}: the index 255 is the border of PASCAL VOC: it is read as background",
        stacklevel=2,
    )
    return np.where(pixels == 255, 0, pixels)


def _upright(stored: Stored) -> NDArray[np.generic]:
    """Orient labels upright, as the image is read."""
    return upright(stored.pixels, stored.orientation)


def as_labels(owner: object, pixels: NDArray[np.generic]) -> Int32:
    """Convert `pixels` to an int32 label image, or raise.

    Args:
        owner: subject of error messages.
        pixels: (H, W) of an integer type or bool.

    Raises:
        InputError: floating-point, negative, too large, or not two-dimensional.

    Example:
        >>> as_labels("x", np.array([[0, 300]], np.uint16)).dtype
        dtype('int32')
    """
    if not isinstance(pixels, np.ndarray):
        raise InputError(
            f"{owner}: {type(pixels).__name__} is not a label image. Pass an array of integers "
            "(H, W): np.asarray(…) of a list or PIL image, read_labels(…) of a file."
        )
    pixels = np.squeeze(pixels) if pixels.ndim > 2 else pixels
    if pixels.ndim != 2:
        raise InputError(
            f"{owner}: labels must have one channel, but the shape is {pixels.shape}. "
            "Save a label image with one integer per pixel, not a coloured image."
        )
    if pixels.dtype.kind == "f" or pixels.dtype.kind not in "iub":
        raise InputError(
            f"{owner}: labels are {pixels.dtype}, but must be integers. "
            "Save them as an integer type: a rounded float may have merged nuclei."
        )
    if pixels.size and (int(pixels.min()) < 0 or int(pixels.max()) > np.iinfo(np.int32).max):
        raise InputError(f"{owner}: labels must be between 0 and 2147483647. Renumber them.")
    return np.ascontiguousarray(pixels, np.int32)

"""Decode image files in Pillow's formats and NPY to pixels as stored."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nucleate.errors import InputError
from nucleate.files import PathLike
from nucleate.readers.boundary import reading
from nucleate.readers.colour_spaces import from_inks
from nucleate.readers.limits import MAX_PIXELS, check_claim
from nucleate.readers.pixels import Stored

_PILLOW = ("PNG", "JPEG", "BMP", "WEBP")
_CONVERTED = {  # PIL modes whose channels are not red, green, blue and opacity
    **dict.fromkeys(("CMYK", "YCbCr", "LAB", "HSV", "RGBX"), "RGB"), "RGBa": "RGBA",
}  # fmt: skip
_DIRECT = {"PNG": "png_decode", "JPEG": "jpeg8_decode", "WEBP": "webp_decode"}
_ROWS = 1 << 20  # pixels converted at a time
_ORIENTATION = 274


def decode_pillow(
    path: PathLike, data: bytes, most_pixels: int = MAX_PIXELS, indices: bool = False
) -> Stored:
    """Decode a PNG, JPEG, BMP or WebP file.

    Args:
        path: name for error messages.
        data: content of the file.
        most_pixels: larger images are rejected before they are unpacked.
        indices: whether to return the indices of a palette, not its colours, for label images.

    Raises:
        InputError: the file is damaged or too large.
    """
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow refuses twice this
    with (
        reading(path, "an image"),
        warnings.catch_warnings(),
        Image.open(io.BytesIO(data), formats=_PILLOW) as file,
    ):
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        if file.width * file.height > most_pixels:
            raise InputError(
                f"{path}: {file.width} × {file.height} pixels are too many for an image that is "
                f"read at once (at most {most_pixels:,}). Convert it to a tiled TIFF, which is "
                "read piece by piece."
            )
        check_claim(path, len(data), file.width * file.height * len(file.getbands()))
        frames = int(getattr(file, "n_frames", 1))
        if frames > 1:
            raise InputError(
                f"{path}: contains {frames} images. Save the image that you want to segment as a "
                "separate file."
            )
        profile, notes = file.info.get("icc_profile"), _gamma_notes(file)
        bits = _significant_bits(data) if file.format == "PNG" else None
        orientation = _orientation(file) if _may_be_turned(file, data) else 1
        pixels = _decoded(file, data)
        if pixels is None:
            file.load()
            if file.mode == "CMYK":
                pixels, notes = from_inks(path, np.array(file), profile)
                profile = None
            else:
                pixels = pillow_pixels(file, indices)
        if file.format == "PNG" and data[25] in (0, 4) and pixels.shape[2:] in ((3,), (4,)):
            pixels = pixels[..., 0]  # 16-bit grey with opacity, which Pillow returns as RGB
        if indices:
            profile, notes = None, ()
        return Stored(pixels, None, orientation, bits, False, notes, profile=profile)


def _gamma_notes(file: Any) -> tuple[str, ...]:  # noqa: ANN401
    """Return a note about a PNG gamma that differs from sRGB."""
    gamma = file.info.get("gamma")
    if not gamma or {"srgb", "icc_profile"} & file.info.keys() or abs(gamma - 1 / 2.2) < 0.03:
        return ()
    return (f"its gamma ({gamma:.3g}) is not applied",)


def _decoded(file: Any, data: bytes) -> NDArray[Any] | None:  # noqa: ANN401
    """Decode directly into an array, with all 16 bits; None if Pillow has to decode.

    Pillow needs three times the memory and keeps only the upper 8 bits.
    """
    import imagecodecs

    if file.format not in _DIRECT or file.mode not in ("RGB", "RGBA"):
        return None
    if file.format == "PNG" and "transparency" in file.info:
        return None  # one colour is transparent
    if file.format == "JPEG" and not jpeg_is_whole(data):
        raise ValueError("the file ends before its pixels do")
    found: NDArray[Any] = getattr(imagecodecs, _DIRECT[file.format])(data)
    fits = found.ndim == 3 and found.shape[:2] == (file.height, file.width)
    if not fits or found.shape[2] not in (3, 4) or found.dtype not in (np.uint8, np.uint16):
        return None
    return found


def jpeg_is_whole(data: bytes) -> bool:
    """Return whether a JPEG stream is complete: decoders fill missing parts with grey.

    The header is skipped because thumbnails in it have end markers too.

    Example:
        >>> whole = bytes.fromhex("ffd8 ffe00004ffd9 ffda0002 00 ffd9")
        >>> jpeg_is_whole(whole), jpeg_is_whole(whole[:-2])
        (True, False)
    """
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        alone = data[at + 1] == 0xFF or data[at + 1] == 1 or 0xD0 <= data[at + 1] <= 0xD8
        fill = 1 if data[at + 1] == 0xFF else 2
        at += fill if alone else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data.find(b"\xff\xd9", at) >= 0


def pillow_pixels(image: Any, indices: bool = False) -> NDArray[np.generic]:  # noqa: ANN401
    """Return the pixels of a PIL image: palettes resolved, other colour spaces as RGB.

    Args:
        image: PIL image.
        indices: whether to return the indices of a palette, not its colours.
    """
    if image.mode == "P" and not indices and _has_colours(image):
        return _coloured(image)
    if image.mode == "RGB" and "transparency" in image.info:
        image = image.convert("RGBA")
    wanted = _CONVERTED.get(image.mode, image.mode)
    if wanted not in ("RGB", "RGBA"):
        return np.asarray(image)
    out = np.empty((image.height, image.width, len(wanted)), np.uint8)
    rows = max(1, _ROWS // max(image.width, 1))
    for top in range(0, image.height, rows):
        part = image.crop((0, top, image.width, min(top + rows, image.height)))
        out[top : top + rows] = np.asarray(part if part.mode == wanted else part.convert(wanted))
    return out


def _coloured(image: Any) -> NDArray[np.uint8]:  # noqa: ANN401
    """Return the palette colours of an indexed image."""
    palette = image.getpalette("RGBA" if "transparency" in image.info else "RGB")
    channels = 4 if "transparency" in image.info else 3
    table = np.zeros((256, channels), np.uint8)
    known = np.asarray(palette, np.uint8).reshape(-1, channels)
    table[: len(known)] = known
    return np.take(table, np.asarray(image), axis=0)


def _has_colours(image: Any) -> bool:  # noqa: ANN401
    """Return whether a palette contains colours: a grey palette may be a label image."""
    palette = np.asarray(image.getpalette() or [], np.uint8)
    triples = palette[: len(palette) // 3 * 3].reshape(-1, 3)
    return bool((triples != triples[:, :1]).any())


def _orientation(image: Any) -> int:  # noqa: ANN401
    """Return the EXIF orientation of a PIL image, 1 to 8; 1 if there is none."""
    with contextlib.suppress(Exception):  # damaged EXIF
        found = int(image.getexif().get(_ORIENTATION, 1))
        return found if 1 <= found <= 8 else 1
    return 1


def _may_be_turned(image: Any, data: bytes) -> bool:  # noqa: ANN401
    """Return whether a file may have an orientation, without Pillow, which decodes a whole PNG."""
    marks = (b"eXIf", b"exif", b"Orientation")
    return image.format != "PNG" or any(mark in fact for fact in _png_facts(data) for mark in marks)


def _png_facts(data: bytes) -> Iterator[bytes]:
    r"""Yield the chunks of a PNG that contain no pixels, each with its name.

    Example:
        >>> exif = b"\0\0\0\2" + b"eXIf" + b"MM" + b"\0\0\0\0"
        >>> list(_png_facts(b"\x89PNG\r\n\x1a\n" + exif))
        [b'eXIfMM']
    """
    at = 8
    while at + 8 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] != b"IDAT":
            yield data[at + 4 : end]
        at = end + 4


def of_pillow(image: Any) -> Stored:  # noqa: ANN401
    """Return a PIL image in the form that `decode_pillow` returns."""
    return Stored(pillow_pixels(image), None, _orientation(image))


def _significant_bits(data: bytes) -> int | None:
    """Return the number of significant bits in the sBIT chunk of a PNG; None if there is none."""
    at = data.find(b"sBIT", 0, 4096)
    if at < 0 or data[at - 4 : at] not in (b"\0\0\0\3", b"\0\0\0\4"):
        return None
    return max(data[at + 4 : at + 7])


def decode_npy(path: PathLike, data: bytes, most_pixels: int = MAX_PIXELS) -> NDArray[np.generic]:
    """Decode the array of an NPY file.

    Raises:
        InputError: the file is damaged, contains Python objects, or is too large.
    """
    remedy = "Save it with numpy.save, without Python objects."
    with reading(path, "a NumPy array", remedy):
        found = np.load(io.BytesIO(data), allow_pickle=False)
    if not isinstance(found, np.ndarray):
        raise InputError(f"{path}: contains several arrays. Save one, with numpy.save.")
    if found.size > 4 * most_pixels:
        raise InputError(f"{path}: {found.size:,} values are too many. Cut it into pieces.")
    return found

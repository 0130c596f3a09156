"""Bytes of an image file → arrays: Pillow, TIFF, NPY."""

from __future__ import annotations

import io
import logging
import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nucleate.errors import InputError
from nucleate.files import PathLike
from nucleate.readers.metadata import first_line, tiff_mpp

TIFF_ENDINGS = (".tif", ".tiff")
_PILLOW = ("PNG", "JPEG", "BMP", "WEBP")
_CONVERTED = {  # modes of PIL images whose channels are not red, green, blue and opacity
    **dict.fromkeys(("CMYK", "YCbCr", "LAB", "HSV", "RGBX"), "RGB"), "RGBa": "RGBA",
}  # fmt: skip
MAX_PIXELS = 1 << 30  # 32,768 squared: larger pictures belong to the slide reader


def decode_pillow(
    path: PathLike, data: bytes, most_pixels: int = MAX_PIXELS
) -> NDArray[np.generic]:
    """Return the pixels of a PNG, JPEG, BMP, WebP or GIF file; an `InputError` if it is damaged."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow refuses twice this
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data), formats=_PILLOW) as file:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            if file.width * file.height > most_pixels:
                raise InputError(
                    f"{path}: {file.width} × {file.height} pixels are too many for a "
                    "picture. Convert it to a tiled TIFF, which is read piece by piece."
                )
            file.load()
            return pillow_pixels(file)
    except InputError:
        raise
    except Exception as error:  # decoders of hostile bytes raise anything; all mean the same
        raise InputError(
            f"{path}: cannot be read as a picture ({first_line(error)}). "
            "The file is damaged or is not what its ending says: export it again."
        ) from error


def pillow_pixels(picture: Any) -> NDArray[np.generic]:  # noqa: ANN401
    """Return the pixels of a PIL image: palettes resolved, other colour spaces as RGB."""
    if picture.mode == "P" and _has_colours(picture):
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    elif picture.mode in _CONVERTED:
        picture = picture.convert(_CONVERTED[picture.mode])
    return np.asarray(picture)


def _has_colours(picture: Any) -> bool:  # noqa: ANN401
    """Return whether a palette holds colours: a grey palette may be a label image."""
    palette = np.asarray(picture.getpalette() or [], np.uint8)
    triples = palette[: len(palette) // 3 * 3].reshape(-1, 3)
    return bool((triples != triples[:, :1]).any())


def decode_npy(path: PathLike, data: bytes) -> NDArray[np.generic]:
    """Return the array of an NPY file; an `InputError` if it is damaged or has Python objects."""
    try:
        found = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # a hostile header raises anything
        raise InputError(
            f"{path}: cannot be read as a NumPy array ({first_line(error)}). "
            "Save it with numpy.save, without Python objects."
        ) from error
    if not isinstance(found, np.ndarray):
        raise InputError(f"{path}: holds several arrays. Save one, with numpy.save.")
    return found


def decode_tiff(
    path: PathLike, data: bytes, most_pixels: int = MAX_PIXELS
) -> tuple[NDArray[np.generic], float | None]:
    """Return the pixels of a TIFF file and its mpp; an `InputError` if it cannot be read."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            series = file.series[0]
            page = series.keyframe
            most = max(  # of the picture, of a piece that is unpacked at once, of all bytes
                page.imagewidth * page.imagelength,
                math.prod(series.shape) // 4,
                math.prod(page.chunks) // 4,
                series.nbytes // 16,
            )
            if most > most_pixels:
                raise InputError(
                    f"{path}: {' × '.join(map(str, series.shape))} values, unpacked in pieces of "
                    f"{' × '.join(map(str, page.chunks))}, are too many for a picture. Save it "
                    "as a tiled pyramid, which is read piece by piece."
                )
            expected = max(
                (
                    o + n
                    for p in series.pages
                    if p is not None
                    for o, n in zip(p.dataoffsets, p.databytecounts, strict=False)
                ),
                default=0,
            )
            if expected > len(data):
                raise InputError(
                    f"{path}: the file ends after {len(data)} of {expected} bytes. "
                    "It is truncated: copy or download it again."
                )
            photometric = int(page.photometric)
            if photometric in (5, 8, 9, 10):  # inks, or Lab: decoded as they are, colours lie
                raise InputError(
                    f"{path}: the TIFF holds {page.photometric.name}, not RGB. Export it as RGB."
                )
            pixels = series.asarray()
            axes = series.axes
            if page.photometric == 3 and page.colormap is not None:  # palette
                pixels = np.moveaxis(page.colormap[:, pixels], 0, -1)
                axes += "S"
            pixels = _last_channel(path, pixels, axes)
            if pixels.ndim == 3 and pixels.shape[2] == 4 and not _has_alpha(page):
                pixels = pixels[..., :3]  # a fourth sample that means nothing stated
            return pixels, tiff_mpp(file)
    except InputError:
        raise
    except Exception as error:  # decoders of hostile bytes raise anything; all mean the same
        raise InputError(
            f"{path}: cannot be read as TIFF ({first_line(error)}). "
            "The file is damaged or is not what its ending says: export it again."
        ) from error


def _has_alpha(page: Any) -> bool:  # noqa: ANN401
    """Return whether the extra sample of a TIFF page is opacity."""
    return any(int(extra) in (1, 2) for extra in page.extrasamples)


def _last_channel(path: PathLike, pixels: NDArray[np.generic], axes: str) -> NDArray[np.generic]:
    """Bring a TIFF series to (H, W) or (H, W, C)."""
    squeezed = [axis for axis, n in zip(axes, pixels.shape, strict=False) if n > 1 or axis in "YX"]
    pixels = pixels.reshape(
        [n for a, n in zip(axes, pixels.shape, strict=False) if n > 1 or a in "YX"]
    )
    if len(squeezed) == 3 and squeezed[1:] == ["Y", "X"]:
        if squeezed[0] not in "SC":
            raise InputError(
                f"{path}: holds {len(pixels)} pictures along axis {squeezed[0]}, not one. "
                "Save the plane that you want to segment."
            )
        pixels = np.moveaxis(pixels, 0, -1)
    elif len(squeezed) > 3 or (len(squeezed) == 3 and squeezed[:2] != ["Y", "X"]):
        raise InputError(f"{path}: has the axes {axes}, not one picture. Save a single RGB plane.")
    return pixels

"""Pictures and label images: PNG, JPEG, BMP, WebP, TIFF, NPY, MAT ⇄ arrays."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nucleate.errors import InputError
from nucleate.io.files import PathLike, as_path, atomic, read_bytes
from nucleate.types import Int32, UInt8

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".npy")
LABEL_IMAGES = (".png", ".tif", ".tiff", ".npy", ".mat")
_TILE = 256  # edge of a tile of a label image
_TIFF = (".tif", ".tiff")
_OME_UNITS = {"µm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "Å": 1e-4}
_PILLOW = ("PNG", "JPEG", "BMP", "WEBP")
_CONVERTED = {  # modes of PIL images whose channels are not red, green, blue and opacity
    **dict.fromkeys(("CMYK", "YCbCr", "LAB", "HSV", "RGBX"), "RGB"), "RGBa": "RGBA",
}  # fmt: skip
_MAX_PIXELS = 1 << 30  # 32,768 squared: larger pictures belong to the slide reader


def read_image(path: str | PathLike, most_pixels: int = _MAX_PIXELS) -> tuple[UInt8, float | None]:
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
    if suffix in _TIFF:
        pixels, mpp = _decode_tiff(path, data, most_pixels)
    elif suffix == ".npy":
        pixels, mpp = _decode_npy(path, data), None
        if pixels.size > 4 * most_pixels:
            raise InputError(f"{path}: {pixels.size:,} values are too many. Cut it into pieces.")
    elif suffix in PICTURES:
        pixels, mpp = _decode_pillow(path, data, most_pixels), None
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
        return _to_rgb(owner, _pillow_pixels(given))
    raise InputError(
        f"{owner}: {type(given).__name__} is not an image. Pass a path, a uint8 or uint16 array "
        "(H, W, 3), or a PIL image."
    )


def read_labels(path: str | PathLike) -> Int32:
    """Read a label image: 0 is background, every other value one nucleus.

    Args:
        path: PNG, TIFF, NPY or MAT (`inst_map`); may be inside a zip file.

    Returns:
        int32 (H, W).

    Raises:
        InputError: missing, corrupt, floating-point, negative, or of several channels.
    """
    path = as_path(path)
    suffix = path.suffix.lower()
    data = b"" if suffix == ".mat" else read_bytes(path)
    if suffix in _TIFF:
        pixels, _ = _decode_tiff(path, data)
    elif suffix == ".npy":
        pixels = _decode_npy(path, data)
    elif suffix == ".mat":
        from nucleate.io.mat import read_mat

        pixels = read_mat(path, ("inst_map",))["inst_map"]
    elif suffix == ".png":
        pixels = _decode_pillow(path, data)
    else:
        raise InputError(
            f"{path}: {suffix or 'a file without an ending'} is not a label format known here. "
            f"Convert it to one of: {' '.join(LABEL_IMAGES)}"
        )
    return as_labels(path, pixels)


def as_labels(owner: object, pixels: NDArray[np.generic]) -> Int32:
    """Return `pixels` as an int32 label image, or say why it is none.

    Args:
        owner: what to name in an error message.
        pixels: (H, W) of an integer type or bool.

    Raises:
        InputError: floating-point, negative, too large, or not two-dimensional.

    Example:
        >>> as_labels("x", np.array([[0, 300]], np.uint16)).dtype
        dtype('int32')
    """
    pixels = np.squeeze(pixels) if pixels.ndim > 2 else pixels
    if pixels.ndim != 2:
        raise InputError(
            f"{owner}: labels must have one channel, but the shape is {pixels.shape}. "
            "Save a label image with one integer per pixel, not a coloured picture."
        )
    if pixels.dtype.kind == "f" or pixels.dtype.kind not in "iub":
        raise InputError(
            f"{owner}: labels are {pixels.dtype}, but must be integers. "
            "Save them as an integer type: a rounded float may have merged nuclei."
        )
    if pixels.size and (int(pixels.min()) < 0 or int(pixels.max()) > np.iinfo(np.int32).max):
        raise InputError(f"{owner}: labels must be between 0 and 2147483647. Renumber them.")
    return np.ascontiguousarray(pixels, np.int32)


def write_labels(path: Path, labels: Int32, mpp: float | None) -> None:
    """Write a label image as int32 TIFF (deflate, tiled), with its resolution where known.

    Raises:
        OutputError: the file cannot be written.
    """
    height, width = labels.shape
    write_label_rows(path, (height, width), [labels], mpp)


def write_label_rows(
    path: Path, shape: tuple[int, int], bands: Iterable[Int32], mpp: float | None
) -> None:
    """Write a label image that comes in bands of rows, from top to bottom, as `write_labels` does.

    Args:
        path: file to write.
        shape: (H, W) of the whole.
        bands: int32 (h, W), each but the last of a multiple of 256 rows.
        mpp: micrometres per pixel.

    Raises:
        OutputError: the file cannot be written.
    """
    import tifffile

    scale = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": 3}
    with atomic(path) as temporary:
        tifffile.imwrite(
            temporary,
            _tiles(bands),
            shape=shape,
            dtype=np.int32,
            compression="zlib",
            predictor=True,
            tile=(_TILE, _TILE),
            bigtiff=4 * shape[0] * shape[1] > 1 << 31,
            **scale,
        )


def _tiles(bands: Iterable[Int32]) -> Iterator[Int32]:
    """Yield tiles of 256 × 256 pixels, row by row; those at the right and lower edge are cut."""
    for band in bands:
        for y in range(0, band.shape[0], _TILE):
            for x in range(0, band.shape[1], _TILE):
                tile = band[y : y + _TILE, x : x + _TILE]
                lacking = _TILE - tile.shape[0], _TILE - tile.shape[1]
                yield np.pad(tile, ((0, lacking[0]), (0, lacking[1])))


def write_png(path: Path, image: UInt8) -> None:
    """Write an RGB image as PNG; run lengths instead of a search: faster, and smaller for tissue.

    Raises:
        OutputError: the file cannot be written.
    """
    import cv2

    how = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    _, packed = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), how)
    with atomic(path) as temporary:
        temporary.write_bytes(packed.tobytes())


def write_jpeg(path: Path, image: UInt8) -> None:
    """Write an RGB image as JPEG of quality 90, colours at full resolution: lines stay sharp.

    Raises:
        OutputError: the file cannot be written.
    """
    import cv2

    how = [cv2.IMWRITE_JPEG_QUALITY, 90,
           cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]  # fmt: skip
    _, packed = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), how)
    with atomic(path) as temporary:
        temporary.write_bytes(packed.tobytes())


def _decode_pillow(
    path: PathLike, data: bytes, most_pixels: int = _MAX_PIXELS
) -> NDArray[np.generic]:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = _MAX_PIXELS // 2  # Pillow refuses twice this
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data), formats=_PILLOW) as file:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            if file.width * file.height > most_pixels:
                raise InputError(
                    f"{path}: {file.width} × {file.height} pixels are too many for a "
                    "picture. Convert it to a tiled TIFF, which is read piece by piece."
                )
            file.load()
            return _pillow_pixels(file)
    except InputError:
        raise
    except Exception as error:  # decoders of hostile bytes raise anything; all mean the same
        raise InputError(
            f"{path}: cannot be read as a picture ({_short(error)}). "
            "The file is damaged or is not what its ending says: export it again."
        ) from error


def _pillow_pixels(picture: Any) -> NDArray[np.generic]:  # noqa: ANN401
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


def _decode_npy(path: PathLike, data: bytes) -> NDArray[np.generic]:
    try:
        found = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # a hostile header raises anything
        raise InputError(
            f"{path}: cannot be read as a NumPy array ({_short(error)}). "
            "Save it with numpy.save, without Python objects."
        ) from error
    if not isinstance(found, np.ndarray):
        raise InputError(f"{path}: holds several arrays. Save one, with numpy.save.")
    return found


def _decode_tiff(
    path: PathLike, data: bytes, most_pixels: int = _MAX_PIXELS
) -> tuple[NDArray[np.generic], float | None]:
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
            f"{path}: cannot be read as TIFF ({_short(error)}). "
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


def tiff_mpp(file: Any) -> float | None:  # noqa: ANN401
    """Return the resolution that the TIFF states, if it can be that of a microscope."""
    import re

    import tifffile

    page = file.pages[0]
    text = page.description or ""
    found = re.search(r"\bMPP\s*=\s*([0-9.]+)", text)  # Aperio
    if found:
        return plausible_mpp(found.group(1))
    if file.is_ome:
        metadata = tifffile.xml2dict(file.ome_metadata)
        image = metadata.get("OME", {}).get("Image", {})
        pixels = (image[0] if isinstance(image, list) else image).get("Pixels", {})
        unit = _OME_UNITS.get(str(pixels.get("PhysicalSizeXUnit", "µm")))
        size = pixels.get("PhysicalSizeX")
        return None if unit is None or size is None else plausible_mpp(float(size) * unit)
    tags = page.tags
    if "XResolution" in tags and "ResolutionUnit" in tags:
        numerator, denominator = tags["XResolution"].value
        per_unit = {2: 25_400.0, 3: 10_000.0}.get(int(tags["ResolutionUnit"].value))
        if per_unit and numerator:
            return plausible_mpp(per_unit * denominator / numerator)
    return None


def stated_tiff_mpp(path: Path) -> float | None:
    """Return the resolution that a TIFF file states; its pixels stay unread.

    Raises:
        InputError: the file is missing or damaged.
    """
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            return tiff_mpp(file)
    except Exception as error:  # parsers of hostile bytes raise anything; all mean the same
        raise InputError(
            f"{path}: cannot be read as TIFF ({_short(error)}). "
            "The file is damaged or is not what its ending says: export it again."
        ) from error


def plausible_mpp(value: object) -> float | None:
    """Return `value` as micrometres per pixel if a microscope can have it (0.02 to 20), or None.

    Printers' and screens' resolutions (72 or 300 dots per inch) are 85 to 353 um and fall out.

    Example:
        >>> plausible_mpp("0.499"), plausible_mpp(25400 / 72)
        (0.499, None)
    """
    with contextlib.suppress(TypeError, ValueError):
        mpp = float(value)  # type: ignore[arg-type]
        if 0.02 <= mpp <= 20:
            return mpp
    return None


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


def _short(error: Exception) -> str:
    """Return the first line of an exception, without object addresses, at most 120 characters."""
    import re

    text = (str(error).splitlines() or [""])[0] or type(error).__name__
    return re.sub(r"<[^>]* at 0x[0-9a-f]+>|<_io\.[^>]*>", "it", text)[:120].rstrip(".")

"""Decode a TIFF file to one image: colour spaces, planes, channels, opacity, orientation."""

from __future__ import annotations

import io
import logging
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nucleate.errors import InputError
from nucleate.files import PathLike
from nucleate.readers.boundary import reading
from nucleate.readers.colour_spaces import from_inks, from_lab, profile_notes
from nucleate.readers.limits import MAX_PIXELS, MAX_SAMPLES, check_claim
from nucleate.readers.metadata import (
    channel_names,
    main_series,
    significant_bits,
    tiff_resolution,
)
from nucleate.readers.pieces import check_pieces
from nucleate.readers.pixels import Stored, from_ycbcr

if TYPE_CHECKING:
    from tifffile import TiffPageSeries

TIFF_ENDINGS = (".tif", ".tiff")
_JPEG = (6, 7, 33007, 34892)  # compressions whose decoder converts YCbCr to RGB
_READ = (0, 1, 2, 3, 5, 6, 8, 9)  # colour spaces: grey, RGB, palette, inks, YCbCr, Lab
_LAB = {8: True, 9: False}  # whether a* and b* are signed
_RED_GREEN_BLUE = {"r", "g", "b", "red", "green", "blue"}
_NO_NAME = re.compile(r"(channel|c)?[\s:_\-0-9]*")  # default names
_DARK = 0.2  # with a median below this fraction of the range, grey planes are not brightfield


def decode_tiff(
    path: PathLike,
    data: bytes | None,
    most_pixels: int = MAX_PIXELS,
    plane: int | None = None,
    labels: bool = False,
) -> Stored:
    """Decode a TIFF file; return its pixels and metadata.

    Args:
        path: path of the file.
        data: content of the file; None reads `path` from the disk.
        most_pixels: larger images are rejected before they are unpacked.
        plane: focal plane or time point to read if there are several, counted from 1.
        labels: whether it is a label image: palettes stay indices, the resolution is ignored.

    Raises:
        InputError: the file cannot be read, is too large, or does not contain a single image.
    """
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    with (
        reading(path, "TIFF"),
        tifffile.TiffFile(str(path) if data is None else io.BytesIO(data)) as file,
    ):
        _check_samples(path, file.pages[0])
        size = Path(str(path)).stat().st_size if data is None else len(data)
        series, others = main_series(file)
        page: Any = series.keyframe
        _check_size(path, series, size, most_pixels, plane is not None)
        _check_whole(path, series, size)
        check_pieces(path, file, series, page)
        _check_colours(path, page)
        mpp, unused = (None, "") if labels else tiff_resolution(file, path, page)
        pixels, axes = _plane(path, series, plane)
        if int(page.photometric) == 3 and page.colormap is not None and not labels:
            pixels, axes = _palette(page.colormap, pixels), axes + "S"
        grey = int(page.photometric) in (0, 1)
        pixels = _last_channel(path, pixels, axes)
        if pixels.ndim == 3 and grey and not labels:
            if int(page.photometric) == 0:
                raise InputError(
                    f"{path}: has {pixels.shape[2]} grey channels in which 0 is white. Export it "
                    "as RGB."
                )
            check_grey_channels(path, pixels, channel_names(file))
        notes = () if labels else page_notes(page, unused, others)
        if int(page.photometric) == 5:
            pixels, said = from_inks(path, pixels, _profile(page))
            notes = (*notes, *said)
        elif int(page.photometric) in _LAB:
            pixels, said = from_lab(path, pixels, _LAB[int(page.photometric)])
            notes = (*notes, *said)
        elif is_raw_ycbcr(page):
            pixels = from_ycbcr(_eight_bits(path, pixels), *ycbcr_tags(page))
        if pixels.ndim == 3 and pixels.shape[2] == 4 and not _opacity(page):
            pixels = pixels[..., :3]  # fourth sample without a stated meaning
        return Stored(
            pixels,
            mpp,
            orientation_of(page),
            None if labels else significant_bits(file),
            _opacity(page) == 1,
            notes,
            pixels.flags.writeable,
        )


def _check_samples(path: PathLike, page: Any) -> None:  # noqa: ANN401
    """Raise an `InputError` for more values per pixel than an image has."""
    if page.samplesperpixel > MAX_SAMPLES:
        raise InputError(
            f"{path}: claims {page.samplesperpixel:,} values per pixel, where an image has 3 or 4 "
            f"(at most {MAX_SAMPLES} are read). The file is damaged: export it again as RGB."
        )


def _check_size(
    path: PathLike, series: TiffPageSeries, size: int, most_pixels: int, one: bool
) -> None:
    """Raise an `InputError` for an image that would need too much memory."""
    page: Any = series.keyframe
    bytes_ = series.nbytes
    if one:
        bytes_ = page.imagewidth * page.imagelength * page.samplesperpixel * page.dtype.itemsize
    most = max(  # pixels of the image, of all planes, of a piece, and of all bytes
        page.imagewidth * page.imagelength,
        (0 if one else math.prod(series.shape) // 4),
        math.prod(page.chunks) // 4,
        bytes_ // 16,
    )
    if most > most_pixels:
        raise InputError(
            f"{path}: {' × '.join(map(str, series.shape))} values, unpacked in pieces of "
            f"{' × '.join(map(str, page.chunks))}, are too many for an image that is read at once "
            f"(at most {most_pixels:,} pixels). Save it as a tiled pyramid, which is read piece by "
            "piece."
        )
    check_claim(path, size, bytes_)


def _check_whole(path: PathLike, series: Any, size: int) -> None:  # noqa: ANN401
    """Raise an `InputError` for a file that ends before its pixels do."""
    expected = max(
        (
            o + n
            for p in series.pages
            if p is not None
            for o, n in zip(p.dataoffsets, p.databytecounts, strict=False)
        ),
        default=0,
    )
    if expected > size:
        raise InputError(
            f"{path}: the file ends after {size} of {expected} bytes. "
            "It is truncated: copy or download it again."
        )


def _check_colours(path: PathLike, page: Any) -> None:  # noqa: ANN401
    """Raise an `InputError` for colour spaces that cannot be converted to RGB."""
    inks = page.tags.get("InkSet")
    is_cmyk = inks is None or int(inks.value) == 1
    if int(page.photometric) not in _READ or (int(page.photometric) == 5 and not is_cmyk):
        kind = getattr(page.photometric, "name", f"photometric {page.photometric}")
        raise InputError(
            f"{path}: the TIFF contains {kind}{'' if is_cmyk else ' with inks other than CMYK'}, "
            "not RGB. Export it as RGB."
        )
    if is_raw_ycbcr(page) and tuple(page.subsampling or (1, 1)) != (1, 1):
        raise InputError(
            f"{path}: the TIFF contains YCbCr with subsampled chroma but without JPEG compression. "
            "Export it as RGB."
        )


def plane_axes(series: Any) -> tuple[str, int]:  # noqa: ANN401
    """Return the axes of a TIFF series along which it has planes, and the number of planes.

    Channels are not planes: three or four are colours, and other numbers are left to the caller.
    """
    axes = [
        (a, n) for a, n in zip(series.axes, series.shape, strict=False) if a not in "YXSC" and n > 1
    ]
    return "".join(a for a, _ in axes), math.prod(n for _, n in axes)


def check_plane(path: PathLike, axes: str, planes: int, plane: int | None) -> int:
    """Return the index of the chosen plane, from 0; raise an `InputError` if it is ambiguous."""
    if plane is not None and not 1 <= plane <= planes:
        raise InputError(f"{path}: has {planes} planes. Choose --plane 1 to {planes}.")
    if plane is None and planes > 1:
        raise InputError(
            f"{path}: contains {planes} planes or time points (axes {axes}), not one image. Choose "
            f"one with --plane 1 to {planes}, or save it as a separate file."
        )
    return 0 if plane is None else plane - 1


def _plane(path: PathLike, series: Any, plane: int | None) -> tuple[NDArray[Any], str]:  # noqa: ANN401
    """Read one plane; return its pixels and axes."""
    axes, planes = plane_axes(series)
    wanted = check_plane(path, axes, planes, plane)
    if planes == 1:
        return series.asarray(), series.axes
    shape = dict(zip(series.axes, series.shape, strict=True))
    if (
        series.axes.endswith(("YX", "YXS"))
        and len(series.pages) == planes * (shape.get("C", 1) if "C" in series.axes else 1)
        and "C" not in axes
        and shape.get("C", 1) == 1
    ):
        page = series.pages[wanted]
        return page.asarray(), page.axes
    pixels = series.asarray()
    where = [series.axes.index(a) for a in axes]
    pixels = np.moveaxis(pixels, where, range(len(where)))
    rest = "".join(a for a in series.axes if a not in axes)
    return np.ascontiguousarray(pixels.reshape(-1, *pixels.shape[len(where) :])[wanted]), rest


def _palette(colormap: NDArray[Any], pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the palette colours of indices; some programs write 8-bit palettes."""
    table = colormap if colormap.max() < 256 else colormap >> 8
    return np.take(np.ascontiguousarray(table.T.astype(np.uint8)), pixels, axis=0)


def _last_channel(path: PathLike, pixels: NDArray[np.generic], axes: str) -> NDArray[np.generic]:
    """Reshape the pixels of a TIFF series to (H, W) or (H, W, C)."""
    kept = [a for a, n in zip(axes, pixels.shape, strict=False) if n > 1 or a in "YX"]
    pixels = pixels.reshape(
        [n for a, n in zip(axes, pixels.shape, strict=False) if n > 1 or a in "YX"]
    )
    if len(kept) == 3 and kept[1:] == ["Y", "X"]:
        pixels = np.moveaxis(pixels, 0, -1)
    elif len(kept) > 3 or (len(kept) == 3 and kept[:2] != ["Y", "X"]):
        raise InputError(f"{path}: has the axes {axes}, not one image. Save a single RGB plane.")
    return pixels


def check_grey_channels(path: object, pixels: NDArray[Any], names: tuple[str, ...]) -> None:
    """Raise an `InputError` if grey channels are not red, green and blue.

    This is decided by their names, or without names by their brightness: glass is bright in all
    three colours, fluorescence is dark.

    Args:
        path: name for the message.
        pixels: (H, W, C).
        names: channel names in the file; empty if it has none.
    """
    said = [name.strip().lower() for name in names[: pixels.shape[2]]]
    usual = all(n in _RED_GREEN_BLUE or _NO_NAME.fullmatch(n) is not None for n in said)
    remedy = "The model needs the colours of H&E: segment a brightfield image."
    if said and not usual:
        raise InputError(
            f"{path}: contains {pixels.shape[2]} grey channels ({', '.join(names)[:80]}), not red, "
            f"green and blue. {remedy}"
        )
    if {"r", "red"} & set(said) and {"g", "green"} & set(said):
        return
    some = pixels[:: max(1, pixels.shape[0] // 512), :: max(1, pixels.shape[1] // 512), :3]
    largest = max(int(some.max(initial=0)), 255)
    if pixels.shape[2] in (3, 4) and float(np.median(some)) < _DARK * largest:
        raise InputError(
            f"{path}: contains {pixels.shape[2]} dark grey channels without names, as in "
            f"fluorescence. {remedy}"
        )


def is_raw_ycbcr(page: Any) -> bool:  # noqa: ANN401
    """Return whether a page is decoded to YCbCr, not to RGB."""
    return int(page.photometric) == 6 and int(page.compression) not in _JPEG


def ycbcr_tags(page: Any) -> tuple[tuple[float, float, float], tuple[float, ...]]:  # noqa: ANN401
    """Return the YCbCr coefficients and reference values of a page, or the defaults of TIFF."""

    def ratios(name: str, count: int) -> tuple[float, ...] | None:
        tag = page.tags.get(name)
        if tag is None or len(tag.value) not in (count, 2 * count):
            return None
        value = [float(v) for v in tag.value]
        if len(value) == count:
            return tuple(value)
        return tuple(a / (b or 1) for a, b in zip(value[::2], value[1::2], strict=True))

    luma = ratios("YCbCrCoefficients", 3)
    red, green, blue = luma if luma and min(luma) > 0 else (0.299, 0.587, 0.114)
    found = ratios("ReferenceBlackWhite", 6)
    sane = found is not None and all(b > a for a, b in zip(found[::2], found[1::2], strict=True))
    return (red, green, blue), found if found and sane else (0, 255, 128, 255, 128, 255)


def _eight_bits(path: PathLike, pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return YCbCr pixels, or raise an `InputError` if they are not 8-bit."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] < 3:
        raise InputError(f"{path}: the TIFF is YCbCr but not 3 × 8 bits. Export it as RGB.")
    return np.ascontiguousarray(pixels)


def orientation_of(page: Any) -> int:  # noqa: ANN401
    """Return the orientation of a page, 1 to 8."""
    tag = page.tags.get("Orientation")
    found = 1 if tag is None else int(tag.value)
    return found if 1 <= found <= 8 else 1


def _opacity(page: Any) -> int:  # noqa: ANN401
    """Return 1 for premultiplied opacity, 2 for unassociated opacity, 0 without opacity."""
    return next((int(extra) for extra in page.extrasamples if int(extra) in (1, 2)), 0)


def page_notes(page: Any, *said: str) -> tuple[str, ...]:  # noqa: ANN401
    """Return the notes of a page: the non-empty sentences, and an unapplied colour profile.

    Profiles of TIFF are never applied, because slides are TIFF and slide programs ignore them.
    """
    known = tuple(sentence for sentence in said if sentence)
    return known if int(page.photometric) == 5 else (*known, *profile_notes(_profile(page)))


def _profile(page: Any) -> object:  # noqa: ANN401
    """Return the colour profile of a page, if it has one."""
    tag = page.tags.get("InterColorProfile")
    return None if tag is None else tag.value

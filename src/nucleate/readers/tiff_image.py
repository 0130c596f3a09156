"""Bytes of a TIFF file → one image: colour spaces, planes, channels, opacity, orientation."""

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
from nucleate.readers.decoding import profile_notes
from nucleate.readers.limits import MAX_PIXELS, MAX_SAMPLES, check_claim
from nucleate.readers.metadata import channel_names, significant_bits, tiff_resolution
from nucleate.readers.pixels import Stored, from_ycbcr

if TYPE_CHECKING:
    from tifffile import TiffPageSeries

TIFF_ENDINGS = (".tif", ".tiff")
_JPEG = (6, 7, 33007, 34892)  # whose decoder turns YCbCr into RGB itself
_SIZED = (*_JPEG, 33003, 33004, 33005, 34712, 34927, 34933, 50001)  # which state a size themselves
_RED_GREEN_BLUE = {"r", "g", "b", "red", "green", "blue"}
_NO_NAME = re.compile(r"(channel|c)?[\s:_\-0-9]*")  # that programs write by themselves
_DARK = 0.2  # share of the range below which the median of three grey planes is no brightfield


def decode_tiff(
    path: PathLike,
    data: bytes | None,
    most_pixels: int = MAX_PIXELS,
    plane: int | None = None,
    labels: bool = False,
) -> Stored:
    """Return the pixels of a TIFF file, and what it states about them.

    Args:
        path: of the file.
        data: its bytes; None to read `path` from the disk.
        most_pixels: larger images are refused before they are unpacked.
        plane: which of several focal planes or time points, from 1 on.
        labels: give numbers, not colours: palettes stay indices, a resolution is not asked for.

    Raises:
        InputError: it cannot be read, is too large, or contains something else than an image.
    """
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    with (
        reading(path, "TIFF"),
        tifffile.TiffFile(str(path) if data is None else io.BytesIO(data)) as file,
    ):
        _check_samples(path, file.pages[0])
        size = Path(str(path)).stat().st_size if data is None else len(data)
        series = file.series[0]
        page: Any = series.keyframe
        _check_size(path, series, size, most_pixels, plane is not None)
        _check_whole(path, series, size)
        check_pieces(path, file, series, page)
        _check_colours(path, page)
        mpp, unused = (None, "") if labels else tiff_resolution(file, path)
        pixels, axes = _plane(path, series, plane)
        if int(page.photometric) == 3 and page.colormap is not None and not labels:
            pixels, axes = _palette(page.colormap, pixels), axes + "S"
        grey = int(page.photometric) in (0, 1)
        pixels = _last_channel(path, pixels, axes)
        if pixels.ndim == 3 and grey and not labels:
            check_grey_channels(path, pixels, channel_names(file))
        if is_raw_ycbcr(page):
            pixels = from_ycbcr(_eight_bits(path, pixels), *ycbcr_tags(page))
        if pixels.ndim == 3 and pixels.shape[2] == 4 and not _opacity(page):
            pixels = pixels[..., :3]  # a fourth sample that means nothing stated
        return Stored(
            pixels,
            mpp,
            orientation_of(page),
            None if labels else significant_bits(file),
            _opacity(page) == 1,
            _notes(page, unused, labels),
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
    """Raise an `InputError` for what would need too much memory."""
    page: Any = series.keyframe
    bytes_ = series.nbytes
    if one:
        bytes_ = page.imagewidth * page.imagelength * page.samplesperpixel * page.dtype.itemsize
    most = max(  # of the image, of a piece that is unpacked at once, of all bytes
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
    """Raise an `InputError` for colour spaces that are not turned into RGB."""
    if int(page.photometric) in (5, 8, 9, 10):  # inks, or Lab: decoded as they are, colours lie
        raise InputError(
            f"{path}: the TIFF contains {page.photometric.name}, not RGB. Export it as RGB."
        )
    if is_raw_ycbcr(page) and tuple(page.subsampling or (1, 1)) != (1, 1):
        raise InputError(
            f"{path}: the TIFF contains YCbCr with subsampled colours that is not compressed as "
            "JPEG. Export it as RGB."
        )


def check_pieces(path: PathLike, file: Any, series: Any, page: Any) -> None:  # noqa: ANN401
    """Raise an `InputError` where a piece states another size than the TIFF has pieces of."""
    if int(page.compression) not in _SIZED:
        return
    handle = file.filehandle
    for one in series.pages:
        if one is None:
            continue
        for offset, count in zip(one.dataoffsets, one.databytecounts, strict=False):
            if count:
                handle.seek(offset)
                check_piece(path, handle.read(min(count, 1 << 16)), page)


def check_piece(path: object, head: bytes, page: Any) -> None:  # noqa: ANN401
    """Raise an `InputError` where a compressed piece states far more pixels than it may have.

    Args:
        path: named in the message.
        head: first bytes of the piece.
        page: of tifffile.
    """
    found = coded_size(head)
    if found is None:
        return
    wide, high = found
    claimed = math.prod(page.chunks)
    if wide * high > max(4 * claimed, 1 << 16):
        raise InputError(
            f"{path}: a piece of {' × '.join(map(str, page.chunks[:2]))} pixels unpacks to "
            f"{high} × {wide}. The file is damaged, or made to fill the memory: export it again."
        )


def coded_size(head: bytes) -> tuple[int, int] | None:
    """Return width and height as a JPEG, JPEG 2000, PNG or WebP stream states them; None else.

    Example:
        >>> coded_size(bytes.fromhex("89504e470d0a1a0a0000000d49484452000000020000000308"))
        (2, 3)
    """

    def number(at: int, n: int, order: Any = "big") -> int:  # noqa: ANN401
        return int.from_bytes(head[at : at + n], order)

    if head.startswith(b"\x89PNG"):
        return number(16, 4), number(20, 4)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _webp_size(head)
    siz = head.find(b"\xff\x4f\xff\x51", 0, 512)
    if siz >= 0:
        return number(siz + 8, 4), number(siz + 12, 4)
    if not head.startswith(b"\xff\xd8"):
        return None
    at = 2
    while at + 9 < len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in (0xC4, 0xC8, 0xCC) or not (0xC0 <= marker <= 0xCF or marker == 0xF7):
            at += 2 + number(at + 2, 2)
        else:
            return number(at + 7, 2), number(at + 5, 2)
    return None


def _webp_size(head: bytes) -> tuple[int, int]:
    """Return width and height of a WebP stream."""

    def number(at: int, n: int) -> int:
        return int.from_bytes(head[at : at + n], "little")

    kind = head[12:16]
    if kind == b"VP8X":
        return number(24, 3) + 1, number(27, 3) + 1
    if kind == b"VP8L":
        bits = number(21, 4)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return number(26, 2) & 0x3FFF, number(28, 2) & 0x3FFF


def plane_axes(series: Any) -> tuple[str, int]:  # noqa: ANN401
    """Return the axes of a TIFF series that count planes, and how many planes there are.

    Three or four channels are colours, and more are left to anyone who reads them.
    """
    axes = [
        (a, n) for a, n in zip(series.axes, series.shape, strict=False) if a not in "YXSC" and n > 1
    ]
    return "".join(a for a, _ in axes), math.prod(n for _, n in axes)


def check_plane(path: PathLike, axes: str, planes: int, plane: int | None) -> int:
    """Return which plane is meant, from 0 on; raise an `InputError` unless that is clear."""
    if plane is not None and not 1 <= plane <= planes:
        raise InputError(f"{path}: has {planes} planes. Choose --plane 1 to {planes}.")
    if plane is None and planes > 1:
        raise InputError(
            f"{path}: contains {planes} planes or time points (axes {axes}), not one image. Choose "
            f"one with --plane 1 to {planes}, or save it as a separate file."
        )
    return 0 if plane is None else plane - 1


def _plane(path: PathLike, series: Any, plane: int | None) -> tuple[NDArray[Any], str]:  # noqa: ANN401
    """Return the pixels of one plane, and their axes."""
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
    """Return the colours that indices stand for; some programs write colours of 8 bits."""
    table = colormap if colormap.max() < 256 else colormap >> 8
    return np.take(np.ascontiguousarray(table.T.astype(np.uint8)), pixels, axis=0)


def _last_channel(path: PathLike, pixels: NDArray[np.generic], axes: str) -> NDArray[np.generic]:
    """Bring a TIFF series to (H, W) or (H, W, C)."""
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
    """Raise an `InputError` where grey channels are not red, green and blue.

    Their names tell; without names their brightness does: glass is bright in all three colours,
    fluorescence is dark.

    Args:
        path: named in the message.
        pixels: (H, W, C).
        names: of the channels as the file has them; empty where it has none.
    """
    said = [name.strip().lower() for name in names[: pixels.shape[2]]]
    usual = all(n in _RED_GREEN_BLUE or _NO_NAME.fullmatch(n) is not None for n in said)
    remedy = "The model reads the colours of H&E: segment a brightfield image."
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
            f"{path}: contains {pixels.shape[2]} dark grey channels without names, as those "
            f"of fluorescence are. {remedy}"
        )


def is_raw_ycbcr(page: Any) -> bool:  # noqa: ANN401
    """Return whether a page is decoded to luma and chroma, not to colours."""
    return int(page.photometric) == 6 and int(page.compression) not in _JPEG


def ycbcr_tags(page: Any) -> tuple[tuple[float, float, float], tuple[float, ...]]:  # noqa: ANN401
    """Return coefficients and reference values of luma and chroma, as the page or TIFF has them."""

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
    """Return pixels of YCbCr, or raise an `InputError` where they are not 8 bits."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] < 3:
        raise InputError(f"{path}: the TIFF is YCbCr, but not 3 × 8 bits. Export it as RGB.")
    return np.ascontiguousarray(pixels)


def orientation_of(page: Any) -> int:  # noqa: ANN401
    """Return how the stored pixels of a page are turned: 1 to 8."""
    tag = page.tags.get("Orientation")
    found = 1 if tag is None else int(tag.value)
    return found if 1 <= found <= 8 else 1


def _opacity(page: Any) -> int:  # noqa: ANN401
    """Return 1 where a page is multiplied by its opacity, 2 where it is not, 0 without opacity."""
    return next((int(extra) for extra in page.extrasamples if int(extra) in (1, 2)), 0)


def _notes(page: Any, unused: str, labels: bool) -> tuple[str, ...]:  # noqa: ANN401
    """Return what has to be said about a page."""
    said = (unused,) if unused else ()
    return said if labels else (*said, *profile_notes(_profile(page)))


def _profile(page: Any) -> object:  # noqa: ANN401
    """Return the colour profile of a page, if it has one."""
    tag = page.tags.get("InterColorProfile")
    return None if tag is None else tag.value

"""Read tiled and striped TIFF and OME-TIFF, including pyramids, piece by piece."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from nucleate.errors import InputError, explain_os_error
from nucleate.readers.limits import MAX_SAMPLES, PIECE_BYTES
from nucleate.readers.metadata import main_series, tiff_resolution
from nucleate.readers.pieces import check_piece
from nucleate.readers.pixels import from_ycbcr, upright
from nucleate.readers.source import REMEDY, RegionError, whole_ratio
from nucleate.readers.tiff_image import (
    check_plane,
    is_raw_ycbcr,
    orientation_of,
    page_notes,
    plane_axes,
    ycbcr_tags,
)
from nucleate.types import UInt8

_LARGE_PIXELS = 1 << 26  # a TIFF of at least 8192 squared is read region by region
_CACHED_BYTES = PIECE_BYTES  # cache of decoded pieces, which neighbouring regions share


def is_large(path: Path) -> bool:
    """Return whether a TIFF is too large to be read at once."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    try:
        with tifffile.TiffFile(path) as file:
            page = main_series(file)[0].keyframe
            pixels = int(page.imagewidth) * int(page.imagelength)
            return pixels >= _LARGE_PIXELS and page.samplesperpixel <= MAX_SAMPLES
    except Exception:  # the error is reported when the file is read
        return False


class UnusualTiffError(InputError):
    """A TIFF that cannot be read piece by piece; another reader may support it."""


class TiffSource:
    """An 8-bit RGB TIFF in tiles or strips; levels are those of the pyramid."""

    origin_xy = (0, 0)

    def __init__(self, path: Path, plane: int | None = None) -> None:
        import tifffile

        logging.getLogger("tifffile").setLevel(logging.CRITICAL)
        self.name, self._path = path.name, path
        try:
            with tifffile.TiffFile(path) as file:
                series, others = main_series(file)
                levels = series.levels
                axes, planes = plane_axes(levels[0])
                wanted = check_plane(path, axes, planes, plane)
                self._pages = [_page_of(level, planes, wanted) for level in levels]
                for page in self._pages:
                    _ = page.decode, page.jpegtables  # cached while the file is open
                self._luma = [
                    ycbcr_tags(page) if is_raw_ycbcr(page) else None for page in self._pages
                ]
                self._orientation = orientation_of(self._pages[0])
                self.mpp, unused = tiff_resolution(file, path, levels[0].keyframe)
                self.notes = page_notes(self._pages[0], unused, others)
        except InputError:
            raise
        except OSError as error:
            raise InputError(explain_os_error(error, path)) from error
        except Exception as error:  # malformed headers may raise any exception
            raise UnusualTiffError(f"{path}: cannot be read as TIFF. {REMEDY}") from error
        first = self._pages[0]
        self.width, self.height = self._turned(int(first.imagewidth), int(first.imagelength))
        usual = all(
            page.dtype == np.uint8
            and page.samplesperpixel == 3
            and page.planarconfig == 1
            and int(page.photometric) in (2, 6)
            and getattr(page, "imagedepth", 1) == 1
            and (not is_raw_ycbcr(page) or tuple(page.subsampling or (1, 1)) == (1, 1))
            for page in self._pages
        )
        if not usual:
            raise UnusualTiffError(f"{path}: is not an 8-bit RGB TIFF. Convert it to one.")
        self.downsamples = tuple(
            whole_ratio(int(first.imagewidth), page.imagewidth) for page in self._pages
        )
        self.level_sizes = tuple(
            self._turned(page.imagewidth, page.imagelength) for page in self._pages
        )
        largest = max(3 * page.chunks[0] * page.chunks[1] for page in self._pages)
        if largest > _CACHED_BYTES:
            raise UnusualTiffError(
                f"{path}: is written in pieces of {largest >> 20} MiB, too large to be read one by "
                "one. Convert it to a tiled TIFF."
            )
        self._piece = lru_cache(max(2, _CACHED_BYTES // largest))(self._decode)

    def read(self, x0: int, y0: int, x1: int, y1: int, level: int = 0) -> UInt8:
        """Return an upright region; pieces missing in the file are white."""
        box = _stored_box((x0, y0, x1, y1), self.level_sizes[level], self._orientation)
        return np.ascontiguousarray(upright(self._read(*box, level), self._orientation))

    def _turned(self, width: int, height: int) -> tuple[int, int]:
        """Return the upright width and height from those stored."""
        return (height, width) if self._orientation in (5, 6, 7, 8) else (width, height)

    def _read(self, x0: int, y0: int, x1: int, y1: int, level: int) -> UInt8:
        """Return a region as it is stored."""
        page = self._pages[level]
        high, wide = page.chunks[:2]
        across = -(-page.imagewidth // wide)
        out = np.full((y1 - y0, x1 - x0, 3), 255, np.uint8)
        for row in range(y0 // high, -(-y1 // high)):
            for column in range(x0 // wide, -(-x1 // wide)):
                piece = self._piece(level, row * across + column)
                if piece is None:
                    continue
                top, left = row * high, column * wide
                bottom, right = top + piece.shape[0], left + piece.shape[1]
                a, b = max(top, y0), min(bottom, y1)
                c, d = max(left, x0), min(right, x1)
                out[a - y0 : b - y0, c - x0 : d - x0] = piece[
                    a - top : b - top, c - left : d - left
                ]
        return out

    def _decode(self, level: int, index: int) -> UInt8 | None:
        """Return one tile or strip, None if it is missing in the file."""
        page = self._pages[level]
        try:
            offset, size = page.dataoffsets[index], page.databytecounts[index]
            if size == 0:
                return None
            with open(self._path, "rb") as file:
                file.seek(offset)
                data = file.read(size)
            if len(data) < size:
                raise ValueError("the file ends before it")
            check_piece(self._path, data[: 1 << 16], page)
            piece, _, shape = page.decode(data, index, jpegtables=page.jpegtables)
            if piece is None:
                return None
            found = np.ascontiguousarray(piece[0, : shape[1], : shape[2]], np.uint8)
            luma = self._luma[level]
            return found if luma is None else from_ycbcr(found, *luma)
        except InputError as error:
            raise RegionError(str(error)) from error
        except Exception as error:
            if not self._path.exists():
                raise InputError(f"{self._path}: is missing. Restore it, and resume.") from error
            raise RegionError(
                f"{self._path}: piece {index} of level {level} cannot be read ({error}). {REMEDY}"
            ) from error


def _page_of(level: Any, planes: int, plane: int) -> Any:  # noqa: ANN401
    """Return the page of a level that contains a plane, with the tags of the first page."""
    if planes == 1:
        return level.keyframe
    if len(level.pages) != planes:
        raise InputError("its planes are not separate pages. Save one as a separate file.")
    page = level.pages[plane]
    return page if page is level.keyframe else page.aspage()


def _stored_box(
    box: tuple[int, int, int, int], size: tuple[int, int], orientation: int
) -> tuple[int, int, int, int]:
    """Return the stored region of a region in the upright image.

    Args:
        box: x0, y0, x1, y1 in the upright image.
        size: width and height of the upright image.
        orientation: 1 to 8.

    Example:
        >>> _stored_box((0, 0, 3, 1), (10, 20), 6)
        (0, 7, 1, 10)
    """
    (x0, y0, x1, y1), (width, height) = box, size
    if orientation in (3, 4, 7, 8):
        y0, y1 = height - y1, height - y0
    if orientation in (2, 3, 6, 7):
        x0, x1 = width - x1, width - x0
    return (y0, x0, y1, x1) if orientation in (5, 6, 7, 8) else (x0, y0, x1, y1)

"""Tiled and striped TIFF and OME-TIFF, also as pyramids, read piece by piece."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path

import numpy as np

from nucleate.errors import InputError, explain_os_error
from nucleate.readers.metadata import tiff_mpp
from nucleate.readers.source import REMEDY, RegionError, whole_ratio
from nucleate.types import UInt8

_LARGE_PIXELS = 1 << 26  # from 8192 squared on, a TIFF is read region by region
_CACHED_BYTES = 64 << 20  # of pieces that are kept decoded: neighbouring regions share them


def is_large(path: Path) -> bool:
    """Return whether a TIFF has too many pixels to be read at once."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    try:
        with tifffile.TiffFile(path) as file:
            page = file.series[0].keyframe
            return int(page.imagewidth) * int(page.imagelength) >= _LARGE_PIXELS
    except Exception:  # whoever reads it whole says what is wrong
        return False


class TiffSource:
    """A TIFF of 8-bit RGB, in tiles or strips; levels are those of the pyramid."""

    origin_xy = (0, 0)

    def __init__(self, path: Path) -> None:
        import tifffile

        logging.getLogger("tifffile").setLevel(logging.CRITICAL)
        self.name, self._path = path.name, path
        try:
            with tifffile.TiffFile(path) as file:
                levels = file.series[0].levels
                self._pages = [level.keyframe for level in levels]
                for page in self._pages:
                    _ = page.decode, page.jpegtables  # made from tags that are in the file
                self.mpp = tiff_mpp(file)
        except OSError as error:
            raise InputError(explain_os_error(error, path)) from error
        except Exception as error:  # hostile headers raise anything
            raise InputError(f"{path}: cannot be read as TIFF. {REMEDY}") from error
        first = self._pages[0]
        self.width, self.height = int(first.imagewidth), int(first.imagelength)
        usual = all(
            page.dtype == np.uint8
            and page.samplesperpixel == 3
            and page.planarconfig == 1
            and int(page.photometric) in (2, 6)
            and getattr(page, "imagedepth", 1) == 1
            for page in self._pages
        )
        if not usual:
            raise InputError(f"{path}: is no TIFF of 8-bit RGB. Convert it to one.")
        self.downsamples = tuple(whole_ratio(self.width, page.imagewidth) for page in self._pages)
        self.level_sizes = tuple((page.imagewidth, page.imagelength) for page in self._pages)
        largest = max(3 * page.chunks[0] * page.chunks[1] for page in self._pages)
        if largest > _CACHED_BYTES:
            raise InputError(
                f"{path}: is written in pieces of {largest >> 20} MiB, too large to be read one by "
                "one. Convert it to a tiled TIFF."
            )
        self._piece = lru_cache(max(2, _CACHED_BYTES // largest))(self._decode)

    def read(self, x0: int, y0: int, x1: int, y1: int, level: int = 0) -> UInt8:
        """Return a region; pieces that the file leaves out are white."""
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
        """Return one tile or strip, None where the file holds none."""
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
            piece, _, shape = page.decode(data, index, jpegtables=page.jpegtables)
            if piece is None:
                return None
            return np.ascontiguousarray(piece[0, : shape[1], : shape[2]], np.uint8)
        except Exception as error:
            if not self._path.exists():
                raise InputError(f"{self._path}: is gone. Bring it back, and resume.") from error
            raise RegionError(
                f"{self._path}: piece {index} of level {level} cannot be read ({error}). {REMEDY}"
            ) from error

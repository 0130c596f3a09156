"""Deep-zoom tiles of any image or slide; each level halves the resolution."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from functools import cached_property, lru_cache

import cv2
import numpy as np

from nucleate.errors import InputError
from nucleate.readers.reader import UNREAD_RGB, Reader
from nucleate.readers.source import RegionError, Source
from nucleate.types import UInt8

TILE_PX = 512
_OVERVIEW_PX = 2048  # longest edge of the cached overview, for levels that the file lacks
_TOO_FINE = 8  # a level up to this many times finer than requested is read directly
_KEPT = 512  # cached tiles; about 50 MB as JPEG


class Pyramid:
    """The tiles of one image. A pixel of level k covers 2^k level-0 pixels.

    A file that lacks coarse levels is read once as a whole, at a coarse resolution, when the first
    of these is requested. Reads are serialised, because not all readers are thread-safe.

    Args:
        opener: function that opens the image on first use.
    """

    def __init__(self, opener: Callable[[], Source]) -> None:
        self._opener = opener
        self._lock = threading.Lock()
        self._coarse: UInt8 | None = None
        self.tile = lru_cache(_KEPT)(self._tile)

    @cached_property
    def source(self) -> Source:
        """The open image.

        Raises:
            InputError: it cannot be read, or does not fit the results.
        """
        return self._opener()

    def _tile(self, level: int, column: int, row: int) -> bytes:
        """Return a tile as JPEG; parts that cannot be read have the colour `UNREAD_RGB`.

        Raises:
            InputError: there is no such tile.
        """
        scale = 2.0 ** min(max(level, 0), 32)
        x0, y0 = column * TILE_PX * scale, row * TILE_PX * scale
        if not (0 <= level < 32 and 0 <= x0 < self.source.width and 0 <= y0 < self.source.height):
            raise InputError(f"There is no tile {column}, {row} of level {level}.")
        x1 = min(x0 + TILE_PX * scale, self.source.width)
        y1 = min(y0 + TILE_PX * scale, self.source.height)
        return encode(self.read((x0, y0, x1, y1), scale))

    def read(self, box_xyxy: tuple[float, float, float, float], scale: float) -> UInt8:
        """Return a region at `scale` level-0 pixels per pixel.

        Args:
            box_xyxy: box inside the image, in level-0 pixels.
            scale: level-0 pixels per pixel of the result.

        Returns:
            uint8 (h, w, 3); h and w are the size of the box over `scale`, rounded up.
        """
        x0, y0, x1, y1 = box_xyxy
        size = max(1, int(np.ceil((x1 - x0) / scale))), max(1, int(np.ceil((y1 - y0) / scale)))
        fine = [i for i, down in enumerate(self.source.downsamples) if down <= max(scale, 1.0)]
        level = max(fine, key=lambda i: self.source.downsamples[i])
        with self._lock:
            if scale > _TOO_FINE * self.source.downsamples[level]:
                block, wide, high = self._overview(), self.source.width, self.source.height
                box = _within(box_xyxy, block.shape[1] / wide, block.shape[0] / high, block.shape)
                part = block[box[1] : box[3], box[0] : box[2]]
            else:
                wide, high = self.source.level_sizes[level]
                ratio = 1 / self.source.downsamples[level]
                box = _within(box_xyxy, ratio, ratio, (high, wide))
                try:
                    part = self.source.read(*box, level)
                except RegionError:
                    part = np.full((size[1], size[0], 3), UNREAD_RGB, np.uint8)
        if part.shape[:2] == (size[1], size[0]):
            return np.ascontiguousarray(part)
        shrinks = part.shape[1] >= size[0]
        way = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        return np.asarray(cv2.resize(part, size, interpolation=way), np.uint8)

    def _overview(self) -> UInt8:
        if self._coarse is None:
            longest = max(self.source.width, self.source.height)
            slide = Reader(self.source, 1.0)  # in units of level-0 pixels
            self._coarse = slide.overview(max(1.0, longest / _OVERVIEW_PX))
        return self._coarse


def _within(
    box_xyxy: tuple[float, float, float, float],
    x_ratio: float,
    y_ratio: float,
    shape: tuple[int, ...],
) -> tuple[int, int, int, int]:
    """Return the pixels of a level that a box touches, at least one.

    Example:
        >>> _within((10, 10, 20, 21), 0.5, 0.5, (50, 50))
        (5, 5, 10, 11)
    """
    x0, y0, x1, y1 = box_xyxy
    left = min(int(np.floor(x0 * x_ratio + 1e-6)), shape[1] - 1)
    top = min(int(np.floor(y0 * y_ratio + 1e-6)), shape[0] - 1)
    right = min(max(int(np.ceil(x1 * x_ratio - 1e-6)), left + 1), shape[1])
    bottom = min(max(int(np.ceil(y1 * y_ratio - 1e-6)), top + 1), shape[0])
    return left, top, right, bottom


def encode(image: UInt8) -> bytes:
    """Encode an image as JPEG."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=88)
    return out.getvalue()

"""Read a slide at any resolution, with the mapping between asked, read and level-0 pixels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from nucleate.geometry.resample import margin_px, resample
from nucleate.readers.source import RegionError, Source
from nucleate.resolution import SAME_MPP, grid_ratio
from nucleate.types import UInt8

PixelBox = tuple[int, int, int, int]  # x0, y0, x1, y1, half-open
UNREAD_RGB = (
    150,
    90,
    140,
)  # colour of tissue, so that tiles there are attempted
_PIECE = 256  # edge of the smallest piece marked as unreadable
_BLOCK_PIXELS = 1 << 24  # level-0 pixels read at a time for an overview


@dataclass(frozen=True, slots=True)
class Grid:
    """The three pixel grids of a read, with a common corner: asked, read, and level 0.

    Asked pixels have the resolution that the caller asks for; read pixels are those of the level
    of the file from which they are resampled; results are in level-0 pixels.

    Attributes:
        width: width of the whole image in asked pixels.
        height: height of the whole image in asked pixels.
        mpp: micrometres per asked pixel; may differ by up to 5 % from the request, to avoid
            resampling.
        asked_per_level0: asked pixels per level-0 pixel.
        level: level of the file that is read.
        level0_per_read: its downsample.
    """

    width: int
    height: int
    mpp: float
    asked_per_level0: float
    level: int
    level0_per_read: float

    @property
    def asked_per_read(self) -> float:
        """Asked pixels per read pixel; 1 without resampling."""
        ratio = self.asked_per_level0 * self.level0_per_read
        return 1.0 if abs(ratio - 1) < 1e-9 else ratio


@dataclass(frozen=True, slots=True)
class Reader:
    """A source with a known resolution.

    Attributes:
        source: source of the pixels.
        mpp: micrometres per level-0 pixel.
    """

    source: Source
    mpp: float

    def grid(self, mpp: float) -> Grid:
        """Return the grids for reading at `mpp` micrometres per pixel.

        The level is the coarsest that is at least as fine as requested. A level within 5 % of the
        request is not resampled.

        Example:
            >>> from nucleate.readers.array import ArraySource
            >>> reader = Reader(ArraySource(np.zeros((30, 40, 3), np.uint8)), 0.25)
            >>> reader.grid(0.5)
            Grid(width=20, height=15, mpp=0.5, asked_per_level0=0.5, level=0, level0_per_read=1.0)
        """
        ratio = grid_ratio(self.mpp, mpp)
        level, downs = 0, self.source.downsamples
        for i, down in enumerate(downs[1:], start=1):
            if ratio * down <= 1 + SAME_MPP and down > downs[level]:
                level = i
        if abs(ratio * downs[level] - 1) <= SAME_MPP:
            ratio = 1 / downs[level]
        return Grid(
            max(1, round(self.source.width * ratio)),
            max(1, round(self.source.height * ratio)),
            self.mpp / ratio,
            ratio,
            level,
            downs[level],
        )

    def read(self, region: PixelBox, mpp: float) -> UInt8:
        """Return the pixels of a region, mirrored beyond the image.

        The value of a pixel does not depend on the region in which it is read.

        Args:
            region: x0, y0, x1, y1 in pixels of `mpp`, see `grid`.
            mpp: micrometres per pixel of the result.

        Returns:
            uint8 (y1 - y0, x1 - x0, 3).

        Raises:
            RegionError: this region cannot be read.
            InputError: the source can no longer be read.
        """
        grid = self.grid(mpp)
        scale = grid.asked_per_read
        x0, y0, x1, y1 = region
        if scale == 1.0:
            return self._mirrored(x0, y0, x1, y1, grid)
        margin = margin_px(scale)
        left, top = int(np.floor(x0 / scale)) - margin, int(np.floor(y0 / scale)) - margin
        right, bottom = int(np.ceil(x1 / scale)) + margin, int(np.ceil(y1 / scale)) + margin
        pixels = self._mirrored(left, top, right, bottom, grid)
        start = x0 / scale - left, y0 / scale - top
        return resample(pixels, (scale, scale), start, (x1 - x0, y1 - y0))

    def overview(self, mpp: float) -> UInt8:
        """Return the whole image at a coarse resolution, read block by block.

        Parts that cannot be read have the colour `UNREAD_RGB`, in pieces as small as possible.
        """
        grid = self.grid(mpp)
        edge = max(1, int(_BLOCK_PIXELS**0.5 * grid.asked_per_read))
        wide, high = self._read_size(grid)
        out = np.full((grid.height, grid.width, 3), 255, np.uint8)
        for y in range(0, grid.height, edge):
            for x in range(0, grid.width, edge):
                right, bottom = min(x + edge, grid.width), min(y + edge, grid.height)
                box = (
                    x * wide // grid.width,
                    y * high // grid.height,
                    max(right * wide // grid.width, 1),
                    max(bottom * high // grid.height, 1),
                )
                block = self._readable(box, grid.level)
                size = (right - x, bottom - y)
                out[y:bottom, x:right] = cv2.resize(block, size, interpolation=cv2.INTER_AREA)
        return out

    def whole(self) -> UInt8:
        """Return all pixels of level 0; parts that cannot be read have the colour `UNREAD_RGB`."""
        return self._readable((0, 0, self.source.width, self.source.height), 0)

    def _readable(self, box: PixelBox, level: int) -> UInt8:
        """Return a region of a level, with unreadable pieces of 256 pixels in `UNREAD_RGB`."""
        try:
            return self.source.read(*box, level)
        except RegionError:
            x0, y0, x1, y1 = box
            out = np.full((y1 - y0, x1 - x0, 3), UNREAD_RGB, np.uint8)
            if max(x1 - x0, y1 - y0) <= _PIECE:
                return out
            half = max(_PIECE, (max(x1 - x0, y1 - y0) // 2 + _PIECE - 1) // _PIECE * _PIECE)
            for y in range(y0, y1, half):
                for x in range(x0, x1, half):
                    right, bottom = min(x + half, x1), min(y + half, y1)
                    part = self._readable((x, y, right, bottom), level)
                    out[y - y0 : bottom - y0, x - x0 : right - x0] = part
            return out

    def _read_size(self, grid: Grid) -> tuple[int, int]:
        """Return width and height of the image in read pixels."""
        return self.source.level_sizes[grid.level]

    def _mirrored(self, x0: int, y0: int, x1: int, y1: int, grid: Grid) -> UInt8:
        """Return read pixels of a region, mirrored where it extends beyond the image."""
        width, height = self._read_size(grid)
        left, right = max(0, min(x0, 2 * width - x1)), min(width, max(x1, -x0))
        top, bottom = max(0, min(y0, 2 * height - y1)), min(height, max(y1, -y0))
        region = np.ascontiguousarray(self.source.read(left, top, right, bottom, grid.level))
        if (left, top, right, bottom) == (x0, y0, x1, y1):
            return region
        above, before = max(0, -y0), max(0, -x0)
        after = max(0, y1 - height), before, max(0, x1 - width)
        padded = cv2.copyMakeBorder(region, above, *after, cv2.BORDER_REFLECT)
        y0, y1 = y0 - top + above, y1 - top + above
        x0, x1 = x0 - left + before, x1 - left + before
        return np.ascontiguousarray(padded[y0:y1, x0:x1])

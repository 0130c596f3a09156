"""Read a few windows of an image, on which all plausibility checks run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nucleate.geometry.outlines import rasterise
from nucleate.quality.tissue import Tissue
from nucleate.readers.reader import Reader
from nucleate.readers.source import RegionError
from nucleate.types import Bool, Instances, Int32, UInt8

WINDOW_PX = 256
_ACROSS = 3  # windows per row and per column, if the image is larger than all of them
_CANDIDATES = 8  # candidates per row and per column, from which windows on tissue are chosen


@dataclass(frozen=True, slots=True)
class Window:
    """A window of an image.

    Attributes:
        x: x of its left edge, in level-0 pixels.
        y: y of its upper edge, in level-0 pixels.
        pixels: uint8 (h, w, 3).
    """

    x: int
    y: int
    pixels: UInt8

    def inside(self, nuclei: Instances) -> Bool:
        """Return which of its pixels are in nuclei: bool (h, w)."""
        high, wide = self.pixels.shape[:2]
        x0, y0, x1, y1 = nuclei.boxes_xyxy.T
        here = (x1 > self.x) & (y1 > self.y) & (x0 < self.x + wide) & (y0 < self.y + high)
        near = nuclei.take(here)
        corner = np.array([self.x, self.y], np.float32)
        return rasterise(near.coords_xy - corner, near.offsets, (high, wide))[0] > 0


def glimpse(reader: Reader, tissue: Tissue | None = None) -> list[Window]:
    """Return at most nine windows of 256 pixels, spread evenly over an image, or over its tissue.

    An image of up to 768 × 768 pixels is one window. Windows that cannot be read are omitted.

    Example:
        >>> from nucleate.readers.array import ArraySource
        >>> wide = Reader(ArraySource(np.zeros((256, 2000, 3), np.uint8)), 0.25)
        >>> [(window.x, window.y) for window in glimpse(wide)]
        [(0, 0), (872, 0), (1744, 0)]
    """
    wide, high = reader.source.width, reader.source.height
    if max(wide, high) <= _ACROSS * WINDOW_PX:
        corners = [(0, 0, wide, high)]
    else:
        count = _ACROSS if tissue is None else _CANDIDATES
        corners = [
            (x, y, min(x + WINDOW_PX, wide), min(y + WINDOW_PX, high))
            for y in _starts(high, count)
            for x in _starts(wide, count)
        ]
    if tissue is not None:
        corners = [box for box in corners if tissue.touches(box, 1.0)]
        corners = corners[:: max(1, len(corners) // _ACROSS**2)][: _ACROSS**2]
    found = []
    for box in corners:
        try:
            found.append(Window(box[0], box[1], reader.source.read(*box)))
        except RegionError:
            continue
    return found


def whole(image: UInt8, labels: Int32 | None = None) -> tuple[list[Window], list[Bool]]:
    """Return an image in memory as one window, and which of its pixels are labelled.

    Example:
        >>> windows, inside = whole(np.zeros((2, 2, 3), np.uint8), np.eye(2, dtype=np.int32))
        >>> len(windows), inside[0].tolist()
        (1, [[True, False], [False, True]])
    """
    mask = np.zeros(image.shape[:2], np.bool_) if labels is None else labels > 0
    return [Window(0, 0, image)], [mask]


def _starts(edge: int, count: int) -> list[int]:
    """Return start positions of windows spread evenly over an edge, without duplicates."""
    last = max(0, edge - WINDOW_PX)
    return sorted(set(np.linspace(0, last, count).astype(int).tolist()))

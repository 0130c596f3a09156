"""An image in memory as a source of pixels."""

from __future__ import annotations

from nucleate.readers.images import ImageFile, image_in_memory
from nucleate.types import UInt8


class ArraySource:
    """An image in memory."""

    downsamples: tuple[float, ...] = (1.0,)

    def __init__(self, image: object, mpp: float | None = None, name: str = "image") -> None:
        found = image if isinstance(image, ImageFile) else image_in_memory(name, image)
        self._image, self.notes = found.pixels, found.notes
        self.name, self.origin_xy = name, (0, 0)
        self.mpp = found.mpp if mpp is None else mpp
        self.height, self.width = self._image.shape[:2]
        self.level_sizes: tuple[tuple[int, int], ...] = ((self.width, self.height),)

    def read(self, x0: int, y0: int, x1: int, y1: int, level: int = 0) -> UInt8:
        """Return a region."""
        return self._image[y0:y1, x0:x1]

"""An image in memory as a source of pixels."""

from __future__ import annotations

from nucleate.readers.images import as_image
from nucleate.types import UInt8


class ArraySource:
    """A picture that is in memory already."""

    downsamples: tuple[float, ...] = (1.0,)

    def __init__(self, image: object, mpp: float | None = None, name: str = "image") -> None:
        self._image = as_image(name, image)
        self.name, self.mpp, self.origin_xy = name, mpp, (0, 0)
        self.height, self.width = self._image.shape[:2]
        self.level_sizes: tuple[tuple[int, int], ...] = ((self.width, self.height),)

    def read(self, x0: int, y0: int, x1: int, y1: int, level: int = 0) -> UInt8:
        """Return a region."""
        return self._image[y0:y1, x0:x1]

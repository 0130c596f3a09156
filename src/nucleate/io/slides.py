"""Sources of pixels: anything from a small picture to a slide, read region by region at level 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nucleate.errors import InputError, explain_os_error
from nucleate.io.images import PICTURES, plausible_mpp, read_image
from nucleate.types import UInt8

SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".vms", ".vmu", ".dcm")
_BIG_TIFF_BYTES = 256 << 20  # a TIFF above this size is read region by region where possible


class Source(Protocol):
    """Pixels of level 0, on demand."""

    name: str
    width: int
    height: int
    mpp: float | None
    origin_xy: tuple[int, int]
    """Where the corner of this picture lies in the file's level 0."""

    def read(self, x0: int, y0: int, x1: int, y1: int) -> UInt8:
        """Return uint8 (y1 - y0, x1 - x0, 3) of a region that lies inside the picture."""
        ...


class ArraySource:
    """A picture that is in memory already."""

    def __init__(self, image: UInt8, mpp: float | None = None, name: str = "image") -> None:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise InputError(
                f"{name}: must be uint8 of shape (height, width, 3), but it is {image.dtype} of "
                f"shape {image.shape}. Convert it to 8-bit RGB."
            )
        self._image = image
        self.name, self.mpp, self.origin_xy = name, mpp, (0, 0)
        self.height, self.width = image.shape[:2]

    def read(self, x0: int, y0: int, x1: int, y1: int) -> UInt8:
        """Return a region."""
        return self._image[y0:y1, x0:x1]


class OpenSlideSource:
    """A whole slide in one of OpenSlide's formats.

    Where the scanner states bounds (MRXS, some NDPI), the picture is what lies inside them, as in
    QuPath, and `origin_xy` says where that is.
    """

    def __init__(self, path: Path) -> None:
        import openslide

        try:
            self._slide: Any = openslide.OpenSlide(str(path))
        except (openslide.OpenSlideError, OSError) as error:
            raise InputError(f"{path}: cannot be opened as a slide ({error}). {_REMEDY}") from error
        properties = self._slide.properties
        width, height = self._slide.dimensions
        self.origin_xy = (
            int(properties.get(openslide.PROPERTY_NAME_BOUNDS_X, 0)),
            int(properties.get(openslide.PROPERTY_NAME_BOUNDS_Y, 0)),
        )
        self.width = int(properties.get(openslide.PROPERTY_NAME_BOUNDS_WIDTH, width))
        self.height = int(properties.get(openslide.PROPERTY_NAME_BOUNDS_HEIGHT, height))
        self.name, self._path = path.name, path
        self.mpp = plausible_mpp(properties.get(openslide.PROPERTY_NAME_MPP_X))

    def read(self, x0: int, y0: int, x1: int, y1: int) -> UInt8:
        """Return a region; what the scanner left out is white."""
        import openslide

        try:
            left, top = self.origin_xy
            region = self._slide.read_region((left + x0, top + y0), 0, (x1 - x0, y1 - y0))
        except (openslide.OpenSlideError, OSError) as error:
            raise InputError(
                f"{self._path}: the region at ({x0}, {y0}) cannot be read ({error}). {_REMEDY}"
            ) from error
        rgba = np.asarray(region)
        return np.where(rgba[..., 3:] > 0, rgba[..., :3], np.uint8(255))


_REMEDY = "The file is damaged or is no slide: copy it again, or convert it to a tiled TIFF."


def open_source(path: Path) -> Source:
    """Open a picture or a slide.

    Args:
        path: one of the endings in `PICTURES` and `SLIDES`.

    Raises:
        InputError: missing, corrupt, grey-scale, or of an unknown format.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(explain_os_error(error, path)) from error
    if path.is_dir():
        raise InputError(f"{path}: this is a folder, a file was expected. Name its files.")
    if size == 0:
        raise InputError(f"{path}: the file is empty. Copy or download it again.")
    suffix = path.suffix.lower()
    if suffix in SLIDES or (
        suffix in (".tif", ".tiff") and size > _BIG_TIFF_BYTES and _openslide_knows(path)
    ):
        return OpenSlideSource(path)
    if suffix not in PICTURES:
        raise InputError(
            f"{path}: {suffix or 'a file without an ending'} is neither a picture nor a slide "
            f"format known here. Convert it to one of: {' '.join(PICTURES + SLIDES)}"
        )
    image, mpp = read_image(path)
    return ArraySource(image, mpp, path.name)


def _openslide_knows(path: Path) -> bool:
    import openslide

    return openslide.OpenSlide.detect_format(str(path)) is not None

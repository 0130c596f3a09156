"""A file → a source of pixels: anything from a small picture to a slide."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from nucleate.errors import InputError, explain_os_error
from nucleate.io.images import PICTURES, as_image, plausible_mpp, read_image
from nucleate.io.source import REMEDY, RegionError, Source, whole_ratio
from nucleate.types import UInt8

SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".vms", ".vmu", ".dcm", ".zarr")
_BIG_TIFF_BYTES = 256 << 20  # a TIFF above this size is read region by region where possible


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


class OpenSlideSource:
    """A whole slide in one of OpenSlide's formats.

    Where the scanner states bounds (MRXS, some NDPI), the picture is what lies inside them, as in
    QuPath, and `origin_xy` says where that is.
    """

    def __init__(self, path: Path) -> None:
        import openslide

        self.name, self._path = path.name, path
        self._slide = self._open()
        properties = self._slide.properties
        width, height = self._slide.dimensions
        self.origin_xy = (
            int(properties.get(openslide.PROPERTY_NAME_BOUNDS_X, 0)),
            int(properties.get(openslide.PROPERTY_NAME_BOUNDS_Y, 0)),
        )
        self.width = int(properties.get(openslide.PROPERTY_NAME_BOUNDS_WIDTH, width))
        self.height = int(properties.get(openslide.PROPERTY_NAME_BOUNDS_HEIGHT, height))
        self.mpp = plausible_mpp(properties.get(openslide.PROPERTY_NAME_MPP_X))
        self._downs = self._slide.level_downsamples
        levels = self._slide.level_dimensions
        self.downsamples = tuple(whole_ratio(width, wide) for wide, _ in levels)
        whole = (self.width, self.height) == (width, height)
        self.level_sizes = tuple(
            (w, h) if whole else (max(1, int(self.width / down)), max(1, int(self.height / down)))
            for (w, h), down in zip(levels, self.downsamples, strict=True)
        )

    def _open(self) -> Any:  # noqa: ANN401
        import openslide

        try:
            return openslide.OpenSlide(str(self._path))
        except (openslide.OpenSlideError, OSError) as error:
            raise InputError(
                f"{self._path}: cannot be opened as a slide ({error}). {REMEDY}"
            ) from error

    def read(self, x0: int, y0: int, x1: int, y1: int, level: int = 0) -> UInt8:
        """Return a region; what the scanner left out is white."""
        import openslide

        left, top = self.origin_xy
        down = self._downs[level]
        place = round(left + x0 * down), round(top + y0 * down)
        slide = self._slide
        try:
            region = slide.read_region(place, level, (x1 - x0, y1 - y0))
        except (openslide.OpenSlideError, OSError) as error:
            if slide is self._slide:
                self._slide = self._open()  # after an error OpenSlide refuses everything else
            raise RegionError(
                f"{self._path}: the region at ({place[0]}, {place[1]}) cannot be read ({error}). "
                f"{REMEDY}"
            ) from error
        rgba = np.asarray(region)
        return np.where(rgba[..., 3:] > 0, rgba[..., :3], np.uint8(255))


def open_source(path: Path) -> Source:
    """Open a picture or a slide.

    Args:
        path: one of the endings in `PICTURES` and `SLIDES`.

    Raises:
        InputError: missing, corrupt, grey-scale, or of an unknown format.
    """
    suffix = path.suffix.lower()
    try:
        size = path.stat().st_size
        if path.is_dir() and is_zarr(path):
            from nucleate.io.omezarr import ZarrSource

            return ZarrSource(path)
    except OSError as error:
        raise InputError(explain_os_error(error, path)) from error
    if path.is_dir():
        raise InputError(f"{path}: this is a folder, a file was expected. Name its files.")
    if size == 0:
        raise InputError(f"{path}: the file is empty. Copy or download it again.")
    if suffix not in PICTURES + SLIDES:
        raise InputError(
            f"{path}: {suffix or 'a file without an ending'} is neither a picture nor a slide "
            f"format known here. Convert it to one of: {' '.join(PICTURES + SLIDES)}"
        )
    if suffix in SLIDES:
        return OpenSlideSource(path)
    if suffix in (".tif", ".tiff"):
        from nucleate.io.tiff import TiffSource, is_large

        if size > _BIG_TIFF_BYTES or is_large(path):
            with contextlib.suppress(InputError):  # what it does not read, the others may
                return TiffSource(path)
            if _openslide_knows(path):
                return OpenSlideSource(path)
    image, mpp = read_image(path)
    return ArraySource(image, mpp, path.name)


def dicom_series(path: Path) -> str | None:
    """Return what the DICOM files of one slide have in common; None for any other file."""
    import openslide

    if path.suffix.lower() != ".dcm":
        return None
    try:
        with openslide.OpenSlide(str(path)) as slide:
            found: str | None = slide.properties.get("dicom.SeriesInstanceUID")
            return found
    except (openslide.OpenSlideError, OSError):
        return None  # damaged: said when it is opened


def is_zarr(path: Path) -> bool:
    """Return whether a folder is that of a Zarr group."""
    marks = (path / ".zattrs", path / ".zgroup", path / "zarr.json")
    return path.suffix.lower() == ".zarr" or any(mark.is_file() for mark in marks)


def _openslide_knows(path: Path) -> bool:
    import openslide

    return openslide.OpenSlide.detect_format(str(path)) is not None

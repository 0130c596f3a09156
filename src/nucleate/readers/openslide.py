"""Read whole slides in the formats of OpenSlide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nucleate.errors import InputError
from nucleate.readers.contents import foreign, format_of, not_read
from nucleate.readers.metadata import square_mpp
from nucleate.readers.source import REMEDY, RegionError, whole_ratio
from nucleate.resolution import plausible_mpp
from nucleate.types import UInt8

_SYNTAXES = {  # DICOM transfer syntaxes that OpenSlide does not support
    "1.2.840.10008.1.2.4.80": "JPEG-LS", "1.2.840.10008.1.2.4.81": "JPEG-LS",
    "1.2.840.10008.1.2.4.110": "JPEG XL", "1.2.840.10008.1.2.4.111": "JPEG XL",
    "1.2.840.10008.1.2.4.112": "JPEG XL", "1.2.840.10008.1.2.4.201": "HTJ2K",
    "1.2.840.10008.1.2.4.202": "HTJ2K", "1.2.840.10008.1.2.4.203": "HTJ2K",
    "1.2.840.10008.1.2.5": "RLE", "1.2.840.10008.1.2.4.57": "lossless JPEG",
    "1.2.840.10008.1.2.4.70": "lossless JPEG",
}  # fmt: skip
_NO_SLIDES = {  # DICOM object classes that accompany slides
    b"1.2.840.10008.5.1.4.1.1.66.4": "a segmentation",
    b"1.2.840.10008.5.1.4.1.1.66.7": "a label map",
    b"1.2.840.10008.5.1.4.1.1.91.1": "an annotation object",
    b"1.2.840.10008.5.1.4.1.1.88.": "a report",
    b"1.2.840.10008.5.1.4.1.1.11.": "a presentation state",
    b"1.2.840.10008.5.1.4.1.1.30": "a parametric map",
}
_CACHE_BYTES = 128 << 20  # cache of decoded tiles, shared by all threads


class OpenSlideSource:
    """A whole slide in one of OpenSlide's formats.

    If the scanner states bounds (MRXS, some NDPI), the image is the area inside them, as in QuPath,
    and `origin_xy` is its position.
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
        self.notes: tuple[str, ...] = ()
        stated = (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)
        x, y = (plausible_mpp(properties.get(name)) for name in stated)
        self.mpp = square_mpp(path, x, y)
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
            slide = openslide.OpenSlide(str(self._path))
            slide.set_cache(openslide.OpenSlideCache(_CACHE_BYTES))
            return slide
        except (openslide.OpenSlideError, OSError) as error:
            raise InputError(f"{self._path}: {_why_not(self._path, error)}") from error

    def read(self, x0: int, y0: int, x1: int, y1: int, level: int = 0) -> UInt8:
        """Return a region; areas that were not scanned are white."""
        import openslide

        left, top = self.origin_xy
        down = self._downs[level]
        place = round(left + x0 * down), round(top + y0 * down)
        slide = self._slide
        try:
            region = slide.read_region(place, level, (x1 - x0, y1 - y0))
        except (openslide.OpenSlideError, OSError) as error:
            if slide is self._slide:
                self._slide = self._open()  # after an error OpenSlide rejects all further calls
            raise RegionError(
                f"{self._path}: the region at ({place[0]}, {place[1]}) cannot be read ({error}). "
                f"{REMEDY}"
            ) from error
        return _on_white(np.asarray(region))


def _why_not(path: Path, error: Exception) -> str:
    """Return why OpenSlide cannot open a file, with a remedy."""
    with path.open("rb") as file:
        head = file.read(132)
    named = not_read(head) or (foreign(path) if format_of(head) is None else None)
    if named is not None:
        return named
    said = str(error).rstrip(".")
    if head[128:] == b"DICM":
        return f"is a DICOM file that OpenSlide does not read ({said}). {_dicom_remedy(path, said)}"
    return f"cannot be opened as a slide ({said}). {REMEDY}"


def _dicom_remedy(path: Path, said: str) -> str:
    """Return a remedy for a DICOM file, according to the kind of object that it contains."""
    with path.open("rb") as file:
        data = file.read(1 << 16)
    kind = next((name for uid, name in _NO_SLIDES.items() if uid in data), None)
    if kind is not None:
        return f"It is {kind}, not a slide: pass the slide itself."
    syntax = next((name for uid, name in _SYNTAXES.items() if said.endswith(uid)), None)
    packed = "" if syntax is None else f"It is compressed as {syntax}: "
    return (
        f"{packed}{'c' if packed else 'C'}onvert it to 8-bit RGB, uncompressed or as JPEG, or to a "
        "tiled TIFF, with wsidicomizer, dcmconv or bfconvert."
    )


def _on_white(rgba: UInt8) -> UInt8:
    """Return the colours of uint8 (H, W, 4), with white for areas that were not scanned.

    Example:
        >>> _on_white(np.array([[[9, 8, 7, 255], [0, 0, 0, 0]]], np.uint8)).tolist()
        [[[9, 8, 7], [255, 255, 255]]]
    """
    rgb = cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB)
    alpha = cv2.extractChannel(rgba, 3)
    if not alpha.all():
        rgb[alpha == 0] = 255
    return rgb  # type: ignore[no-any-return]


def dicom_series(path: Path) -> str | None:
    """Return the series UID that the DICOM files of a slide share; None for any other file."""
    import openslide

    if path.suffix.lower() != ".dcm":
        return None
    try:
        with openslide.OpenSlide(str(path)) as slide:
            found: str | None = slide.properties.get("dicom.SeriesInstanceUID")
            return found
    except (openslide.OpenSlideError, OSError):
        return None  # damaged: reported when it is opened


def openslide_reads(path: Path) -> bool:
    """Return whether OpenSlide recognises the format of a file."""
    import openslide

    return openslide.OpenSlide.detect_format(str(path)) is not None

"""Open any file, from a small image to a whole slide, as a source of pixels."""

from __future__ import annotations

import contextlib
from pathlib import Path

from nucleate.errors import InputError, explain_os_error
from nucleate.readers.array import ArraySource
from nucleate.readers.contents import foreign, format_of, not_read
from nucleate.readers.images import IMAGES, load_image, read_head
from nucleate.readers.limits import MAX_PIXELS
from nucleate.readers.openslide import OpenSlideSource, openslide_reads
from nucleate.readers.source import Source

SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".vms", ".vmu", ".dcm", ".zarr")
_BIG_TIFF_BYTES = 256 << 20  # a TIFF above this size is read region by region where possible


def open_source(path: Path, plane: int | None = None, most_pixels: int = MAX_PIXELS) -> Source:
    """Open an image or a slide.

    Args:
        path: file with one of the endings in `IMAGES` and `SLIDES`.
        plane: focal plane or time point to read from a TIFF that has several, counted from 1.
        most_pixels: size limit of images that have to be read at once.

    Raises:
        InputError: the file is missing, corrupt, grey-scale, or of an unknown format.
    """
    suffix = path.suffix.lower()
    try:
        size = path.stat().st_size
        if path.is_dir() and is_zarr(path):
            from nucleate.readers.omezarr import ZarrSource

            return ZarrSource(path)
    except OSError as error:
        raise InputError(explain_os_error(error, path)) from error
    if path.is_dir():
        raise InputError(f"{path}: is a folder, but a file was expected. Pass its files.")
    if size == 0:
        raise InputError(f"{path}: the file is empty. Copy or download it again.")
    head = read_head(path)
    kind = format_of(head)
    if suffix not in IMAGES + SLIDES:
        named = (foreign(path) if kind is None else None) or not_read(head)
        if named is not None:
            raise InputError(f"{path}: {named}")
    if suffix not in IMAGES + SLIDES:
        raise InputError(
            f"{path}: {suffix or 'a file without an extension'} is not a supported image or slide. "
            f"Export it as PNG or TIFF, or as a slide format: {' '.join(SLIDES)}"
        )
    if suffix in SLIDES and kind not in ("PNG", "JPEG", "WEBP"):
        if plane not in (None, 1):
            raise InputError(f"{path}: slides of this kind have one plane. Omit --plane.")
        return OpenSlideSource(path)
    if kind == "TIFF":
        from nucleate.readers.tiff import TiffSource, UnusualTiffError, is_large

        if size > _BIG_TIFF_BYTES or is_large(path):
            with contextlib.suppress(UnusualTiffError):  # other readers may support it
                return TiffSource(path, plane)
            if plane is None and openslide_reads(path):
                return OpenSlideSource(path)
    return ArraySource(load_image(path, most_pixels, plane), name=path.name)


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a Zarr group."""
    marks = (path / ".zattrs", path / ".zgroup", path / "zarr.json")
    return path.suffix.lower() == ".zarr" or any(mark.is_file() for mark in marks)

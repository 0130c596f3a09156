"""Write the image with the outlines of all nuclei."""

from __future__ import annotations

from pathlib import Path

from nucleate.errors import InputError
from nucleate.geometry.draw import draw_outlines, enlarge
from nucleate.readers.reader import Reader
from nucleate.readers.source import Source
from nucleate.results.images import write_jpeg, write_png
from nucleate.results.parquet import NucleiFile

_COARSE_MPP = 0.35  # nuclei of coarser images are too small for outlines of one pixel
_MOST_PIXELS = 8_000_000  # larger images are not enlarged


def write_overlay(found: NucleiFile, source: Source | None, path: Path) -> None:
    """Write the image with the outline of every nucleus, as PNG or JPEG depending on the ending.

    An image coarser than 0.35 um/px is enlarged by 2, so that its nuclei are visible.
    """
    if source is None:
        raise InputError(f"{path}: an overlay needs the image. Segment it with --formats overlay.")
    image = Reader(source, 1.0).whole()
    write = write_jpeg if path.suffix == ".jpg" else write_png
    nuclei, coarse = found.read(), (found.frame.mpp or 0.0) > _COARSE_MPP
    if coarse and image.shape[0] * image.shape[1] <= _MOST_PIXELS:
        image, nuclei = enlarge(image, nuclei, 2)
    write(path, draw_outlines(image, nuclei, thickness=2 if coarse else 1))

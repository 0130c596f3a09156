"""Nuclei → the image with every nucleus outlined."""

from __future__ import annotations

from pathlib import Path

from nucleate.errors import InputError
from nucleate.geometry.draw import draw_outlines
from nucleate.readers.reader import Reader
from nucleate.readers.source import Source
from nucleate.results.images import write_jpeg, write_png
from nucleate.results.parquet import NucleiFile


def write_overlay(found: NucleiFile, source: Source | None, path: Path) -> None:
    """Write the image with the outline of every nucleus on it: as PNG, or as JPEG by its ending."""
    if source is None:
        raise InputError(
            f"{path}: an overlay needs the picture. Segment it with --formats overlay."
        )
    image = Reader(source, 1.0).whole()
    write = write_jpeg if path.suffix == ".jpg" else write_png
    write(path, draw_outlines(image, found.read()))

"""The table of formats that nuclei are written in. Adding one: write its function, add a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nucleate.readers.source import Source
from nucleate.results.annotation_store import write_annotation_store
from nucleate.results.csv import write_csv
from nucleate.results.geojson import write_geojson
from nucleate.results.labels import label_rows, write_label_image
from nucleate.results.names import LABELS, LARGE_OVERLAY, OVERLAY
from nucleate.results.ome_zarr import write_ome_zarr
from nucleate.results.overlay import write_overlay
from nucleate.results.parquet import NucleiFile
from nucleate.results.spatialdata import write_spatialdata


@dataclass(frozen=True, slots=True)
class Exporter:
    """A file format.

    Attributes:
        suffix: what follows the stem of the source in the file's name.
        write: (nuclei, source or None, path) -> file.
        usual: whether `segment` writes it of an image when nothing else is asked for.
        needs_source: whether it shows the image too, and so has to have it in memory.
        packages: of the extra `export` that it needs.
        large_suffix: the suffix for images of 25 megapixels and more, where it is another.
    """

    suffix: str
    write: Callable[[NucleiFile, Source | None, Path], None]
    usual: bool = False
    needs_source: bool = False
    packages: tuple[str, ...] = ()
    large_suffix: str = ""


def _write_ome_zarr(found: NucleiFile, source: Source | None, path: Path) -> None:
    """Write a label image as OME-Zarr, with its pyramid."""
    frame = found.frame
    write_ome_zarr(path, (frame.height, frame.width), label_rows(found), frame.mpp)


def _write_spatialdata(found: NucleiFile, source: Source | None, path: Path) -> None:
    """Write shapes and a table of features as SpatialData; all nuclei are in memory for it."""
    write_spatialdata(path, found)


def _write_annotation_store(found: NucleiFile, source: Source | None, path: Path) -> None:
    """Write the SQLite file that TIAToolbox opens as an annotation store."""
    write_annotation_store(path, found)


EXPORTERS: dict[str, Exporter] = {
    "labels": Exporter(LABELS, write_label_image, usual=True),
    "overlay": Exporter(
        OVERLAY, write_overlay, usual=True, needs_source=True, large_suffix=LARGE_OVERLAY
    ),
    "csv": Exporter(".nuclei.csv", write_csv, usual=True),
    "geojson": Exporter(".geojson", write_geojson, usual=True),
    "geojson.gz": Exporter(".geojson.gz", write_geojson),
    "ome-zarr": Exporter(".labels.ome.zarr", _write_ome_zarr, packages=("zarr",)),
    "spatialdata": Exporter(
        ".spatialdata.zarr", _write_spatialdata, packages=("spatialdata", "geopandas", "anndata")
    ),
    "annotation-store": Exporter(".annotations.db", _write_annotation_store),
}

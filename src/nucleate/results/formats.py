"""The table of output formats. To add one, write its function and add a row."""

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
        suffix: suffix of the file name after the stem of the source.
        write: function (nuclei, source or None, path) that writes the file.
        usual: whether `segment` writes it for images by default.
        needs_source: whether it shows the image and thus needs it in memory.
        packages: packages of the extra `export` that it needs.
        large_suffix: suffix for images of at least 25 megapixels, if different.
    """

    suffix: str
    write: Callable[[NucleiFile, Source | None, Path], None]
    usual: bool = False
    needs_source: bool = False
    packages: tuple[str, ...] = ()
    large_suffix: str = ""


def _write_ome_zarr(found: NucleiFile, source: Source | None, path: Path) -> None:
    """Write a label image as OME-Zarr with a pyramid."""
    frame = found.frame
    write_ome_zarr(path, (frame.height, frame.width), label_rows(found), frame.mpp)


def _write_spatialdata(found: NucleiFile, source: Source | None, path: Path) -> None:
    """Write shapes and a table of features as SpatialData; all nuclei are held in memory."""
    write_spatialdata(path, found)


def _write_annotation_store(found: NucleiFile, source: Source | None, path: Path) -> None:
    """Write an annotation store of TIAToolbox."""
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

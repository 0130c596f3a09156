"""File names of results."""

from __future__ import annotations

PARQUET = ".nuclei.parquet"  # always written; all other files are made from it
LABELS, OVERLAY, OVERVIEW = ".labels.tif", ".overlay.png", ".overview.png"
LARGE_OVERLAY = ".overlay.jpg"
SCALES = ".scales.png"  # outlines at the resolutions tried by --suggest-mpp
OWN_IMAGES = (
    LABELS,
    OVERLAY,
    LARGE_OVERLAY,
    OVERVIEW,
    SCALES,
    ".labels.ome.zarr",
    ".spatialdata.zarr",
)  # never sources

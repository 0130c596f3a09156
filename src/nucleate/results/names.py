"""What the files of a result are called."""

from __future__ import annotations

PARQUET = ".nuclei.parquet"  # what is always written, and what all other files are made from
LABELS, OVERLAY, OVERVIEW = ".labels.tif", ".overlay.png", ".overview.png"
LARGE_OVERLAY = ".overlay.jpg"
SCALES = ".scales.png"  # the image at the resolutions that --suggest-mpp tried
OWN_IMAGES = (
    LABELS,
    OVERLAY,
    LARGE_OVERLAY,
    OVERVIEW,
    SCALES,
    ".labels.ome.zarr",
    ".spatialdata.zarr",
)  # never sources

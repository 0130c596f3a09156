"""Save and read nuclei in memory, and convert them to tables of other libraries."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nucleate.errors import InputError, nearest, optional
from nucleate.readers.array import ArraySource
from nucleate.results.arrow import to_table
from nucleate.results.formats import EXPORTERS
from nucleate.results.names import PARQUET
from nucleate.results.parquet import NucleiFile, open_nuclei, writer
from nucleate.results.spatialdata import as_spatialdata
from nucleate.types import Instances

_ENDINGS = {  # the longest matching ending determines the format
    PARQUET: "parquet", ".parquet": "parquet", ".csv": "csv", ".geojson": "geojson",
    ".geojson.gz": "geojson.gz", ".tif": "labels", ".tiff": "labels", ".ome.zarr": "ome-zarr",
    ".spatialdata.zarr": "spatialdata", ".annotations.db": "annotation-store",
    ".png": "overlay", ".jpg": "overlay",
}  # fmt: skip


def save(nuclei: Instances, path: str | Path, image: Any = None) -> None:  # noqa: ANN401
    """Write nuclei to a file in the format given by its ending.

    Args:
        nuclei: the nuclei.
        path: ends in .parquet, .csv, .geojson, .geojson.gz, .tif (label image), .ome.zarr,
            .spatialdata.zarr, .annotations.db, or .png and .jpg (outlines drawn on `image`).
        image: (H, W, 3), the image of the nuclei; only for .png and .jpg.

    Raises:
        InputError: an unknown ending; an overlay without an image; an image of another size.
        OutputError: the file cannot be written.
    """
    file = Path(path)
    fitting = [ending for ending in _ENDINGS if file.name.lower().endswith(ending)]
    if not fitting:
        raise InputError(f"{file}: unknown format. {nearest(file.suffix, list(_ENDINGS))}")
    form = _ENDINGS[max(fitting, key=len)]
    if form == "overlay" and image is None:
        raise InputError(f"{file}: an overlay needs the image. Pass image=…")
    if form == "parquet":
        _write(nuclei, file, file.name)
        return
    source = None
    if form == "overlay":
        source = ArraySource(image, nuclei.frame.mpp, file.name)
        if (source.width, source.height) != (nuclei.frame.width, nuclei.frame.height):
            raise InputError(
                f"{file}: the image has {source.width} × {source.height} pixels, but the image of "
                f"the nuclei has {nuclei.frame.width} × {nuclei.frame.height}. Pass the image that "
                "was segmented."
            )
    with _as_file(nuclei, file.name) as found:
        EXPORTERS[form].write(found, source, file)


def read(path: str | Path) -> Instances:
    """Read the nuclei of a .nuclei.parquet file written by nucleate.

    Raises:
        InputError: the file is missing, damaged, or written by another program.

    Example:
        >>> from nucleate.types import Frame
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(Instances.empty(Frame(8, 6, 0.25)), f"{folder}/none.parquet")
        ...     read(f"{folder}/none.parquet").frame
        Frame(width=8, height=6, mpp=0.25, origin_xy=(0, 0))
    """
    return open_nuclei(Path(path)).read()


def to_dataframe(nuclei: Instances) -> Any:  # noqa: ANN401
    """Convert nuclei to a pandas DataFrame, one row each: id, x, y, box, features, score, class."""
    optional("pandas", "export")
    table = to_table(nuclei).drop_columns(["geometry", "bbox"]).to_pandas()
    sides = dict(zip(("x0", "y0", "x1", "y1"), nuclei.boxes_xyxy.T, strict=True))
    for place, (name, values) in enumerate(sides.items(), start=3):
        table.insert(place, name, values)
    return table


def to_geopandas(nuclei: Instances) -> Any:  # noqa: ANN401
    """Convert nuclei to a GeoDataFrame: the table with outlines as polygons in level-0 pixels."""
    geopandas = optional("geopandas", "export")
    import shapely

    rings = np.arange(len(nuclei.offsets))
    kind = shapely.GeometryType.POLYGON
    coords = nuclei.coords_xy.astype(np.float64)
    polygons = shapely.from_ragged_array(kind, coords, (nuclei.offsets, rings))
    return geopandas.GeoDataFrame(to_dataframe(nuclei), geometry=list(polygons))


def to_anndata(nuclei: Instances) -> Any:  # noqa: ANN401
    """Convert nuclei to AnnData: features in `X`, rest in `obs`, centroids in `obsm["spatial"]`."""
    anndata = optional("anndata", "export")
    table = to_dataframe(nuclei)
    table.index = table["id"].astype(str)
    names = list(nuclei.features)
    found = anndata.AnnData(table[names].to_numpy(np.float32), obs=table.drop(columns=names))
    found.var_names = names
    found.obsm["spatial"] = table[["x", "y"]].to_numpy(np.float64)
    return found


def to_spatialdata(nuclei: Instances) -> Any:  # noqa: ANN401
    """Convert nuclei to SpatialData: outlines as shapes, and a table of features.

    Raises:
        InputError: there are no nuclei; SpatialData cannot be empty.
    """
    with _as_file(nuclei, "nuclei") as found:
        return as_spatialdata(found)


@contextmanager
def _as_file(nuclei: Instances, source: str) -> Iterator[NucleiFile]:
    """Provide nuclei as a temporary result file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"nuclei{PARQUET}"
        _write(nuclei, file, source)
        yield open_nuclei(file)


def _write(nuclei: Instances, path: Path, source: str) -> None:
    with writer(path, nuclei, {"source": source, "lost": []}) as out:
        out.write(nuclei)

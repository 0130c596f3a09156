"""Write nuclei as SpatialData: shapes and a table of features."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from nucleate.errors import InputError, optional
from nucleate.files import atomic_folder
from nucleate.results.parquet import NucleiFile


def write_spatialdata(path: Path, found: NucleiFile) -> None:
    """Write the nuclei as SpatialData: shapes in pixels and micrometres, and a table of features.

    Raises:
        InputError: there are no nuclei.
        NucleateError: the extra `export` is not installed.
        OutputError: the folder cannot be written.
    """
    whole = as_spatialdata(found)
    with atomic_folder(path) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries warn about each other
        folder.rmdir()  # SpatialData creates the folder itself
        whole.write(folder)


def as_spatialdata(found: NucleiFile) -> Any:  # noqa: ANN401
    """Return the nuclei of a file as a SpatialData in memory.

    Raises:
        InputError: there are no nuclei.
        NucleateError: the extra `export` is not installed.
    """
    spatialdata: Any = optional("spatialdata", "export")
    geopandas: Any = optional("geopandas", "export")
    anndata: Any = optional("anndata", "export")
    import pandas as pd
    from spatialdata.models import ShapesModel, TableModel
    from spatialdata.transformations import Identity, Scale

    if not found.count:
        raise InputError(f"{found.path}: has no nuclei, which SpatialData cannot store. Use csv.")
    for _ in found.checked():  # geopandas does not check the content
        pass
    frame = geopandas.read_parquet(found.path).set_index("id").drop(columns="bbox", errors="ignore")
    mpp = found.frame.mpp or 1.0
    shapes = ShapesModel.parse(
        geopandas.GeoDataFrame(geometry=frame.geometry, index=frame.index),
        transformations={"global": Identity(), "micrometres": Scale([mpp, mpp], axes=("x", "y"))},
    )
    columns = frame.drop(columns=["geometry", "class", "class_name"], errors="ignore")
    table = anndata.AnnData(
        X=columns.to_numpy(np.float32),
        obs=pd.DataFrame(
            {
                "region": pd.Categorical(["nuclei"] * len(frame)),
                "id": frame.index.to_numpy(),
                "class": pd.Categorical([found.class_names[k] for k in frame["class"]]),
            },
            index=frame.index.astype(str).rename(None),
        ),
        var=pd.DataFrame(index=columns.columns),
        obsm={"spatial": frame[["x", "y"]].to_numpy(np.float32)},
    )
    table = TableModel.parse(table, region="nuclei", region_key="region", instance_key="id")
    return spatialdata.SpatialData(shapes={"nuclei": shapes}, tables={"features": table})

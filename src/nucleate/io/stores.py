"""Files of nuclei → stores of other programs: OME-Zarr, SpatialData, TIAToolbox's SQLite."""

from __future__ import annotations

import json
import sqlite3
import uuid
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from nucleate.errors import InputError, optional
from nucleate.io.files import atomic, atomic_folder
from nucleate.io.nuclei import NucleiFile
from nucleate.types import Int32

_CHUNK = 1024  # edge of a chunk of a label image
_COARSEST = 512  # edge at which a pyramid ends


def write_ome_zarr(
    path: Path, shape: tuple[int, int], bands: Iterable[Int32], mpp: float | None
) -> None:
    """Write a label image as OME-Zarr 0.4 with a pyramid, band by band.

    Args:
        path: folder to write.
        shape: (H, W).
        bands: of whole rows, from top to bottom.
        mpp: micrometres per pixel.

    Raises:
        NucleateError: the extra `export` is not installed.
        OutputError: it cannot be written.
    """
    zarr: Any = optional("zarr", "export")
    with atomic_folder(path) as folder:
        root = zarr.open_group(str(folder), mode="w", zarr_format=2)
        levels = [_level(root, 0, shape)]
        top = 0
        waiting: list[Int32] = []
        for band in bands:
            waiting.append(band)
            if sum(map(len, waiting)) >= _CHUNK:
                top = _flush(levels[0], waiting, top)
        _flush(levels[0], waiting, top)
        while max(levels[-1].shape) > _COARSEST:
            finer = levels[-1]
            coarser = _level(root, len(levels), tuple(-(-n // 2) for n in finer.shape))
            for y in range(0, coarser.shape[0], _CHUNK):
                coarser[y : y + _CHUNK] = finer[2 * y : 2 * (y + _CHUNK) : 2, ::2]
            levels.append(coarser)
        unit = {"unit": "micrometer"} if mpp is not None else {}
        root.attrs["multiscales"] = [
            {
                "version": "0.4",
                "name": "nuclei",
                "axes": [{"name": axis, "type": "space", **unit} for axis in "yx"],
                "datasets": [
                    {
                        "path": str(i),
                        "coordinateTransformations": [
                            {"type": "scale", "scale": [(mpp or 1.0) * 2**i] * 2},
                        ],
                    }
                    for i in range(len(levels))
                ],
            }
        ]
        root.attrs["image-label"] = {"version": "0.4"}


def _level(root: Any, number: int, shape: tuple[int, ...]) -> Any:  # noqa: ANN401
    return root.create_array(
        str(number), shape=shape, chunks=(_CHUNK, _CHUNK), dtype="int32",
        chunk_key_encoding={"name": "v2", "separator": "/"},
    )  # fmt: skip


def _flush(level: Any, waiting: list[Int32], top: int) -> int:  # noqa: ANN401
    if not waiting:
        return top
    rows = np.concatenate(waiting)
    waiting.clear()
    level[top : top + len(rows)] = rows
    return top + len(rows)


def write_spatialdata(path: Path, found: NucleiFile) -> None:
    """Write the nuclei as SpatialData: shapes in pixels and micrometres, and a table of features.

    Raises:
        NucleateError: the extra `export` is not installed.
        OutputError: it cannot be written.
    """
    spatialdata: Any = optional("spatialdata", "export")
    geopandas: Any = optional("geopandas", "export")
    anndata: Any = optional("anndata", "export")
    import pandas as pd
    from spatialdata.models import ShapesModel, TableModel
    from spatialdata.transformations import Identity, Scale

    if not found.count:
        raise InputError(f"{found.path}: SpatialData cannot hold no nuclei at all. Use csv.")
    for _ in found.checked():  # what reads it here is not our own reader
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
    whole = spatialdata.SpatialData(shapes={"nuclei": shapes}, tables={"features": table})
    with atomic_folder(path) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries, about each other
        folder.rmdir()  # it wants to make it itself
        whole.write(folder)


def write_annotation_store(path: Path, found: NucleiFile) -> None:
    """Write TIAToolbox's annotation store, version 1.0.1: polygons with properties, and an R-tree.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic(path) as temporary:
        temporary.touch()  # where this fails the system says why, which SQLite does not
        base = sqlite3.connect(temporary, isolation_level="DEFERRED")
        try:
            _make_store(base)
            for table in found.checked():
                _fill_store(base, table, found.class_names, found.id_space)
            base.commit()
        except sqlite3.Error as error:  # a full disk is none of the system's own errors here
            raise OSError(str(error)) from error
        finally:
            base.close()


def _make_store(base: sqlite3.Connection) -> None:
    base.execute("CREATE TABLE metadata (key TEXT UNIQUE, value TEXT)")
    facts = {"version": "1.0.1", "compression": "zlib", "compression_level": 9}
    base.executemany(
        "INSERT INTO metadata VALUES (?, ?)", [(k, json.dumps(v)) for k, v in facts.items()]
    )
    base.execute("CREATE VIRTUAL TABLE rtree USING rtree(id, min_x, max_x, min_y, max_y)")
    base.execute(
        "CREATE TABLE annotations (id INTEGER PRIMARY KEY, key TEXT UNIQUE, objtype TEXT, "
        "cx FLOAT NOT NULL, cy FLOAT NOT NULL, geometry BLOB, properties TEXT, area FLOAT NOT NULL)"
    )


def _fill_store(
    base: sqlite3.Connection,
    table: Any,  # noqa: ANN401
    class_names: tuple[str, ...],
    space: uuid.UUID,
) -> None:
    import shapely

    skipped = ("id", "x", "y", "bbox", "geometry", "class", "class_name")
    names = [name for name in table.column_names if name not in skipped]
    rows = table.select(["id", "x", "y", "bbox", "geometry", "class", *names]).to_pylist()
    areas = shapely.area(shapely.from_wkb([row["geometry"] for row in rows]))
    boxes = [(r["id"], *(r["bbox"][s] for s in ("xmin", "xmax", "ymin", "ymax"))) for r in rows]
    base.executemany("INSERT INTO rtree VALUES (?, ?, ?, ?, ?)", boxes)
    base.executemany(
        "INSERT INTO annotations VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                row["id"],
                str(uuid.uuid5(space, str(row["id"]))),
                "Polygon",
                row["x"],
                row["y"],
                zlib.compress(row["geometry"], 9),
                json.dumps(
                    {"type": class_names[row["class"]]}
                    | {n: round(row[n], 4) for n in names if row[n] == row[n]},
                    separators=(",", ":"),
                ),
                float(area),
            )
            for row, area in zip(rows, areas, strict=True)
        ],
    )

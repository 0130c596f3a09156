"""Convert nuclei in memory to and from an Arrow table with one row per nucleus."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from nucleate.geometry.outlines import centroids_xy
from nucleate.types import Float32, Frame, Instances, Int64

COLUMNS = ("id", "x", "y", "bbox", "geometry", "score", "class", "class_name")


def to_table(nuclei: Instances) -> Any:  # noqa: ANN401
    """Convert nuclei to a pyarrow table: id, centroid, box, features, score, class, WKB polygon."""
    import pyarrow as pa

    centres = centroids_xy(nuclei.coords_xy, nuclei.offsets)
    box = nuclei.boxes_xyxy
    sides = [_array(box[:, i]) for i in range(4)]
    columns: dict[str, Any] = {
        "id": nuclei.ids,
        "x": centres[:, 0].astype(np.float32),
        "y": centres[:, 1].astype(np.float32),
        "bbox": pa.StructArray.from_arrays(sides, ["xmin", "ymin", "xmax", "ymax"]),
        **nuclei.features,
        "score": nuclei.scores,
        "class": nuclei.classes,
    }
    if len(nuclei.class_names) > 1:
        columns["class_name"] = np.array([nuclei.class_names[k] for k in nuclei.classes], str)
    columns["geometry"] = _to_wkb(nuclei.coords_xy, nuclei.offsets)
    return pa.table({name: _array(column) for name, column in columns.items()})


def _array(column: Any) -> Any:  # noqa: ANN401
    import pyarrow as pa

    if not isinstance(column, np.ndarray):
        return column
    if column.dtype.kind == "U":
        return pa.array(column.tolist(), pa.string())
    kind = pa.from_numpy_dtype(column.dtype)  # pa.array would import pandas, if it is installed
    content = pa.py_buffer(np.ascontiguousarray(column))
    return pa.Array.from_buffers(kind, len(column), [None, content])


def from_table(table: Any, frame: Frame, class_names: tuple[str, ...]) -> Instances:  # noqa: ANN401
    """Convert a table made by `to_table` back to nuclei."""
    features = {n: as_numpy(table[n]) for n in table.column_names if n not in COLUMNS}
    if not len(table):
        return replace(Instances.empty(frame), features=features, class_names=class_names)
    classes = as_numpy(table["class"])
    if classes.min() < 0 or classes.max() >= len(class_names):
        raise ValueError("a class without a name")
    coords, offsets = _from_wkb(table["geometry"])
    box = table["bbox"].combine_chunks()
    sides = [as_numpy(box.field(name)) for name in ("xmin", "ymin", "xmax", "ymax")]
    return Instances(
        ids=as_numpy(table["id"]),
        coords_xy=coords,
        offsets=offsets,
        boxes_xyxy=np.stack(sides, axis=1).astype(np.float32).reshape(-1, 4),
        scores=as_numpy(table["score"]),
        classes=classes,
        frame=frame,
        features=features,
        class_names=class_names,
    )


def as_numpy(column: Any) -> Any:  # noqa: ANN401
    """Return a column as an array."""
    return column.to_numpy(zero_copy_only=False)


def _to_wkb(coords_xy: Float32, offsets: Int64) -> Any:  # noqa: ANN401
    """Return outlines as polygons in well-known binary, with closed rings."""
    import pyarrow as pa
    import shapely

    rings = np.arange(len(offsets))  # each polygon has one ring
    kind = shapely.GeometryType.POLYGON
    polygons = shapely.from_ragged_array(kind, coords_xy.astype(np.float64), (offsets, rings))
    packed = shapely.to_wkb(polygons)
    ends = np.cumsum([0, *map(len, packed)])
    if ends[-1] > np.iinfo(np.int32).max:  # several chunks
        return pa.array(packed, pa.binary())
    content = [None, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(b"".join(packed))]
    return pa.Array.from_buffers(pa.binary(), len(packed), content)


def _from_wkb(column: Any) -> tuple[Float32, Int64]:  # noqa: ANN401
    """Return vertices and offsets of polygons written by `_to_wkb`, with one ring each."""
    import shapely

    polygons = shapely.from_wkb(column.to_numpy(zero_copy_only=False))
    _, coords, (closed, _) = shapely.to_ragged_array(polygons)
    open_ = np.ones(len(coords), np.bool_)
    open_[closed[1:] - 1] = False  # drop the repeated first vertex
    offsets = closed.astype(np.int64) - np.arange(len(closed))
    return coords[open_].astype(np.float32), offsets

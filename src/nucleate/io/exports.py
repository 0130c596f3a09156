"""Files of nuclei → files that other programs read, row group by row group.

Adding a format: write its function, add a row.
"""

from __future__ import annotations

import gzip
import math
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nucleate.errors import InputError
from nucleate.io.files import atomic
from nucleate.io.grids import Slide
from nucleate.io.images import write_jpeg, write_label_rows, write_png
from nucleate.io.nuclei import NucleiFile
from nucleate.io.source import Source
from nucleate.io.stores import write_annotation_store, write_ome_zarr, write_spatialdata
from nucleate.labels import paint
from nucleate.types import Instances, Int32, UInt8

PARQUET = ".nuclei.parquet"  # what is always written, and what all other files are made from
LABELS, OVERLAY, OVERVIEW = ".labels.tif", ".overlay.png", ".overview.png"
LARGE_OVERLAY = ".overlay.jpg"
OWN_IMAGES = (
    LABELS,
    OVERLAY,
    LARGE_OVERLAY,
    OVERVIEW,
    ".labels.ome.zarr",
    ".spatialdata.zarr",
)  # never sources
OUTLINE_RGB = (0, 230, 118)  # green: seen on pink and purple, and by colour-blind eyes as light
CLASS_RGB = (  # Okabe and Ito: told apart with any colour vision
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233),
    (240, 228, 66),
)  # fmt: skip
MEASUREMENTS = {  # as QuPath names them
    "area_um2": "Nucleus: Area µm^2",
    "perimeter_um": "Nucleus: Perimeter µm",
    "eccentricity": "Nucleus: Eccentricity",
    "solidity": "Nucleus: Solidity",
    "circularity": "Nucleus: Circularity",
    "major_um": "Nucleus: Max diameter µm",
    "minor_um": "Nucleus: Min diameter µm",
    "haematoxylin_mean": "Hematoxylin: Mean",
    "haematoxylin_sd": "Hematoxylin: Std.Dev.",
    "eosin_mean": "Eosin: Mean",
    "eosin_sd": "Eosin: Std.Dev.",
    "neighbours_50um": "Neighbours within 50 µm",
    "nearest_um": "Nearest neighbour µm",
}


@dataclass(frozen=True, slots=True)
class Exporter:
    """A file format.

    Attributes:
        suffix: what follows the stem of the source in the file's name.
        write: (nuclei, source or None, path) -> file.
        usual: whether `segment` writes it of a picture when nothing else is asked for.
        needs_source: whether it shows the picture too, and so has to have it in memory.
        packages: of the extra `export` that it needs.
        large_suffix: the suffix for images of 25 megapixels and more, where it is another.
    """

    suffix: str
    write: Callable[[NucleiFile, Source | None, Path], None]
    usual: bool = False
    needs_source: bool = False
    packages: tuple[str, ...] = ()
    large_suffix: str = ""


def write_label_image(found: NucleiFile, source: Source | None, path: Path) -> None:
    """Write an int32 TIFF of the source's size: 0 background, the nucleus' id elsewhere."""
    frame = found.frame
    write_label_rows(path, (frame.height, frame.width), label_rows(found), frame.mpp)


_ROWS = 256  # of a label image that are drawn at once


def label_rows(found: NucleiFile) -> Iterator[Int32]:
    """Yield the label image in bands of 256 rows; where nuclei overlap the surer has the pixel."""
    frame = found.frame
    spans = found.spans()
    group = lru_cache(maxsize=64)(found.group)
    for top in range(0, frame.height, _ROWS):
        bottom = min(top + _ROWS, frame.height)
        near = [group(i) for i, (low, high) in enumerate(spans) if low < bottom and high > top]
        inside = [n.take((n.boxes_xyxy[:, 1] < bottom) & (n.boxes_xyxy[:, 3] > top)) for n in near]
        yield _band(inside, top, (bottom - top, frame.width))


def _band(parts: list[Instances], top: int, shape: tuple[int, int]) -> Int32:
    labels = np.zeros(shape, np.int32)
    parts = [part for part in parts if len(part)]
    if not parts:
        return labels
    ids = np.concatenate([part.ids for part in parts])
    nuclei = Instances.concatenate(parts, parts[0].frame)
    shifted = nuclei.coords_xy - np.array([0, top], np.float32)
    return paint(replace(nuclei, ids=ids, coords_xy=shifted), shape)


def write_overlay(found: NucleiFile, source: Source | None, path: Path) -> None:
    """Write the image with the outline of every nucleus on it: as PNG, or as JPEG by its ending."""
    if source is None:
        raise InputError(
            f"{path}: an overlay needs the picture. Segment it with --formats overlay."
        )
    image = Slide(source, 1.0).whole()
    write = write_jpeg if path.suffix == ".jpg" else write_png
    write(path, draw_outlines(image, found.read()))


def write_csv(found: NucleiFile, source: Source | None, path: Path) -> None:
    """Write one row per nucleus as CSV: the columns of the Parquet file without the outline."""
    import pyarrow.csv

    out = None
    with atomic(path) as temporary:
        for table in found.tables():
            flat = _flat(table)
            out = out or pyarrow.csv.CSVWriter(temporary, flat.schema)
            out.write_table(flat)
        if out is None:
            raise InputError(f"{found.path}: is damaged. Segment again.")
        out.close()


def write_joint_csv(files: dict[str, NucleiFile], path: Path) -> None:
    """Write the nuclei of several sources into one CSV, whose first column is `source`.

    Args:
        files: name of the source -> its nuclei. A column that only some of them have is empty for
            the others.
        path: file to write.

    Raises:
        InputError: a file is damaged.
        OutputError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.csv

    schemas = [_flat(_first_table(found)).schema for found in files.values()]
    schema = pa.unify_schemas([pa.schema([("source", pa.string())]), *schemas])
    with atomic(path) as temporary, pyarrow.csv.CSVWriter(temporary, schema) as out:
        for name, found in files.items():
            for table in found.tables():
                flat = _flat(table)
                flat = flat.append_column("source", pa.array([name] * len(flat), pa.string()))
                for field in schema:
                    if field.name not in flat.column_names:
                        flat = flat.append_column(field, pa.nulls(len(flat), field.type))
                out.write_table(flat.select(schema.names))


def _first_table(found: NucleiFile) -> Any:  # noqa: ANN401
    table = next(found.tables(), None)
    if table is None:
        raise InputError(f"{found.path}: is damaged. Segment again.")
    return table


def _flat(table: Any) -> Any:  # noqa: ANN401
    """Return a table without its outlines, the box as four columns."""
    import pyarrow as pa

    columns: dict[str, Any] = {}
    for name in table.column_names:
        if name == "bbox":
            box = table["bbox"].combine_chunks()
            sides = zip(("x0", "y0", "x1", "y1"), box.flatten(), strict=True)
            columns |= dict(sides)
        elif name != "geometry":
            columns[name] = table[name]
    return pa.table(columns)


def write_geojson(found: NucleiFile, source: Source | None, path: Path) -> None:
    """Write a FeatureCollection of detections, with measurements, as QuPath opens it.

    One feature per line, streamed; ids are UUIDs made from the source's name and the nucleus' id,
    so that the same result gives the same file. A path that ends in .gz is compressed.
    """
    with atomic(path) as temporary, open(temporary, "wb") as raw:
        if path.suffix == ".gz":
            with gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
                packed.writelines(feature_lines(found.groups(), found.id_space))
        else:
            raw.writelines(feature_lines(found.groups(), found.id_space))


def feature_lines(groups: Iterable[Instances], space: uuid.UUID) -> Iterator[bytes]:
    """Yield the lines of a FeatureCollection, as QuPath opens it, one nucleus each.

    Args:
        groups: the nuclei.
        space: that their UUIDs are made in, see `NucleiFile.id_space`.
    """
    import orjson

    yield b'{"type":"FeatureCollection","features":['
    begin = b"\n"
    for nuclei in groups:
        for feature in _features(nuclei, space):
            yield begin + orjson.dumps(feature, option=orjson.OPT_SERIALIZE_NUMPY)
            begin = b",\n"
    yield b"\n]}\n"


def _features(nuclei: Instances, space: uuid.UUID) -> Iterator[dict[str, Any]]:
    """Yield each nucleus as a feature; columns are rounded at once, not value by value."""
    coords, offsets = np.round(nuclei.coords_xy.astype(np.float64), 2), nuclei.offsets.tolist()
    columns = {
        label: np.round(nuclei.features[name].astype(np.float64), 4).tolist()
        for name, label in MEASUREMENTS.items()
        if name in nuclei.features
    }
    scores = np.round(nuclei.scores.astype(np.float64), 4).tolist()
    kinds = [_classification(nuclei, kind) for kind in range(len(nuclei.class_names))]
    classes = nuclei.classes.tolist()
    for row, number in enumerate(nuclei.ids.tolist()):
        ring = coords[offsets[row] : offsets[row + 1]]
        measured = {k: v[row] for k, v in columns.items() if math.isfinite(v[row])}
        yield {
            "type": "Feature",
            "id": str(uuid.uuid5(space, str(number))),
            "geometry": {"type": "Polygon", "coordinates": [np.concatenate([ring, ring[:1]])]},
            "properties": {
                "objectType": "detection",
                "classification": kinds[classes[row]],
                "measurements": {**measured, "Detection probability": scores[row]},
            },
        }


def _classification(nuclei: Instances, kind: int) -> dict[str, Any]:
    """Return QuPath's class of nuclei of one kind: its name and colour."""
    name = "Nucleus" if len(nuclei.class_names) == 1 else nuclei.class_names[kind]
    return {"name": name, "color": list(_colour(nuclei, kind))}


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


def draw_outlines(
    image: UInt8, nuclei: Instances, colour: tuple[int, int, int] | None = None
) -> UInt8:
    """Return a copy of the picture with all outlines drawn on it.

    Args:
        image: uint8 (H, W, 3) of the size of `nuclei.frame`.
        nuclei: what to draw.
        colour: RGB of all; None gives each type its own.
    """
    canvas = image.copy()
    if len(nuclei):
        fine = np.rint((nuclei.coords_xy - 0.5) * 16).astype(np.int32)  # 4 bits below the pixel
        rings = np.split(fine, nuclei.offsets[1:-1])
        for kind in range(len(nuclei.class_names)):
            mine = [rings[row] for row in np.flatnonzero(nuclei.classes == kind)]
            cv2.polylines(
                canvas, mine, True, colour or _colour(nuclei, kind), 1, cv2.LINE_AA, shift=4
            )
    return canvas


def _colour(nuclei: Instances, kind: int) -> tuple[int, int, int]:
    """Return the colour of a class; green where there is only one."""
    return OUTLINE_RGB if len(nuclei.class_names) == 1 else CLASS_RGB[kind % len(CLASS_RGB)]

"""Instances → files that other programs read. Adding a format: write its function, add a row."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nucleate.io.files import atomic
from nucleate.io.images import write_labels, write_png
from nucleate.io.slides import Source
from nucleate.labels import centroids_xy, paint
from nucleate.types import Instances, UInt8

OUTLINE_RGB = (0, 230, 118)  # green: seen on pink and purple, and by colour-blind eyes as light
CLASS_RGB = (  # Okabe and Ito: told apart with any colour vision
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233),
    (240, 228, 66),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Exporter:
    """A file format.

    Attributes:
        suffix: what follows the stem of the source in the file's name.
        write: (nuclei, source, path) -> file.
        raster: whether the file holds every pixel of the source (too large for slides).
    """

    suffix: str
    write: Callable[[Instances, Source, Path], None]
    raster: bool = False


def write_label_image(nuclei: Instances, source: Source, path: Path) -> None:
    """Write an int32 TIFF of the source's size: 0 background, the nucleus' id elsewhere."""
    shape = (nuclei.frame.height, nuclei.frame.width)
    write_labels(path, paint(nuclei, shape), nuclei.frame.mpp)


def write_overlay(nuclei: Instances, source: Source, path: Path) -> None:
    """Write the picture as PNG with the outline of every nucleus on it."""
    write_png(path, draw_outlines(source.read(0, 0, source.width, source.height), nuclei))


def write_parquet(nuclei: Instances, source: Source, path: Path) -> None:
    """Write one row per nucleus as Parquet; mpp, size and source are in the file's metadata."""
    import pyarrow.parquet

    table = _table(nuclei)
    frame = nuclei.frame
    facts = {
        "source": source.name,
        "mpp": frame.mpp,
        "width": frame.width,
        "height": frame.height,
        "origin_xy": frame.origin_xy,
        "coordinates": "pixels of level 0, x and y from the corner of the picture; the picture "
        "begins at origin_xy of the file's level 0",
    }
    table = table.replace_schema_metadata({"nucleate": json.dumps(facts)})
    with atomic(path) as temporary:
        pyarrow.parquet.write_table(table, temporary, compression="zstd")


def write_csv(nuclei: Instances, source: Source, path: Path) -> None:
    """Write one row per nucleus as CSV, with the columns of the Parquet file."""
    import pyarrow.csv

    with atomic(path) as temporary:
        pyarrow.csv.write_csv(_table(nuclei), temporary)


def write_geojson(nuclei: Instances, source: Source, path: Path) -> None:
    """Write a FeatureCollection of detections, with measurements, as QuPath opens it.

    One feature per line, streamed; ids are UUIDs made from the source's name and the nucleus' id,
    so that the same result gives the same file.
    """
    names = {
        "area_um2": "Nucleus: Area µm^2",
        "perimeter_um": "Nucleus: Perimeter µm",
        "eccentricity": "Nucleus: Eccentricity",
        "solidity": "Nucleus: Solidity",
        "haematoxylin_mean": "Hematoxylin: Mean",
    }
    space = uuid.uuid5(uuid.NAMESPACE_URL, f"nucleate:{source.name}")
    with atomic(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write('{"type":"FeatureCollection","features":[')
        for row in range(len(nuclei)):
            ring = np.round(nuclei.outline(row).astype(np.float64), 2)
            measured = {
                label: round(float(nuclei.features[name][row]), 4)
                for name, label in names.items()
                if name in nuclei.features
            }
            feature = {
                "type": "Feature",
                "id": str(uuid.uuid5(space, str(nuclei.ids[row]))),
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [[*ring.tolist(), ring[0].tolist()]],
                },
                "properties": {
                    "objectType": "detection",
                    "classification": _classification(nuclei, row),
                    "measurements": {
                        **measured,
                        "Detection probability": round(float(nuclei.scores[row]), 4),
                    },
                },
            }
            file.write(("\n" if row == 0 else ",\n") + json.dumps(feature, ensure_ascii=False))
        file.write("\n]}\n")


def _classification(nuclei: Instances, row: int) -> dict[str, Any]:
    """Return QuPath's class of a nucleus: its name and colour."""
    kind = int(nuclei.classes[row])
    name = "Nucleus" if len(nuclei.class_names) == 1 else nuclei.class_names[kind]
    return {"name": name, "color": list(_colour(nuclei, kind))}


EXPORTERS: dict[str, Exporter] = {
    "labels": Exporter(".labels.tif", write_label_image, raster=True),
    "overlay": Exporter(".overlay.png", write_overlay, raster=True),
    "parquet": Exporter(".nuclei.parquet", write_parquet),
    "csv": Exporter(".nuclei.csv", write_csv),
    "geojson": Exporter(".geojson", write_geojson),
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


def _table(nuclei: Instances) -> Any:  # noqa: ANN401
    """Return a pyarrow table: id, centroid, box, features, score, class."""
    import pyarrow

    centres = centroids_xy(nuclei.coords_xy, nuclei.offsets)
    columns = {
        "id": nuclei.ids,
        "x": centres[:, 0].astype(np.float32),
        "y": centres[:, 1].astype(np.float32),
        **{name: nuclei.boxes_xyxy[:, i] for i, name in enumerate(("x0", "y0", "x1", "y1"))},
        **nuclei.features,
        "score": nuclei.scores,
        "class": nuclei.classes,
        **_class_names(nuclei),
    }
    return pyarrow.table({name: np.ascontiguousarray(c) for name, c in columns.items()})


def _class_names(nuclei: Instances) -> dict[str, Any]:
    """Return the column of class names where there are several."""
    if len(nuclei.class_names) == 1:
        return {}
    return {"class_name": np.array([nuclei.class_names[kind] for kind in nuclei.classes], str)}

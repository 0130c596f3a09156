"""Write nuclei as GeoJSON for QuPath."""

from __future__ import annotations

import gzip
import math
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nucleate.files import atomic
from nucleate.geometry.palette import class_colour
from nucleate.readers.source import Source
from nucleate.results.parquet import NucleiFile
from nucleate.types import Instances

MEASUREMENTS = {  # feature -> name in QuPath
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


def write_geojson(found: NucleiFile, source: Source | None, path: Path) -> None:
    """Write a FeatureCollection of QuPath detections with measurements.

    Features are streamed, one per line; ids are UUIDs made from the source's name and the nucleus'
    id, so that the same result gives the same file. A path that ends in .gz is compressed.
    """
    with atomic(path) as temporary, open(temporary, "wb") as raw:
        if path.suffix == ".gz":
            with gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
                packed.writelines(feature_lines(found.groups(), found.id_space))
        else:
            raw.writelines(feature_lines(found.groups(), found.id_space))


def feature_lines(groups: Iterable[Instances], space: uuid.UUID) -> Iterator[bytes]:
    """Yield the lines of a QuPath FeatureCollection, one nucleus per line.

    Args:
        groups: the nuclei.
        space: namespace of their UUIDs, see `NucleiFile.id_space`.
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
    """Yield each nucleus as a feature; whole columns are rounded at once, for speed."""
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
    """Return the name and colour of a class for QuPath."""
    name = "Nucleus" if len(nuclei.class_names) == 1 else nuclei.class_names[kind]
    return {"name": name, "color": list(class_colour(nuclei, kind))}

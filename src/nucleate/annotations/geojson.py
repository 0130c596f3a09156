"""Outlines in GeoJSON, as QuPath writes them."""

from __future__ import annotations

import io
import json
import zlib
from typing import Any

import numpy as np

from nucleate.annotations.drawing import MAX_BYTES, finite, ragged, ring_area
from nucleate.errors import InputError
from nucleate.files import PathLike, packed_limit, read_bytes, read_up_to
from nucleate.types import Float64, Int64


def read_geojson(path: PathLike) -> tuple[Float64, Int64]:
    """Read the polygons of a GeoJSON file as QuPath writes and reads it.

    Of a MultiPolygon the largest ring is taken; holes are not read: a nucleus has none.

    Args:
        path: a FeatureCollection, a list of features, or one feature; may be gzipped (.gz).

    Returns:
        Vertices float64 (m, 2) as (x, y) in pixels, corner origin; offsets int64 (n + 1,).

    Raises:
        InputError: missing, not JSON, or not GeoJSON.
    """
    return read_classified_geojson(path)[0]


def read_classified_geojson(path: PathLike) -> tuple[tuple[Float64, Int64], list[str]]:
    """Read the polygons of a GeoJSON file, and the name of each one's class.

    Args:
        path: see `read_geojson`.

    Returns:
        The outlines, and for each the name of its QuPath classification, "" without one.

    Raises:
        InputError: missing, not JSON, or not GeoJSON.
    """
    data = read_bytes(path, MAX_BYTES)
    if path.name.endswith(".gz"):
        import gzip

        limit = packed_limit(path.name, len(data), MAX_BYTES)

        try:
            with gzip.open(io.BytesIO(data)) as unpacked:
                data = read_up_to(unpacked, limit + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path}: not valid gzip ({error}). Export it again.") from error
        if len(data) > limit:
            raise InputError(
                f"{path}: unpacks to more than {limit >> 20} MiB, the limit for a file of its "
                "size. Split it into tiles."
            )
    try:
        content: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}). Export it again.") from error
    features = content.get("features", [content]) if isinstance(content, dict) else content
    outlines: list[Float64] = []
    names: list[str] = []
    try:
        for feature in features:
            geometry = feature.get("nucleusGeometry") or feature["geometry"]
            kind, rings = geometry["type"], geometry["coordinates"]
            if kind == "Polygon":
                outer = np.asarray(rings[0], np.float64)
            elif kind == "MultiPolygon":
                candidates = [np.asarray(polygon[0], np.float64) for polygon in rings]
                outer = max(candidates, key=ring_area)
            else:
                continue
            if outer.ndim != 2 or outer.shape[1] < 2:
                raise ValueError("a ring must be a list of [x, y]")
            outline = outer[:, :2]
            if len(outline) > 1 and np.array_equal(outline[0], outline[-1]):
                outline = outline[:-1]
            if len(outline) >= 3:
                outlines.append(finite(path, outline))
                names.append(_class_name(feature))
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{path}: a feature is not GeoJSON ({type(error).__name__}: {error}). "
            "Export it from QuPath again, as a FeatureCollection of polygons."
        ) from error
    return ragged(outlines), names


def _class_name(feature: dict[str, Any]) -> str:
    """Return the name of a QuPath object's classification, "" without one."""
    classification = (feature.get("properties") or {}).get("classification") or {}
    name = classification.get("name") or " ".join(map(str, classification.get("names") or []))
    return str(name)[:200]

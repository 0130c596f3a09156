"""Outlines in GeoJSON, as QuPath writes them."""

from __future__ import annotations

import io
import json
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nucleate.annotations.doubts import areas_of, inside
from nucleate.annotations.drawing import MAX_BYTES, finite, ragged, ring_area
from nucleate.annotations.outline_file import OutlineFile, kind_of_json, without_regions
from nucleate.errors import InputError
from nucleate.files import PathLike, packed_limit, read_bytes, read_up_to
from nucleate.types import Float64, Int64

_DETECTED = ("detection", "cell")
_NO_NUCLEI = {"tmacore": "TMA cores", "tile": "tiles", "root": "root objects"}
_SLIVER = 0.05  # share of the largest part: smaller parts are remains of cutting and merging
_DEEPEST = 8  # nesting depth of geometry collections


@dataclass(slots=True)
class _Found:
    """Results so far: rings, each with the class and the type of its object."""

    rings: list[Float64] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def read_geojson(path: PathLike) -> tuple[Float64, Int64]:
    """Read the polygons of a GeoJSON file as written by QuPath.

    Args:
        path: a FeatureCollection, a list of features, or one feature; may be gzipped (.gz).

    Returns:
        Vertices float64 (m, 2) as (x, y) in pixels, corner origin; offsets int64 (n + 1,).

    Raises:
        InputError: missing, not JSON, or not GeoJSON.
    """
    return read_objects(path).outlines


def read_objects(path: PathLike) -> OutlineFile:
    """Read the nuclei of a GeoJSON file, their classes, and omitted objects with the reason.

    Of a cell, only the nucleus is read. Annotations around detections, TMA cores and tiles are not
    nuclei. Each part of a MultiPolygon or GeometryCollection is a nucleus, except slivers. Holes
    are ignored, as nuclei have none. Points and lines are omitted.

    Args:
        path: see `read_geojson`.

    Raises:
        InputError: missing, not JSON, or not GeoJSON.
    """
    content = _content(path)
    features = content.get("features", [content]) if isinstance(content, dict) else content
    found = _Found()
    try:
        bare = any(feature.get("nucleusGeometry") for feature in features)
        for feature in features:
            _add(found, path, feature, bare)
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
        kind = kind_of_json(content)
        if kind not in ("", "GeoJSON"):
            raise InputError(
                f"{path}: {kind}, not GeoJSON. Read it as what it is, or export GeoJSON."
            ) from error
        raise InputError(
            f"{path}: a feature is not GeoJSON ({type(error).__name__}: {error}). "
            "Export it from QuPath again, as a FeatureCollection of polygons."
        ) from error
    kept = _nuclei(found)
    file = OutlineFile(
        ragged([found.rings[i] for i in kept]),
        [found.names[i] for i in kept],
        found.counts["points"],
        *_count_notes(found.counts),
    )
    return without_regions(file)


def _content(path: PathLike) -> Any:  # noqa: ANN401
    """Parse the JSON of a file, which may be gzipped."""
    data = read_bytes(path, MAX_BYTES)
    if path.name.lower().endswith(".gz"):
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
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}). Export it again.") from error


def _add(found: _Found, path: PathLike, feature: dict[str, Any], bare: bool) -> None:
    """Add the rings of a feature.

    Args:
        found: results to add to.
        path: file, for error messages.
        feature: a feature of the file.
        bare: skip a cell without a nucleus, because other cells of the file have one.
    """
    kind = _kind_of(feature)
    geometry = feature["geometry"]
    if kind in _NO_NUCLEI:
        found.counts[kind] += 1
        return
    nucleus = feature.get("nucleusGeometry") or (feature.get("properties") or {}).get(
        "nucleusGeometry"
    )
    if kind == "cell" and not nucleus:
        found.counts["without nucleus" if bare else "whole cells"] += 1
        if bare:
            return
    polygons = _polygons(found, nucleus or geometry, _DEEPEST)
    rings = [ring for ring in (_outer(path, found, p) for p in polygons) if len(ring) >= 3]
    sizes = [ring_area(ring) for ring in rings]
    least = _SLIVER * max(sizes, default=0)
    if nucleus and rings:
        least = max(sizes)  # a single nucleus
    large = [ring for ring, size in zip(rings, sizes, strict=True) if size >= least]
    found.counts["slivers"] += len(rings) - len(large)
    if len(large) > 1:
        found.counts["parts"] += len(large)
        found.counts["whole"] += 1
    found.rings += large
    found.names += [_class_name(feature)] * len(large)
    found.kinds += [kind] * len(large)


def _polygons(found: _Found, geometry: dict[str, Any] | None, depth: int) -> list[Any]:
    """Return the rings of each polygon in a geometry; count geometries without polygons."""
    kind = None if geometry is None else geometry["type"]
    if geometry is None:
        found.counts["empty"] += 1
        return []
    if kind == "GeometryCollection":
        if not depth:
            raise ValueError("geometry collections are nested too deep")
        parts = [_polygons(found, part, depth - 1) for part in geometry["geometries"]]
        return [polygon for part in parts for polygon in part]
    coordinates = geometry["coordinates"]
    if kind not in ("Polygon", "MultiPolygon"):
        found.counts["points"] += len(coordinates) if kind == "MultiPoint" else 1
        return []
    polygons = [coordinates] if kind == "Polygon" else coordinates
    full = [polygon for polygon in polygons if len(polygon) and len(polygon[0])]
    found.counts["empty"] += not full
    return full


def _outer(path: PathLike, found: _Found, rings: Any) -> Float64:  # noqa: ANN401
    """Return the outer ring of a polygon, not closed."""
    outer = np.asarray(rings[0], np.float64)
    if outer.ndim != 2 or outer.shape[1] < 2:
        raise ValueError("a ring must be a list of [x, y]")
    outline = outer[:, :2]
    if len(outline) > 1 and np.array_equal(outline[0], outline[-1]):
        outline = outline[:-1]
    outline = finite(path, outline)
    holes = sum(ring_area(np.asarray(hole, np.float64)) for hole in rings[1:] if len(hole) > 2)
    found.counts["holes"] += holes > 0.1 * ring_area(outline)
    return outline


def _nuclei(found: _Found) -> list[int]:
    """Return which rings are nuclei; annotations around detections are not."""
    detected = [i for i, kind in enumerate(found.kinds) if kind in _DETECTED]
    others = [i for i, kind in enumerate(found.kinds) if kind == "annotation"]
    if not detected or not others:
        return list(range(len(found.rings)))
    coords, offsets = ragged([found.rings[i] for i in detected])
    middle = float(np.median(areas_of(coords, offsets)))
    centres = np.array([(r.min(0) + r.max(0)) / 2 for r in (found.rings[i] for i in detected)])
    dropped = set()
    for i in others:
        ring = found.rings[i]
        around, size = int(inside(ring, centres).sum()), ring_area(ring)
        if around > 1 or (around and size > 5 * middle):
            found.counts["parents"] += 1
            dropped.add(i)
        elif size > 10 * middle:
            found.counts["large"] += 1
            dropped.add(i)
    return [i for i in range(len(found.rings)) if i not in dropped]


def _count_notes(counts: Counter[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the problems and notes about omitted or interpreted objects."""
    problems = {
        "whole": f"{counts['whole']} merged objects (MultiPolygon, GeometryCollection) have "
        f"{counts['parts']} parts: each part is read as a nucleus",
        "whole cells": f"{counts['whole cells']} cells have no nucleus (nucleusGeometry): the "
        "outline of the cell is read",
        "without nucleus": f"{counts['without nucleus']} cells have no nucleus (nucleusGeometry) "
        "and are omitted",
        "holes": f"{counts['holes']} polygons have large holes, which are filled",
        "large": f"{counts['large']} annotations without detections in them are too large for "
        "nuclei and are omitted",
    }
    notes = {
        "parents": f"{counts['parents']} annotations around detections are regions, not nuclei",
        "slivers": f"{counts['slivers']} slivers of merged objects are omitted",
        "empty": f"{counts['empty']} features have no geometry",
        **{kind: f"{counts[kind]} {words} are not nuclei" for kind, words in _NO_NUCLEI.items()},
    }
    return (
        tuple(text for key, text in problems.items() if counts[key]),
        tuple(text for key, text in notes.items() if counts[key]),
    )


def _kind_of(feature: dict[str, Any]) -> str:
    """Return the type of a QuPath object in lower case, "" if it has none.

    Example:
        >>> _kind_of({"id": "PathCellObject"}), _kind_of({"properties": {"objectType": "tma_core"}})
        ('cell', 'tmacore')
    """
    properties = feature.get("properties") or {}
    stated = properties.get("objectType") or properties.get("object_type")
    old = str(feature.get("id"))
    if not stated and old.endswith("Object"):
        stated = old.removeprefix("Path").removesuffix("Object")
    return str(stated or "").lower().replace("_", "").replace(" ", "")


def _class_name(feature: dict[str, Any]) -> str:
    """Return the name of a QuPath object's classification, "" if it has none.

    Example:
        >>> _class_name({"properties": {"classification": "Tumor"}})
        'Tumor'
    """
    classification = (feature.get("properties") or {}).get("classification") or {}
    if not isinstance(classification, dict):
        classification = {"name": classification}
    name = classification.get("name") or ": ".join(map(str, classification.get("names") or []))
    return str(name)[:200]

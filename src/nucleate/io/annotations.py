"""Outlines drawn by people or programs: Aperio XML and QuPath GeoJSON → label images."""

from __future__ import annotations

import io
import json
import zlib
from typing import Any

import numpy as np

from nucleate.errors import InputError
from nucleate.io.files import read_bytes
from nucleate.io.images import PathLike
from nucleate.labels import rasterise
from nucleate.types import Float64, Int32, Int64

_MAX_BYTES = 1 << 30


def read_aperio_xml(path: PathLike) -> tuple[Float64, Int64]:
    """Read the outlines of an Aperio ImageScope annotation file.

    Args:
        path: the XML file; may be inside a zip file. Regions with fewer than three vertices
            enclose nothing and are left out.

    Returns:
        Vertices float64 (m, 2) as (x, y) in pixels, corner origin; offsets int64 (n + 1,).

    Raises:
        InputError: missing, not XML, with entities (refused: an attack), or without vertices.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, iterparse

    data = read_bytes(path, _MAX_BYTES)
    outlines: list[Float64] = []
    root = None
    try:
        for _, element in iterparse(io.BytesIO(data), forbid_dtd=False, forbid_entities=True):
            root = element.tag  # the last element to end is the outermost
            if element.tag == "Region":
                vertices = [(v.attrib["X"], v.attrib["Y"]) for v in element.iter("Vertex")]
                outline = np.asarray(vertices, np.float64).reshape(-1, 2)
                if len(outline) >= 3:
                    outlines.append(_finite(path, outline))
                element.clear()
    except DefusedXmlException as error:
        raise InputError(
            f"{path}: the XML defines entities, which an annotation never needs and an attack "
            "does. Get the file from a trusted source."
        ) from error
    except ParseError as error:
        raise InputError(f"{path}: not valid XML ({error}). Export it again.") from error
    except LookupError as error:
        if not isinstance(error, KeyError):
            raise InputError(f"{path}: not valid XML ({error}). Export it again.") from error
        raise InputError(
            f"{path}: a vertex has no readable X and Y ({error}). Export it from ImageScope again."
        ) from error
    except ValueError as error:
        raise InputError(
            f"{path}: a vertex has no readable X and Y ({error}). Export it from ImageScope again."
        ) from error
    if root != "Annotations":
        raise InputError(
            f"{path}: not an Aperio annotation: the XML begins with {root!r}, not 'Annotations'. "
            "Is this the right file?"
        )
    return _ragged(outlines)


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
    data = read_bytes(path, _MAX_BYTES)
    if path.name.endswith(".gz"):
        import gzip

        try:
            with gzip.open(io.BytesIO(data)) as unpacked:
                data = unpacked.read(_MAX_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path}: not valid gzip ({error}). Export it again.") from error
        if len(data) > _MAX_BYTES:
            raise InputError(f"{path}: unpacks to more than 1 GiB. Split it into tiles.")
    try:
        content: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}). Export it again.") from error
    features = content.get("features", [content]) if isinstance(content, dict) else content
    outlines: list[Float64] = []
    try:
        for feature in features:
            geometry = feature.get("nucleusGeometry") or feature["geometry"]
            kind, rings = geometry["type"], geometry["coordinates"]
            if kind == "Polygon":
                outer = np.asarray(rings[0], np.float64)
            elif kind == "MultiPolygon":
                candidates = [np.asarray(polygon[0], np.float64) for polygon in rings]
                outer = max(candidates, key=_area)
            else:
                continue
            if outer.ndim != 2 or outer.shape[1] < 2:
                raise ValueError("a ring must be a list of [x, y]")
            outline = outer[:, :2]
            if len(outline) > 1 and np.array_equal(outline[0], outline[-1]):
                outline = outline[:-1]
            if len(outline) >= 3:
                outlines.append(_finite(path, outline))
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{path}: a feature is not GeoJSON ({type(error).__name__}: {error}). "
            "Export it from QuPath again, as a FeatureCollection of polygons."
        ) from error
    return _ragged(outlines)


def draw(outlines: tuple[Float64, Int64], shape: tuple[int, int]) -> Int32:
    """Draw outlines into a label image of `shape` (H, W); the earlier one keeps shared pixels."""
    return rasterise(*outlines, shape)[0]


def _finite(path: PathLike, outline: Float64) -> Float64:
    if not np.isfinite(outline).all() or np.abs(outline).max() > 1e7:
        raise InputError(
            f"{path}: an outline has coordinates that no picture has. Export it again, in pixels."
        )
    return outline


def _area(ring: Float64) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2.0


def _ragged(outlines: list[Float64]) -> tuple[Float64, Int64]:
    counts = [len(outline) for outline in outlines]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return (np.concatenate(outlines) if outlines else np.zeros((0, 2))), offsets

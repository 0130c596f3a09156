"""Outlines drawn by people or programs: Aperio XML, QuPath GeoJSON, ImageJ ROI → label images."""

from __future__ import annotations

import io
import json
import zlib
from typing import Any

import numpy as np

from nucleate.errors import InputError
from nucleate.io.files import PathLike, read_bytes, read_up_to
from nucleate.labels import compact, rasterise
from nucleate.types import Drawn, Float64, Int32, Int64

_MAX_BYTES = 1 << 30
_MAX_ROI_BYTES = 16 << 20


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
    return ragged(outlines)


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
    data = read_bytes(path, _MAX_BYTES)
    if path.name.endswith(".gz"):
        import gzip

        try:
            with gzip.open(io.BytesIO(data)) as unpacked:
                data = read_up_to(unpacked, _MAX_BYTES + 1)
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
    names: list[str] = []
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


def read_imagej_rois(path: PathLike) -> list[tuple[Float64, Int64]]:
    """Read the outlines of ImageJ regions of interest: one `.roi` file, or a zip file of them.

    Sub-pixel and whole-pixel coordinates both count from the corner of the first pixel, as
    ImageJ fills them. Points and lines enclose nothing and are left out.

    Args:
        path: `.roi`, or `.zip` of such files.

    Returns:
        One entry per region: its outline or outlines (a composite has several) as vertices float64
        (m, 2) in (x, y) and offsets int64 (k + 1,).

    Raises:
        InputError: missing, damaged, or not of ImageJ.
    """
    import zipfile

    data = read_bytes(path, _MAX_BYTES)
    if path.suffix.lower() != ".zip":
        return [found for found in [_roi(path, data)] if found is not None]
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [m for m in archive.infolist() if _is_roi(m.filename)]
            if sum(m.file_size for m in members) > _MAX_BYTES or len(members) > 1_000_000:
                raise InputError(f"{path}: unpacks to more than 1 GiB. Split it into tiles.")
            parts = [_roi(path, archive.read(member)) for member in members]
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError,
            OSError) as error:  # fmt: skip
        raise InputError(f"{path}: not a valid zip file ({error}). Export it again.") from error
    return [part for part in parts if part is not None]


def _is_roi(name: str) -> bool:
    return name.lower().endswith(".roi") and not name.rsplit("/", 1)[-1].startswith(".")


def _roi(path: PathLike, data: bytes) -> tuple[Float64, Int64] | None:
    """Return the closed outlines of one region, None where it encloses nothing."""
    import roifile

    if len(data) > _MAX_ROI_BYTES:
        raise InputError(f"{path}: a region of {len(data) >> 20} MiB is no outline. Check it.")
    try:
        region = roifile.ImagejRoi.frombytes(data)
        kind = roifile.ROI_TYPE
        if region.composite:
            pieces = list(region.coordinates(multi=True))
        elif region.roitype in (kind.POLYGON, kind.FREEHAND, kind.TRACED):
            pieces = [np.asarray(region.coordinates())]
        elif region.roitype == kind.RECT:
            x0, y0, x1, y1 = region.left, region.top, region.right, region.bottom
            pieces = [np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])]
        elif region.roitype == kind.OVAL:
            turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
            middle = np.array([region.left + region.right, region.top + region.bottom]) / 2
            half = np.array([region.right - region.left, region.bottom - region.top]) / 2
            pieces = [middle + half * np.stack([np.cos(turn), np.sin(turn)], 1)]
        else:
            return None
        outlines = [_finite(path, np.asarray(piece, np.float64).reshape(-1, 2)) for piece in pieces]
    except InputError:
        raise
    except Exception as error:  # hostile bytes raise anything; all mean the same
        said = " ".join(str(error).split())[:120]
        raise InputError(
            f"{path}: not an ImageJ region ({said}). Export it from ImageJ's ROI manager again."
        ) from error
    outlines = [outline for outline in outlines if len(outline) >= 3]
    return ragged(outlines) if outlines else None


def draw(outlines: tuple[Float64, Int64], shape: tuple[int, int]) -> Int32:
    """Draw outlines into a label image of `shape` (H, W); the earlier one keeps shared pixels."""
    return rasterise(*outlines, shape)[0]


def draw_counted(
    outlines: tuple[Float64, Int64], shape: tuple[int, int], later_wins: bool = False
) -> tuple[Int32, Int64, Drawn]:
    """Draw outlines into a label image, and say what became of them.

    Args:
        outlines: vertices and offsets.
        shape: (H, W).
        later_wins: whether the later outline gets a shared pixel; else the earlier one keeps it.

    Returns:
        Labels int32 (H, W) 1..n without gaps; int64 (n,) the outline of each label; the counts.

    Example:
        >>> squares = np.array([[0, 0], [2, 0], [2, 1], [0, 1], [1, 0], [3, 0], [3, 1], [1, 1.0]])
        >>> labels, owners, drawn = draw_counted((squares, np.array([0, 4, 8])), (1, 3))
        >>> labels.tolist(), drawn.contested_px
        ([[1, 1, 2]], 1)
    """
    coords, offsets = outlines
    count = len(offsets) - 1
    order = np.arange(count)[::-1] if later_wins else np.arange(count)
    if later_wins and count:
        coords = np.concatenate([coords[offsets[i] : offsets[i + 1]] for i in order])
        offsets = np.concatenate([[0], np.cumsum(np.diff(offsets)[order])]).astype(np.int64)
    drawn, contested = rasterise(coords, offsets, shape, order.astype(np.int64) + 1)
    labels, old = compact(drawn)
    return labels, old - 1, Drawn(count, contested, count - len(old))


def _finite(path: PathLike, outline: Float64) -> Float64:
    if not np.isfinite(outline).all() or np.abs(outline).max() > 1e7:
        raise InputError(
            f"{path}: an outline has coordinates that no picture has. Export it again, in pixels."
        )
    return outline


def _area(ring: Float64) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2.0


def ragged(outlines: list[Float64]) -> tuple[Float64, Int64]:
    """Return outlines one after the other: vertices float64 (m, 2) and offsets int64 (n + 1,)."""
    counts = [len(outline) for outline in outlines]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return (np.concatenate(outlines) if outlines else np.zeros((0, 2))), offsets

"""Outlines in the XML of Aperio ImageScope, and in the similar XML of HALO."""

from __future__ import annotations

import io
from collections import Counter
from typing import Any

import numpy as np

from nucleate.annotations.drawing import MAX_BYTES, finite, ragged
from nucleate.annotations.outline_file import OutlineFile, without_regions
from nucleate.errors import InputError
from nucleate.files import PathLike, read_bytes
from nucleate.types import Float64, Int64

_KINDS = {  # Type of a region, as ImageScope and HALO write it
    "0": "polygon", "1": "rectangle", "2": "ellipse", "3": "arrow", "4": "ruler", "5": "pin",
    "rectangle": "rectangle", "ellipse": "ellipse", "circle": "ellipse", "arrow": "arrow",
    "ruler": "ruler", "pin": "pin",
}  # fmt: skip
_OTHERS = {  # root element -> the program that writes it
    "ASAP_Annotations": "an annotation of ASAP",
    "annotations": "an annotation of CVAT or of NDP.view",
    "annotation": "boxes in the form of Pascal VOC",
    "Slide": "an annotation of a slide viewer",
    "SlideViewer_Annotations": "an annotation of SlideViewer",
}


def read_aperio_xml(path: PathLike) -> tuple[Float64, Int64]:
    """Read the outlines of an Aperio ImageScope annotation file.

    Args:
        path: the XML file; may be inside a zip file. Regions with fewer than three vertices are
            omitted, except ellipses and rectangles given by two corners.

    Returns:
        Vertices float64 (m, 2) as (x, y) in pixels, corner origin; offsets int64 (n + 1,).

    Raises:
        InputError: missing, not XML, with entities (refused as an attack), or without vertices.
    """
    return read_aperio_regions(path).outlines


def read_aperio_regions(path: PathLike) -> OutlineFile:
    """Read an Aperio ImageScope annotation file: nuclei, and omitted regions with the reason.

    Negative regions, arrows, rulers and regions around other regions are not nuclei.

    Args:
        path: see `read_aperio_xml`.

    Raises:
        InputError: see `read_aperio_xml`.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, iterparse

    data = read_bytes(path, MAX_BYTES)
    outlines: list[Float64] = []
    omitted: Counter[str] = Counter()
    root = None
    try:
        for _, element in iterparse(io.BytesIO(data), forbid_dtd=False, forbid_entities=True):
            root = element.tag  # the root element ends last
            if element.tag == "Region":
                outline, kind = _outline(element)
                if outline is None:
                    omitted[kind] += 1
                else:
                    outlines.append(finite(path, outline))
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
        what = f": {_OTHERS[root]}" if root in _OTHERS else ""
        raise InputError(
            f"{path}: not an Aperio annotation{what}: the XML begins with {root!r}, not "
            "'Annotations'. Export it as GeoJSON, or as XML of ImageScope."
        )
    return _outline_file(path, outlines, omitted)


def _outline_file(path: PathLike, outlines: list[Float64], omitted: Counter[str]) -> OutlineFile:
    if not outlines and omitted["no vertices"]:
        raise InputError(
            f"{path}: {omitted['no vertices']} regions have no Vertex with X and Y: XML of another "
            "program. Export it as GeoJSON, or as XML of ImageScope."
        )
    problems = tuple(
        f"{omitted[kind]} {words} omitted"
        for kind, words in (
            ("negative", "negative regions (NegativeROA) are not subtracted, but"),
            ("no vertices", "regions have no Vertex with X and Y and are"),
        )
        if omitted[kind]
    )
    notes = tuple(
        f"{count} regions are omitted: {kind}"
        for kind, count in sorted(omitted.items())
        if kind not in ("negative", "no vertices")
    )
    file = OutlineFile(ragged(outlines), [""] * len(outlines), problems=problems, notes=notes)
    return without_regions(file)


def _outline(region: Any) -> tuple[Float64 | None, str]:  # noqa: ANN401
    """Return the outline of a region, or None and the reason.

    Raises:
        KeyError: a vertex has no X or Y.
        ValueError: a coordinate is not a number.
    """
    kind = _KINDS.get(str(region.get("Type", "0")).lower(), "polygon")
    vertices = [(v.attrib["X"], v.attrib["Y"]) for v in region.iter() if v.tag in ("Vertex", "V")]
    points = np.asarray(vertices, np.float64).reshape(-1, 2)
    if str(region.get("NegativeROA", "0")).lower() in ("1", "true"):
        return None, "negative"
    if kind in ("arrow", "ruler", "pin"):
        return None, f"{kind}s"
    if not len(points):
        return None, "no vertices"
    if kind == "ellipse" and len(points) in (2, 4):
        return _ellipse(points), kind
    if kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]), kind
    return (points, kind) if len(points) >= 3 else (None, "fewer than three vertices")


def _ellipse(corners: Float64) -> Float64:
    """Return 64 vertices of the axis-aligned ellipse in the bounding box of some corners."""
    low, high = corners.min(0), corners.max(0)
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], 1)
    return np.asarray((low + high) / 2 + (high - low) / 2 * circle, np.float64)

"""Outlines in the XML of Aperio ImageScope."""

from __future__ import annotations

import io

import numpy as np

from nucleate.annotations.drawing import MAX_BYTES, finite, ragged
from nucleate.errors import InputError
from nucleate.files import PathLike, read_bytes
from nucleate.types import Float64, Int64


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

    data = read_bytes(path, MAX_BYTES)
    outlines: list[Float64] = []
    root = None
    try:
        for _, element in iterparse(io.BytesIO(data), forbid_dtd=False, forbid_entities=True):
            root = element.tag  # the last element to end is the outermost
            if element.tag == "Region":
                vertices = [(v.attrib["X"], v.attrib["Y"]) for v in element.iter("Vertex")]
                outline = np.asarray(vertices, np.float64).reshape(-1, 2)
                if len(outline) >= 3:
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
        raise InputError(
            f"{path}: not an Aperio annotation: the XML begins with {root!r}, not 'Annotations'. "
            "Is this the right file?"
        )
    return ragged(outlines)

"""Messages between the page and its server: boxes, regions, filters, packed views, colours."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np

from nucleate.errors import InputError
from nucleate.evaluation.metrics.nucleus_errors import MEANING
from nucleate.geometry import palette
from nucleate.types import Float64
from nucleate.viewer.selection import Filters, parse_filters
from nucleate.viewer.table import MapBox, View

_RING_MOST = 20_000  # maximum number of corners of a region


def palette_script() -> str:
    """Return the palette as a JavaScript module, for `colours.js` and `histogram.js`."""
    web = palette.web_colour
    colours = {
        "PLAIN": web(palette.OUTLINE_RGB),
        "NAMED": web(palette.SKY),
        "UNKNOWN": "#888888",
        "CLASSES": [web(rgb) for rgb in palette.CLASS_RGB],
        "OUTCOMES": {name: web(rgb) for name, rgb in palette.OUTCOME_RGB.items()},
        "MEANING": MEANING,
        "SCALE": palette.SCALE_RGB,
    }
    return "".join(f"export const {name} = {json.dumps(v)};\n" for name, v in colours.items())


def pack(view: View) -> bytes:
    """Serialise a view: length of the header, header as JSON, then the arrays.

    Every array starts at a multiple of four bytes; the header lists name, type and length of each.
    """
    kinds = {"f": "float32", "u": "uint32"}
    arrays = {name: np.ascontiguousarray(values) for name, values in view.arrays.items()}
    head = json.dumps(
        {
            "kind": view.kind,
            "count": view.count,
            "bins": view.bins_xy,
            "arrays": [[n, kinds[a.dtype.kind], int(a.size)] for n, a in arrays.items()],
        }
    ).encode()
    head += b" " * (-len(head) % 4)
    out = io.BytesIO()
    out.write(struct.pack("<I", len(head)))
    out.write(head)
    for array in arrays.values():
        out.write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return out.getvalue()


def parse_box(text: Any) -> MapBox:  # noqa: ANN401
    """Parse a box in level-0 pixels: x0, y0, x1, y1."""
    parts = text.split(",") if isinstance(text, str) else text
    try:
        x0, y0, x1, y1 = (float(part) for part in parts)
    except (TypeError, ValueError) as error:
        raise InputError("A box must be four numbers: x0, y0, x1, y1.") from error
    if not np.isfinite([x0, y0, x1, y1]).all() or x1 <= x0 or y1 <= y0:
        raise InputError("A box must run from its upper left to its lower right corner.")
    return x0, y0, x1, y1


def parse_ring(found: Any) -> Float64 | None:  # noqa: ANN401
    """Parse the corners of a region, float64 (n, 2); None for the whole image."""
    if found is None:
        return None
    try:
        ring = np.array(found, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError("A region must be a list of corners [x, y].") from error
    if ring.ndim != 2 or ring.shape[1] != 2 or not 3 <= len(ring) <= _RING_MOST:
        raise InputError("A region must be a list of at least three corners [x, y].")
    if not np.isfinite(ring).all():
        raise InputError("A corner of the region is not a number. Draw another region.")
    return ring


def parse_filter_text(text: str) -> Filters:
    """Parse a JSON list of filters."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InputError("Filters must be a list in JSON.") from error
    return parse_filters(found)

"""The page and what it asks for: pieces of images, nuclei of regions, counts, files."""

from __future__ import annotations

import io
import itertools
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import Body, FastAPI, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles

from nucleate._version import __version__
from nucleate.errors import InputError, NucleateError, explain_os_error
from nucleate.results.geojson import feature_lines
from nucleate.types import Float64, Int64
from nucleate.viewer.contents import Content
from nucleate.viewer.pixels import TILE_PX
from nucleate.viewer.queue import Queue
from nucleate.viewer.table import Filters, MapBox, Table, View, area_px, parse_filters

STATIC = Path(__file__).parent / "static"
_LINES = 2_000  # of a file that are sent at once
_RING_MOST = 20_000  # corners of a region
Asked = Annotated[dict[str, Any], Body()]


def make_app(shown: list[Content], queue: Queue | None) -> FastAPI:
    """Return the application; it trusts anyone who asks: see `guard`.

    Args:
        shown: what there is to see from the start.
        queue: takes images on; None where nothing may be sent.
    """
    app = FastAPI(title="nucleate", docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(NucleateError)
    def told(_: Request, error: NucleateError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, status_code=400)

    @app.exception_handler(OSError)
    def unreadable(_: Request, error: OSError) -> JSONResponse:
        words = explain_os_error(error, Path(error.filename or "a file").name)
        return JSONResponse({"error": words}, status_code=500)

    def item(name: str) -> Content:
        """Return what `3` or, of a dropped image, `q3` is the name of."""
        if name.startswith("q") and queue is not None and name[1:].isdecimal():
            found = queue.job(int(name[1:])).shown
            if found is not None:
                return found
        elif name.isdecimal() and int(name) < len(shown):
            return shown[int(name)]
        raise InputError(f"Image {name!r} is not on this page. Reload the page.")

    def layer(name: str, number: int) -> Table:
        tables = list(item(name).layers.values())
        if not 0 <= number < len(tables):
            raise InputError(f"Image {name!r} has no result {number}. Reload the page.")
        return tables[number]

    def chosen(table: Table, asked: dict[str, Any]) -> tuple[Int64, Float64 | None]:
        """Return the rows that a page has selected, and its region."""
        ring = _ring(asked.get("ring"))
        return table.select(parse_filters(asked.get("filters") or []), ring), ring

    def taking() -> Queue:
        if queue is None:
            raise InputError(
                "This page only shows images. Start it with `nucleate serve` to segment some."
            )
        return queue

    @app.get("/")
    def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers={"cache-control": "no-store"})

    @app.get("/api/items")
    def items() -> dict[str, Any]:
        return {
            "version": __version__,
            "items": [
                *(_about(str(i), one) for i, one in enumerate(shown)),
                *(_about(f"q{n}", one) for n, one in (queue.finished() if queue else [])),
            ],
            "takes_pictures": queue is not None,
            "most_bytes": 0 if queue is None else queue.limits.megabytes << 20,
        }

    @app.get("/api/items/{name}")
    def about(name: str) -> dict[str, Any]:
        found = item(name)
        found.look()
        return _about(name, found)

    @app.get("/api/items/{name}/tiles/{level}/{column}_{row}.jpg")
    def tile(name: str, level: int, column: int, row: int) -> Response:
        pixels = item(name).pixels
        if pixels is None:
            raise InputError("The image file is missing. Name it when you start nucleate view.")
        data = pixels.tile(level, column, row)
        return Response(data, media_type="image/jpeg", headers={"cache-control": "max-age=3600"})

    @app.get("/api/items/{name}/layers/{number}/view")
    def view(name: str, number: int, box: str, filters: str = "[]", colour: str = "") -> Response:
        table = layer(name, number)
        found = table.view(_box(box), _filters(filters), colour or None)
        return Response(pack(found), media_type="application/octet-stream")

    @app.get("/api/items/{name}/layers/{number}/nuclei/{row}")
    def nucleus(name: str, number: int, row: int) -> dict[str, Any]:
        return layer(name, number).facts(row)

    @app.get("/api/items/{name}/layers/{number}/columns/{column}")
    def column(name: str, number: int, column: str) -> dict[str, Any]:
        table = layer(name, number)
        low, high = table.ends(column)
        return {"span": table.span(column), "low": low, "high": high}

    @app.post("/api/items/{name}/layers/{number}/select")
    def select(name: str, number: int, asked: Asked) -> dict[str, Any]:
        table, column = layer(name, number), asked.get("column")
        rows, ring = chosen(table, asked)
        frame = item(name).frame
        pixels = float(frame.width * frame.height) if ring is None else area_px(ring, frame)
        if pixels <= 0:
            raise InputError("The region is outside the image, or has no area. Draw another.")
        told: dict[str, Any] = {"count": len(rows), "of": table.count, "px2": pixels}
        if frame.mpp is not None:
            told["mm2"] = pixels * frame.mpp**2 / 1e6
        if column is not None:
            values = table.column(str(column))[rows]
            values = values[np.isfinite(values)]
            told["histogram"] = table.histogram(rows, str(column))
            told["mean"] = float(values.mean()) if len(values) else None
            told["median"] = float(np.median(values)) if len(values) else None
        return told

    @app.post("/api/items/{name}/layers/{number}/geojson")
    def geojson(name: str, number: int, asked: Asked) -> StreamingResponse:
        table = layer(name, number)
        lines = feature_lines(table.nuclei(chosen(table, asked)[0]), table.file.id_space)
        return StreamingResponse(_joined(lines), media_type="application/geo+json")

    @app.post("/api/pictures")
    async def take(
        request: Request, name: Annotated[str, Query(max_length=500)], mpp: float | None = None
    ) -> dict[str, int]:
        return {"number": taking().add(name, await request.body(), mpp)}

    @app.get("/api/pictures/{number}")
    def state(number: int) -> dict[str, Any]:
        return taking().job(number).told()

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


def _about(name: str, one: Content) -> dict[str, Any]:
    return {
        "id": name,
        "name": one.name,
        "width": one.frame.width,
        "height": one.frame.height,
        "mpp": one.frame.mpp,
        "pixels": one.pixels is not None,
        "tile_px": TILE_PX,
        "note": one.note,
        "layers": [
            {
                "name": title,
                "count": table.count,
                "numeric": table.numeric,
                "names": {name: list(names) for name, names in table.names.items()},
            }
            for title, table in one.layers.items()
        ],
    }


def _joined(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield lines in blocks: to send each by itself would take longer than to write it."""
    while block := b"".join(itertools.islice(lines, _LINES)):
        yield block


def pack(view: View) -> bytes:
    """Return a view as bytes: length of the head, head as JSON, then the arrays one by one.

    Every array begins at a multiple of four bytes; the head states name, kind and length of each.
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


def _box(text: Any) -> MapBox:  # noqa: ANN401
    parts = text.split(",") if isinstance(text, str) else text
    try:
        x0, y0, x1, y1 = (float(part) for part in parts)
    except (TypeError, ValueError) as error:
        raise InputError("A box must be four numbers: x0, y0, x1, y1.") from error
    if not np.isfinite([x0, y0, x1, y1]).all() or x1 <= x0 or y1 <= y0:
        raise InputError("A box must run from its upper left to its lower right corner.")
    return x0, y0, x1, y1


def _ring(found: Any) -> Float64 | None:  # noqa: ANN401
    """Return the corners of a region, float64 (n, 2); None for the whole image."""
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


def _filters(text: str) -> Filters:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InputError("Filters must be a list in JSON.") from error
    return parse_filters(found)

"""The web application: the page, tiles of images, nuclei of regions, counts, files."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Body, FastAPI, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles

from nucleate._version import __version__
from nucleate.errors import InputError, NucleateError, explain_os_error
from nucleate.results.geojson import feature_lines
from nucleate.types import Float64, Int64
from nucleate.viewer.contents import Content
from nucleate.viewer.messages import pack, palette_script, parse_box, parse_filter_text, parse_ring
from nucleate.viewer.pixels import TILE_PX
from nucleate.viewer.queue import Queue
from nucleate.viewer.selection import area_px, parse_filters
from nucleate.viewer.table import Table

STATIC = Path(__file__).parent / "static"
_LINES = 2_000  # lines of a file sent at a time
Asked = Annotated[dict[str, Any], Body()]


def make_app(shown: list[Content], queue: Queue | None) -> FastAPI:
    """Create the application, without access control, which is in `guard`.

    Args:
        shown: images to show from the start.
        queue: queue for dropped images; None to accept none.
    """
    app = FastAPI(title="nucleate", docs_url=None, redoc_url=None, openapi_url=None)
    shelf = _Shelf(shown, queue)

    @app.exception_handler(NucleateError)
    def answer(_: Request, error: NucleateError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, status_code=400)

    @app.exception_handler(OSError)
    def unreadable(_: Request, error: OSError) -> JSONResponse:
        words = explain_os_error(error, Path(error.filename or "a file").name)
        return JSONResponse({"error": words}, status_code=500)

    @app.get("/")
    def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers={"cache-control": "no-store"})

    @app.get("/static/palette.js")
    def palette() -> Response:
        return Response(palette_script(), media_type="text/javascript")

    for routes in (_image_routes(shelf), _nuclei_routes(shelf), _drop_routes(shelf)):
        app.include_router(routes)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


@dataclass(frozen=True, slots=True)
class _Shelf:
    """The images on the page: those named at the start, and those dropped on the page."""

    shown: list[Content]
    queue: Queue | None

    def items(self) -> list[dict[str, Any]]:
        """Return the list of images for the page."""
        dropped = self.queue.finished() if self.queue else []
        return [
            *(_about(str(i), one) for i, one in enumerate(self.shown)),
            *(_about(f"q{n}", one) for n, one in dropped),
        ]

    def item(self, name: str) -> Content:
        """Return an image by its id, such as `3`, or `q3` for a dropped image."""
        if name.startswith("q") and self.queue is not None and name[1:].isdecimal():
            found = self.queue.job(int(name[1:])).shown
            if found is not None:
                return found
        elif name.isdecimal() and int(name) < len(self.shown):
            return self.shown[int(name)]
        raise InputError(f"Image {name!r} is not on this page. Reload the page.")

    def layer(self, name: str, number: int) -> Table:
        """Return one of the results of an image."""
        tables = list(self.item(name).layers.values())
        if not 0 <= number < len(tables):
            raise InputError(f"Image {name!r} has no result {number}. Reload the page.")
        return tables[number]

    def taking(self) -> Queue:
        """Return the queue for dropped images; raise an `InputError` if there is none."""
        if self.queue is None:
            raise InputError(
                "This page only shows images. Start it with `nucleate serve` to segment some."
            )
        return self.queue


def _image_routes(shelf: _Shelf) -> APIRouter:
    """Return the routes for images and their pixels."""
    routes = APIRouter()

    @routes.get("/api/items")
    def items() -> dict[str, Any]:
        most = 0 if shelf.queue is None else shelf.queue.limits.megabytes << 20
        return {
            "version": __version__,
            "items": shelf.items(),
            "takes_images": shelf.queue is not None,
            "most_bytes": most,
        }

    @routes.get("/api/items/{name}")
    def about(name: str) -> dict[str, Any]:
        found = shelf.item(name)
        found.look()
        return _about(name, found)

    @routes.get("/api/items/{name}/tiles/{level}/{column}_{row}.jpg")
    def tile(name: str, level: int, column: int, row: int) -> Response:
        pixels = shelf.item(name).pixels
        if pixels is None:
            raise InputError("The image file is missing. Pass it when you start nucleate view.")
        data = pixels.tile(level, column, row)
        return Response(data, media_type="image/jpeg", headers={"cache-control": "max-age=3600"})

    return routes


def _nuclei_routes(shelf: _Shelf) -> APIRouter:
    """Return the routes for the nuclei of an image, and for selections of them."""
    routes = APIRouter(prefix="/api/items/{name}/layers/{number}")

    @routes.get("/view")
    def view(name: str, number: int, box: str, filters: str = "[]", colour: str = "") -> Response:
        table = shelf.layer(name, number)
        found = table.view(parse_box(box), parse_filter_text(filters), colour or None)
        return Response(pack(found), media_type="application/octet-stream")

    @routes.get("/nuclei/{row}")
    def nucleus(name: str, number: int, row: int) -> dict[str, Any]:
        return shelf.layer(name, number).facts(row)

    @routes.get("/columns/{column}")
    def column(name: str, number: int, column: str) -> dict[str, Any]:
        table = shelf.layer(name, number)
        low, high = table.ends(column)
        return {"span": table.span(column), "low": low, "high": high}

    @routes.post("/select")
    def select(name: str, number: int, asked: Asked) -> dict[str, Any]:
        table, column = shelf.layer(name, number), asked.get("column")
        rows, ring = _chosen(table, asked)
        frame = shelf.item(name).frame
        pixels = float(frame.width * frame.height) if ring is None else area_px(ring, frame)
        if pixels <= 0:
            raise InputError("The region is outside the image, or has no area. Draw another.")
        answer: dict[str, Any] = {"count": len(rows), "of": table.count, "px2": pixels}
        if frame.mpp is not None:
            answer["mm2"] = pixels * frame.mpp**2 / 1e6
        if column is not None:
            values = table.column(str(column))[rows]
            values = values[np.isfinite(values)]
            answer["histogram"] = table.histogram(rows, str(column))
            answer["mean"] = float(values.mean()) if len(values) else None
            answer["median"] = float(np.median(values)) if len(values) else None
        return answer

    @routes.post("/geojson")
    def geojson(name: str, number: int, asked: Asked) -> StreamingResponse:
        table = shelf.layer(name, number)
        lines = feature_lines(table.nuclei(_chosen(table, asked)[0]), table.file.id_space)
        return StreamingResponse(_joined(lines), media_type="application/geo+json")

    return routes


def _drop_routes(shelf: _Shelf) -> APIRouter:
    """Return the routes for images dropped on the page."""
    routes = APIRouter()

    @routes.post("/api/images")
    async def take(
        request: Request, name: Annotated[str, Query(max_length=500)], mpp: float | None = None
    ) -> dict[str, int]:
        return {"number": shelf.taking().add(name, await request.body(), mpp)}

    @routes.get("/api/images/{number}")
    def state(number: int) -> dict[str, Any]:
        return shelf.taking().job(number).as_json()

    return routes


def _chosen(table: Table, asked: dict[str, Any]) -> tuple[Int64, Float64 | None]:
    """Return the rows selected by a request, and its region."""
    ring = parse_ring(asked.get("ring"))
    return table.select(parse_filters(asked.get("filters") or []), ring), ring


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
    """Join lines into blocks, because sending single lines is slow."""
    while block := b"".join(itertools.islice(lines, _LINES)):
        yield block

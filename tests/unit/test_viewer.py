"""What the page asks its server for, and who may ask."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import struct
import threading
import time

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from nucleate.errors import ConfigError, InputError
from nucleate.geometry.outlines import paint
from nucleate.inference.pipeline import EngineOptions
from nucleate.inference.segment import find_nuclei
from nucleate.readers.array import ArraySource
from nucleate.results.images import write_labels
from nucleate.types import Frame, Instances
from nucleate.viewer.contents import keep, open_contents
from nucleate.viewer.pixels import TILE_PX, Pyramid
from nucleate.viewer.selection import Filter
from nucleate.viewer.table import MOST_OUTLINES, MOST_POINTS, Table, View
from tests.conftest import painted
from tests.errors import says

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from fastapi.testclient import TestClient

from nucleate.viewer.app import make_app
from nucleate.viewer.guard import Guard
from nucleate.viewer.messages import pack
from nucleate.viewer.queue import KEPT, WAITING, Limits, Queue

PORT = 8123
TOKEN = "a-token"  # noqa: S105
CLICKED = {
    "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document",
}  # fmt: skip


def squares(places, edge=6, width=400, height=300, mpp=0.5, **features):
    """Return square nuclei with their left upper corners at `places`."""
    places = np.asarray(places, np.float32).reshape(-1, 2)
    corners = np.array([[0, 0], [edge, 0], [edge, edge], [0, edge]], np.float32)
    n = len(places)
    return Instances(
        ids=np.arange(1, n + 1),
        coords_xy=(places[:, None] + corners).reshape(-1, 2),
        offsets=np.arange(0, 4 * n + 1, 4),
        boxes_xyxy=np.concatenate([places, places + edge], 1),
        scores=np.linspace(0.5, 1, n, dtype=np.float32),
        classes=np.zeros(n, np.int16),
        frame=Frame(width, height, mpp),
        features={k: np.asarray(v, np.float32) for k, v in features.items()},
    )


def many(n, seed=0, **words):
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, [394, 294], (n, 2))
    places = places[np.argsort(places[:, 1])]
    return squares(places, area_um2=rng.normal(30, 5, n), roundness=rng.random(n), **words)


@pytest.fixture
def table(tmp_path):
    return Table(keep(many(500), tmp_path / "a.nuclei.parquet", "a.png"))


def test_a_view_holds_what_its_box_holds(table):
    nuclei = many(500)
    rows = table.inside((100, 50, 200, 150))
    centres = nuclei.coords_xy.reshape(-1, 4, 2).mean(1)
    true = ((centres >= [100, 50]) & (centres < [200, 150])).all(1)
    assert rows.tolist() == np.flatnonzero(true).tolist()
    view = table.view((100, 50, 200, 150), (), "area_um2")
    assert view.kind == "outlines"
    assert set(rows) <= set(view.arrays["rows"].tolist())  # and those that reach in
    row = int(view.arrays["rows"][3])
    begin, end = view.arrays["offsets"][3:5]
    np.testing.assert_allclose(view.arrays["coords_xy"][begin:end], nuclei.outline(row))
    assert view.arrays["values"][3] == nuclei.features["area_um2"][row]


def test_filters_hold_both_ends(table):
    area = table.column("area_um2")
    low, high = float(area[7]), float(np.nextafter(area.max(), np.float32(0)))
    rows = table.select((Filter("area_um2", low, high), Filter("roundness", 0, 0.5)), None)
    wanted = (area >= low) & (area <= high) & (table.column("roundness") <= 0.5)
    assert rows.tolist() == np.flatnonzero(wanted).tolist()
    assert table.select((Filter("area_um2", low, low),), None).tolist() == [7]


def test_a_region_is_counted_by_centres(table):
    ring = np.array([[0, 0], [400, 0], [0, 300]], np.float64)  # a triangle: half of the image
    rows = table.select((), ring)
    x, y = table.centres_xy.T
    inside = x / 400 + y / 300 < 1
    assert rows.tolist() == np.flatnonzero(inside).tolist()


def test_far_away_there_is_heat(tmp_path):
    n = MOST_POINTS + 10
    table = Table(keep(many(n), tmp_path / "b.nuclei.parquet", "b.png"))
    view = table.view((0, 0, 400, 300), (), "area_um2")
    assert view.kind == "heat"
    assert view.arrays["counts"].sum() == view.count == n
    assert np.nanmax(view.arrays["values"]) < 60
    empty = view.arrays["counts"] == 0
    assert (np.isnan(view.arrays["values"]) == empty).all()
    half = (Filter("roundness", 0, 0.5),)
    few = table.view((0, 0, 400, 300), half, None)
    assert few.kind == "points"
    assert MOST_OUTLINES < few.count == len(few.arrays["centres_xy"]) < n


def test_no_nuclei_at_all(tmp_path):
    table = Table(keep(Instances.empty(Frame(40, 30, 0.25)), tmp_path / "c.nuclei.parquet", "c"))
    assert table.view((0, 0, 40, 30), (), None).count == 0
    assert table.select((), None).size == 0
    assert table.span("score") == (0.0, 1.0)
    assert table.histogram(np.zeros(0, np.int64), "score")["counts"] == [0] * 48


def test_unknown_column_and_row(table):
    with pytest.raises(InputError, match=says("column", "'wings'")):
        table.column("wings")
    with pytest.raises(InputError, match=says("nucleus 500")):
        table.facts(500)


def test_pieces_of_all_levels_make_up_the_image():
    rng = np.random.default_rng(1)
    image = cv2.GaussianBlur(rng.integers(0, 256, (700, 1100, 3)).astype(np.uint8), (0, 0), 6)
    pyramid = Pyramid(lambda: ArraySource(image))
    for level in range(5):
        wide, high = -(-1100 // 2**level), -(-700 // 2**level)
        whole = np.zeros((high, wide, 3), np.uint8)
        for y in range(-(-high // TILE_PX)):
            for x in range(-(-wide // TILE_PX)):
                piece = np.asarray(Image.open(io.BytesIO(pyramid.tile(level, x, y))))
                top, left = y * TILE_PX, x * TILE_PX
                whole[top : top + piece.shape[0], left : left + piece.shape[1]] = piece
        smaller = cv2.resize(image, (wide, high), interpolation=cv2.INTER_AREA)
        difference = whole.astype(int).mean(2) - smaller.mean(2)  # of grey: JPEG halves colours
        assert np.abs(difference).mean() < 1.5, level
    with pytest.raises(InputError, match=says("3, 0", "level 0")):
        pyramid.tile(0, 3, 0)


def test_a_pack_is_read_back():
    arrays = {"rows": np.array([1, 2], np.uint32), "values": np.array([0.5], np.float32)}
    data = pack(View("points", 2, arrays))
    (length,) = struct.unpack_from("<I", data)
    head = json.loads(data[4 : 4 + length])
    assert head["arrays"] == [["rows", "uint32", 2], ["values", "float32", 1]]
    assert np.frombuffer(data, np.uint32, 2, 4 + length).tolist() == [1, 2]
    assert np.frombuffer(data, np.float32, 1, 4 + length + 8).tolist() == [0.5]


# ---- what is opened -------------------------------------------------------------------------


def write_image(path, width=400, height=300):
    Image.fromarray(np.full((height, width, 3), 230, np.uint8)).save(path)
    return path


def test_what_has_one_name_belongs_together(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        keep(many(5), tmp_path / folder / "a.nuclei.parquet", "a.png")
    image = write_image(tmp_path / "a.png")
    shown = open_contents([image, tmp_path / "one", tmp_path / "two"], None, tmp_path, print)
    assert [one.name for one in shown] == ["a"]
    assert list(shown[0].layers) == ["one/a", "two/a"]
    assert shown[0].pixels is not None
    alone = open_contents([tmp_path / "one"], None, tmp_path, print)[0]
    assert alone.pixels is not None  # the image is beside the folder
    image.unlink()
    lost = open_contents([tmp_path / "one"], None, tmp_path, print)[0]
    assert lost.pixels is None
    assert "a.png" in lost.note


def test_a_result_cannot_point_elsewhere(tmp_path):
    write_image(tmp_path / "secret.png")
    (tmp_path / "x" / "y").mkdir(parents=True)
    keep(many(5), tmp_path / "x" / "y" / "a.nuclei.parquet", "../../secret.png")
    assert open_contents([tmp_path / "x" / "y"], None, tmp_path, print)[0].pixels is None


def _summary(folder, source, parquet):
    row = {"source": str(source), "status": "done", "files": {"parquet": parquet}}
    (folder / "summary.json").write_text(json.dumps({"sources": [row]}))


def test_the_image_is_found_through_the_summary(tmp_path, monkeypatch):
    scans, out = tmp_path / "scans", tmp_path / "deep" / "out"
    scans.mkdir()
    (out / "case").mkdir(parents=True)
    image = write_image(scans / "a.png")
    keep(many(5), out / "case" / "a.nuclei.parquet", "a.png")

    def found():
        said = []
        (one,) = open_contents([out], None, tmp_path, said.append)
        return one, " ".join(said)

    one, said = found()
    assert one.pixels is None
    assert says("a.png", "summary.json", "Start nucleate view with the image").search(one.note)
    assert one.note in said  # in the terminal as on the page
    _summary(out, image, "case/a.nuclei.parquet")
    one, said = found()
    assert one.pixels.source.width == 400
    assert one.note == ""
    _summary(out, "scans/a.png", "case/a.nuclei.parquet")  # from the folder of the command
    monkeypatch.chdir(tmp_path)
    assert found()[0].pixels is not None
    (scans / "secret.png").write_bytes(image.read_bytes())
    for source, parquet in (
        (scans / "secret.png", "case/a.nuclei.parquet"),  # another name than the result has
        (image, "other/a.nuclei.parquet"),
    ):
        _summary(out, source, parquet)
        assert found()[0].pixels is None
    (out / "summary.json").write_text("{")
    assert found()[0].pixels is None


def test_what_does_not_fit_is_refused(tmp_path):
    keep(many(5), tmp_path / "a.nuclei.parquet", "a.png")
    image = write_image(tmp_path / "a.png", 300, 300)
    with pytest.raises(InputError, match=says("400 × 300", "a.png", "300 × 300")):
        open_contents([image, tmp_path / "a.nuclei.parquet"], None, tmp_path, print)
    (tmp_path / "other").mkdir()
    both = [image, write_image(tmp_path / "other" / "a.png")]
    assert [one.name for one in open_contents(both, None, tmp_path, print)] == ["a", "other/a"]
    with pytest.raises(ConfigError, match=r"a\.png.*same name.*one by one"):
        open_contents([*both, tmp_path / "a.nuclei.parquet"], None, tmp_path, print)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=says(".nuclei.parquet")):
        open_contents([tmp_path / "empty"], None, tmp_path, print)
    with pytest.raises(ConfigError, match=says("--truth")):
        open_contents([image], tmp_path / "a.nuclei.parquet", tmp_path, print)


def test_truth_says_what_became_of_each(tmp_path):
    truth = np.zeros((300, 400), np.int32)
    truth[10:16, 10:16] = 3  # found
    truth[50:56, 50:56] = 7  # missed
    write_labels(tmp_path / "a.labels.tif", truth, 0.5)
    keep(squares([[10, 10], [100, 100]], area_um2=[9, 9]), tmp_path / "a.nuclei.parquet", "")
    result = tmp_path / "a.nuclei.parquet"
    shown = open_contents([result], tmp_path / "a.labels.tif", tmp_path, print)[0]
    found, true = shown.layers.values()
    assert [found.facts(row)["outcome"] for row in (0, 1)] == ["matched", "spurious"]
    assert [true.facts(row)["outcome"] for row in (0, 1)] == ["matched", "missed"]
    assert true.facts(0)["area_um2"] == pytest.approx(36 * 0.25)
    assert [true.facts(row)["id"] for row in (0, 1)] == [3, 7]
    keep(squares([[1, 1]], width=50, area_um2=[9]), tmp_path / "b.nuclei.parquet", "")
    with pytest.raises(InputError, match=says("50 × 300", "400 × 300")):
        open_contents([result], tmp_path / "b.nuclei.parquet", tmp_path, print)


# ---- who may ask ----------------------------------------------------------------------------


@pytest.fixture
def guarded(tmp_path):
    keep(many(50), tmp_path / "a.nuclei.parquet", "a.png")
    (tmp_path / "secret.txt").write_text("nobody's business")
    shown = open_contents(
        [write_image(tmp_path / "a.png"), tmp_path / "a.nuclei.parquet"], None, tmp_path, print
    )
    return TestClient(
        Guard(make_app(shown, None), TOKEN, PORT), base_url=f"http://127.0.0.1:{PORT}",
        raise_server_exceptions=False,
    )  # fmt: skip


def test_the_page_and_what_it_needs(guarded):
    page = guarded.get(f"/{TOKEN}/")
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["referrer-policy"] == "no-referrer"
    for file in (
        "main.js",
        "palette.js",
        "overlay.js",
        "style.css",
        "openseadragon/openseadragon.min.js",
    ):
        assert guarded.get(f"/{TOKEN}/static/{file}").status_code == 200
    listed = guarded.get(f"/{TOKEN}/api/items").json()
    assert listed["items"][0]["layers"][0]["count"] == 50
    tile = guarded.get(f"/{TOKEN}/api/items/0/tiles/0/0_0.jpg")
    assert Image.open(io.BytesIO(tile.content)).size == (400, 300)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 404),
        ("/wrong/api/items", {}, 404),
        ("/api/items", {}, 404),
        (f"/{TOKEN}/api/items", {"host": "evil.example"}, 400),
        (f"/{TOKEN}/api/items", {"host": f"evil.example:{PORT}"}, 400),
        (f"/{TOKEN}/api/items", {"origin": "http://evil.example"}, 403),
        (f"/{TOKEN}/api/items", {"origin": "null"}, 403),
        (f"/{TOKEN}/api/items", {"sec-fetch-site": "cross-site"}, 403),
        (f"/{TOKEN}/api/items", {"origin": f"http://127.0.0.1:{PORT}"}, 200),
        (f"/{TOKEN}/", {**CLICKED}, 200),
        (f"/{TOKEN}/", {**CLICKED, "sec-fetch-dest": "iframe"}, 403),
        (f"/{TOKEN}/", {**CLICKED, "sec-fetch-mode": "no-cors"}, 403),
        (f"/{TOKEN}/api/items", {**CLICKED}, 403),
        (f"/{TOKEN}", {}, 200),
        (f"/{TOKEN}/static/../app.py", {}, 404),
        (f"/{TOKEN}/static/%2e%2e/app.py", {}, 404),
        (f"/{TOKEN}/static/..%2fapp.py", {}, 404),
        (f"/{TOKEN}/static//etc/passwd", {}, 404),
        (f"/{TOKEN}/api/items/..%2f..%2fsecret.txt", {}, 404),
        (f"/{TOKEN}/api/items/7", {}, 400),
        (f"/{TOKEN}/api/items/-1", {}, 400),
        (f"/{TOKEN}/api/items/q0", {}, 400),
        (f"/{TOKEN}/api/items/0/layers/9/nuclei/0", {}, 400),
        (f"/{TOKEN}/api/items/0/tiles/99/0_0.jpg", {}, 400),
        (f"/{TOKEN}/api/items/0/tiles/-1/0_0.jpg", {}, 400),
        (f"/{TOKEN}/docs", {}, 404),
        (f"/{TOKEN}/openapi.json", {}, 404),
    ],
)
def test_who_is_refused(guarded, path, headers, status):
    answer = guarded.get(path, headers=headers)
    assert answer.status_code == status, answer.text
    assert "nobody's business" not in answer.text
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("layers/0/select", {"ring": [[0, 0], [1, 1]]}),
        ("layers/0/select", {"ring": [[0, 0], [1, 1], ["a", 2]]}),
        ("layers/0/select", {"filters": [["area_um2", 1]]}),
        ("layers/0/select", {"filters": [["wings", 1, 2]]}),
        ("layers/0/select", {"ring": [[0, 0], [1, 1], [1e999, 0]]}),
        ("layers/0/select", {"ring": [[0, 0], [9, 9], [20, 20]]}),
        ("layers/0/select", {"ring": [[-9, -9], [-1, -9], [-1, -1]]}),
        ("layers/5/select", {}),
    ],
)
def test_wrong_questions_get_one_sentence(guarded, path, body):
    data = json.dumps(body).replace("Infinity", "1e999")
    json_ = {"content-type": "application/json"}
    answer = guarded.post(f"/{TOKEN}/api/items/0/{path}", content=data, headers=json_)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_a_request_that_is_too_large(guarded):
    address = f"/{TOKEN}/api/items/0/layers/0/select"
    assert guarded.post(address, content=b" " * (2 << 20)).status_code == 413

    def pieces():  # no content-length: found out while it comes
        for _ in range(64):
            yield b" " * (64 << 10)

    assert guarded.post(address, content=pieces()).status_code == 413
    assert guarded.post(f"/{TOKEN}/api/images?name=a.png", content=b"x").status_code == 413


def test_a_slow_request_is_given_up():
    async def slow():
        await asyncio.sleep(10)

    sent = []

    async def send(message):
        sent.append(message)

    async def asked():
        guard = Guard(None, TOKEN, PORT, body_seconds=0.05)
        headers = [(b"host", f"127.0.0.1:{PORT}".encode())]
        scope = {"type": "http", "path": f"/{TOKEN}/api", "headers": headers}
        await guard(scope, slow, send)

    started = time.monotonic()
    asyncio.run(asked())
    assert sent[0]["status"] == 408
    assert time.monotonic() - started < 5


@pytest.fixture
def listening_server(tmp_path, monkeypatch):
    """Return host and port of a real server that waits half a second for a request."""
    import threading

    from nucleate.viewer import serving

    monkeypatch.setattr(serving, "ASK_S", 0.5)
    shown = open_contents([write_image(tmp_path / "a.png")], None, tmp_path, print)
    listening = serving.bound(0)
    server = serving.make_server(shown, None, listening, TOKEN)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield listening.getsockname()
    server.should_exit = True
    thread.join(10)
    listening.close()


def _status(address):
    import http.client

    asking = http.client.HTTPConnection(*address, timeout=10)
    try:
        asking.request("GET", f"/{TOKEN}/")
        return asking.getresponse().status
    finally:
        asking.close()


def test_silent_connections_do_not_lock_the_page(listening_server):
    import socket

    silent = [socket.create_connection(listening_server) for _ in range(80)]
    until = time.monotonic() + 20
    while _status(listening_server) != 200:
        assert time.monotonic() < until
        time.sleep(0.1)
    for each in silent:
        each.settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            while each.recv(1000):
                pass  # a refusal, then the end: it was hung up on
        each.close()


def test_who_asks_letter_by_letter_is_hung_up_on(listening_server):
    import socket

    with socket.create_connection(listening_server) as slow:
        slow.settimeout(0.1)
        slow.sendall(b"GET / HTTP/1.1\r\nHost: x")
        began, heard = time.monotonic(), b"?"
        while heard and time.monotonic() - began < 15:
            try:
                slow.sendall(b"x")
                heard = slow.recv(1)
            except TimeoutError:
                continue
            except OSError:
                heard = b""
        assert not heard
        assert time.monotonic() - began < 10


def test_region_export_is_what_was_selected(guarded):
    ring = [[0, 0], [200, 0], [200, 300], [0, 300]]
    asked = {"ring": ring, "filters": [["roundness", 0, 0.5]], "column": "area_um2"}
    printed = guarded.post(f"/{TOKEN}/api/items/0/layers/0/select", json=asked).json()
    found = guarded.post(f"/{TOKEN}/api/items/0/layers/0/geojson", json=asked).json()
    assert len(found["features"]) == printed["count"] == sum(printed["histogram"]["counts"])
    assert printed["mm2"] == pytest.approx(200 * 300 * 0.25 / 1e6)


def test_a_result_that_was_written_again_is_said(tmp_path):
    file = tmp_path / "a.nuclei.parquet"
    table = Table(keep(many(50), file, "a.png"))
    assert len(table.inside((0, 0, 400, 300))) == 50
    keep(many(90), file, "a.png")
    for ask in (
        lambda: list(table.nuclei(np.arange(3))),
        lambda: table.column("area_um2"),
        lambda: Table.places.func(table),
    ):
        with pytest.raises(InputError, match=says("changed", "page")):
            ask()


def test_a_found_image_that_does_not_fit_becomes_a_note(tmp_path):
    keep(many(50), tmp_path / "a.nuclei.parquet", "a.png")
    write_image(tmp_path / "a.png", 300, 300)
    shown = open_contents([tmp_path], None, tmp_path, print)
    asked = TestClient(
        Guard(make_app(shown, None), TOKEN, PORT), base_url=f"http://127.0.0.1:{PORT}"
    )
    printed = asked.get(f"/{TOKEN}/api/items/0").json()
    assert "a.png has 300 × 300" in printed["note"]
    assert not printed["pixels"]
    assert printed["layers"][0]["count"] == 50


def test_many_results_are_opened_when_they_are_looked_at(tmp_path):
    for number in range(5):
        keep(many(50), tmp_path / f"{number}.nuclei.parquet", f"{number}.png")
        write_image(tmp_path / f"{number}.png")
    shown = open_contents([tmp_path], None, tmp_path, print)
    assert len(shown) == 5
    for one in shown:
        (table,) = one.layers.values()
        assert "source" not in vars(one.pixels)
        assert "places" not in vars(table)


# ---- images that are sent -----------------------------------------------------------------


@pytest.fixture
def make_queue(tmp_path):
    made = []

    def make(model, limits=None, clock=time.monotonic):
        made.append(Queue(model, limits or Limits(), tmp_path, clock))
        return made[-1]

    yield make
    for queue in made:
        queue.close()


def png_bytes(image):
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def waited(queue, number):
    for _ in range(600):
        job = queue.job(number)
        if job.state in ("done", "failed"):
            return job
        time.sleep(0.05)
    raise AssertionError(job)


def test_a_dropped_image_becomes_nuclei(oracle, make_queue, tmp_path):
    labels = np.zeros((96, 128), np.int32)
    labels[10:30, 10:30], labels[50:70, 60:90] = 1, 2
    queue = make_queue(oracle)
    client = TestClient(
        Guard(make_app([], queue), TOKEN, PORT, image_bytes=1 << 20),
        base_url=f"http://127.0.0.1:{PORT}",
    )
    address = f"/{TOKEN}/api/images?name=../../a.png&mpp=0.25"
    number = client.post(address, content=png_bytes(painted(labels))).json()["number"]
    job = waited(queue, number)
    assert (job.name, job.state, job.done) == ("a.png", "done", job.tiles)
    about = client.get(f"/{TOKEN}/api/items/q{number}").json()
    assert client.get(f"/{TOKEN}/api/items").json()["items"] == [about]  # a reload finds it
    assert about["layers"][0]["count"] == 2
    found = next(iter(job.shown.layers.values()))
    direct = find_nuclei(ArraySource(painted(labels), 0.25), oracle, None, EngineOptions()).nuclei
    assert (
        paint(direct, labels.shape) == paint(next(found.nuclei(np.arange(2))), labels.shape)
    ).all()
    assert [p.suffix for p in tmp_path.iterdir()] == [".parquet"]  # the image is not kept


def test_images_that_cannot_be(oracle, make_queue):
    queue = make_queue(oracle, Limits(megapixels=1))
    with pytest.raises(InputError, match=says("not a supported image")):
        queue.add("a.exe", b"", 0.25)
    bomb = png_bytes(np.zeros((2000, 2000, 3), np.uint8))
    assert len(bomb) < 50_000
    shallow = io.BytesIO()
    tifffile.imwrite(shallow, np.zeros((1500, 1500), np.uint8), compression="zlib")
    piece = io.BytesIO()  # a small image in one huge tile
    small = np.zeros((16, 16, 3), np.uint8)
    tifffile.imwrite(piece, small, tile=(2048, 2048), compression="zlib", photometric="rgb")
    several = io.BytesIO()
    np.savez(several, a=small, b=small)
    tells = {
        queue.add("grey.tif", shallow.getvalue(), 0.25): "1500 × 1500 values",
        queue.add("piece.tif", piece.getvalue(), 0.25): "in pieces of 2048 × 2048 × 3",
        queue.add("several.npy", several.getvalue(), 0.25): "zip archive",
        queue.add("bomb.png", bomb, 0.25): "2000 × 2000 pixels are too many",
        queue.add("no.png", b"nothing of the kind", 0.25): "no.png: cannot be read as an image",
        queue.add(
            "mpp.png", png_bytes(np.full((64, 64, 3), 9, np.uint8)), None
        ): "Enter µm per pixel",
    }
    for number, words in tells.items():
        job = waited(queue, number)
        assert job.state == "failed"
        assert words in job.error
        assert "/" not in job.error.split(":")[0]


def test_work_that_takes_too_long_is_given_up(oracle, make_queue):
    ticks = iter(range(0, 100_000, 400))
    queue = make_queue(oracle, Limits(seconds=600), clock=lambda: next(ticks))
    image = painted(np.zeros((3200, 1600), np.int32))
    job = waited(queue, queue.add("a.png", png_bytes(image), 0.25))
    assert job.state == "failed"
    assert "longer than 600 s" in job.error


def test_the_queue_has_an_end_and_forgets(oracle, make_queue):
    gate = threading.Event()
    backend = oracle.backend

    class Waits:
        about = "waits"

        def __call__(self, batch):
            gate.wait(30)
            return backend(batch)

    queue = make_queue(type(oracle)(oracle.card, Waits()))
    data = png_bytes(painted(np.zeros((64, 64), np.int32)))
    first = queue.add("0.png", data, 0.25)
    while queue.job(first).state != "running":
        time.sleep(0.01)
    numbers = [queue.add(f"{i}.png", data, 0.25) for i in range(WAITING)]
    with pytest.raises(InputError, match="already waiting"):
        queue.add("more.png", data, 0.25)
    gate.set()
    for number in numbers:
        waited(queue, number)
    late = [queue.add(f"late{i}.png", data, 0.25) for i in range(4)]
    last = queue.add("last.png", data, 0.25)
    waited(queue, last)
    with pytest.raises(InputError, match=says("image 0", "drop it again")):
        queue.job(first)
    queue.close()  # what is in hand is put away
    assert [n for n, _ in queue.finished()] == [*numbers, *late, last][-KEPT:]


def test_what_fails_does_not_push_out_what_there_is_to_see(oracle, make_queue):
    queue = make_queue(oracle)
    good = queue.add("good.png", png_bytes(painted(np.zeros((64, 64), np.int32))), 0.25)
    waited(queue, good)
    for i in range(KEPT + 1):
        assert waited(queue, queue.add(f"{i}.png", b"none", 0.25)).state == "failed"
    assert queue.job(good).state == "done"


def test_a_image_that_is_started_at_once_is_known(oracle, make_queue, monkeypatch):
    """The worker may be faster than the caller that adds the image."""
    queue = make_queue(oracle)
    put = queue._waiting.put_nowait

    def slowly(item):
        put(item)
        time.sleep(0.1)

    monkeypatch.setattr(queue._waiting, "put_nowait", slowly)
    number = queue.add("a.png", png_bytes(painted(np.zeros((64, 64), np.int32))), 0.25)
    assert waited(queue, number).state == "done"

"""The page in a real browser. Needs Chromium and Playwright; skipped where they are not."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from urllib.parse import parse_qs

import duckdb
import numpy as np
import pytest
from PIL import Image

from nucleate.geometry.labels import boxes_areas
from nucleate.geometry.outlines import trace
from nucleate.inference.pipeline import EngineOptions
from nucleate.inference.segment import find_nuclei
from nucleate.readers.array import ArraySource
from nucleate.results.images import write_labels
from nucleate.types import Frame, Instances
from nucleate.viewer.contents import keep, open_contents
from nucleate.viewer.queue import Limits, Queue
from nucleate.viewer.serving import bound, make_server
from tests.conftest import painted
from tests.synthetic import scattered

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
TOKEN = "for-tests"  # noqa: S105
NO_OUTSIDE = [
    "--no-sandbox", "--headless", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as ready:
        launched = ready.chromium.launch(executable_path=CHROMIUM, args=NO_OUTSIDE)
        yield launched
        launched.close()


@contextlib.contextmanager
def serving(shown, queue=None):
    """Serve in a thread; give the address."""
    listening = bound(0)
    server = make_server(shown, queue, listening, TOKEN)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/{TOKEN}/"
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()


@pytest.fixture
def visit(browser):
    """Return what opens an address in a page that must not complain."""
    complaints = []
    context = browser.new_context(viewport={"width": 1200, "height": 800}, accept_downloads=True)

    def go(address):
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda line: complaints.append(line.text) if line.type == "error" else None,
        )
        page.goto(address)
        page.wait_for_selector("body[data-ready=yes]")
        return page

    yield go
    context.close()
    assert not complaints


def nuclei_of(labels, mpp=0.25):
    """Return the nuclei of a label image, with their area."""
    coords, offsets, boxes = trace(labels)
    n = len(boxes)
    areas = boxes_areas(labels, n)[1]
    return Instances(
        ids=np.arange(1, n + 1),
        coords_xy=coords,
        offsets=offsets,
        boxes_xyxy=boxes.astype(np.float32),
        scores=np.linspace(0.5, 1, n).astype(np.float32),
        classes=np.zeros(n, np.int16),
        frame=Frame(labels.shape[1], labels.shape[0], mpp),
        features={"area_um2": (areas * mpp**2).astype(np.float32)},
    )


@pytest.fixture
def result(tmp_path):
    """Return an image of 20 × 20 squares of different sizes, and the nuclei of it, as files."""
    labels = np.zeros((800, 1000), np.int32)
    for i in range(400):
        y, x, edge = 40 * (i // 20) + 5, 50 * (i % 20) + 5, 10 + i % 20
        labels[y : y + edge, x : x + edge] = i + 1
    Image.fromarray(np.where(labels[..., None] > 0, 90, 220).astype(np.uint8).repeat(3, 2)).save(
        tmp_path / "a.png"
    )
    keep(nuclei_of(labels), tmp_path / "a.nuclei.parquet", "a.png")
    return tmp_path / "a.png", tmp_path / "a.nuclei.parquet", labels


def count(page):
    page.wait_for_timeout(400)
    return int(page.inner_text("#count").replace(",", ""))


def ask(parquet, where):
    query = f"select count(*) from '{parquet}' where {where}"  # noqa: S608  # our own words
    return duckdb.sql(query).fetchall()[0][0]


def middle(page, xy):
    """Return where a place of the image is on the screen."""
    return page.evaluate(
        """([x, y]) => { const o = nucleate.panes()[0].overlay; const { box, scale } = o.seen();
        const r = o.canvas.getBoundingClientRect();
        return [r.left + (x - box[0]) * scale, r.top + (y - box[1]) * scale]; }""",
        list(xy),
    )


TOO_WIDE = """() => {
  const panel = document.getElementById("panel"), edge = panel.getBoundingClientRect();
  const found = [...panel.querySelectorAll("*")].filter((e) => {
    const r = e.getBoundingClientRect();
    return r.width && r.right > edge.left + panel.clientLeft + panel.clientWidth + 0.5;
  }).map((e) => `${e.tagName} ${e.id}`);
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth) found.push("the page");
  if (edge.right > page.clientWidth + 0.5) found.push("the panel");
  return found; }"""


def test_nothing_runs_off_the_right_edge(result, visit, oracle, tmp_path):
    image, parquet, _ = result
    with serving(open_contents([image, parquet], None, tmp_path, print)) as address:
        page = visit(address)
        page.select_option("#add-filter", "area_um2")
        page.click("#add")
        page.select_option("#colour", "area_um2")
        page.evaluate("nucleate.go({centre: [510, 410], zoom: 2})")
        page.wait_for_timeout(600)
        page.mouse.click(*middle(page, (510, 410)))
        page.wait_for_selector("#nucleus:not([hidden])")
        page.click("summary")
        assert _too_wide(page) == []
    queue = Queue(oracle, Limits(), tmp_path, time.monotonic)
    with serving([], queue) as address:
        assert _too_wide(visit(address)) == []
    queue.close()


def _too_wide(page):
    """Return what runs off the right edge at three widths."""
    found = []
    for width in (1024, 1400, 1920):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(100)
        found += page.evaluate(TOO_WIDE)
    return found


def test_empty_states_say_what_to_do(result, visit, oracle, tmp_path):
    image, parquet, labels = result
    queue = Queue(oracle, Limits(), tmp_path, time.monotonic)
    with serving([], queue) as address:
        page = visit(address)
        assert page.inner_text("#empty-title") == "No image yet"
        assert "Drop images here" in page.inner_text("#dropzone")
        assert "up to 64 MB" in page.inner_text("#accepted")
        assert page.is_hidden("#nuclei-controls")
    queue.close()
    with serving(open_contents([image], None, tmp_path, print)) as address:
        page = visit(address)
        assert "nucleate segment" in page.inner_text("#status-empty")
        assert page.is_hidden("#empty")
    image.unlink()
    with serving(open_contents([parquet], None, tmp_path, print)) as address:
        page = visit(address)
        assert "a.png" in page.inner_text("#empty-text")
        assert count(page) == 400
    (tmp_path / "none").mkdir()
    Image.fromarray(np.full((*labels.shape, 3), 230, np.uint8)).save(tmp_path / "none" / "b.png")
    keep(nuclei_of(np.zeros_like(labels)), tmp_path / "none" / "b.nuclei.parquet", "b.png")
    with serving(open_contents([tmp_path / "none"], None, tmp_path, print)) as address:
        page = visit(address)
        assert "No nuclei" in page.inner_text("#status-empty")


def test_outlines_have_a_light_rim_on_dark_nuclei(result, visit, tmp_path):
    image, parquet, _ = result
    with serving(open_contents([image, parquet], None, tmp_path, print)) as address:
        page = visit(address)
        page.evaluate("nucleate.go({centre: [510, 410], zoom: 1})")  # as a 20x scan is seen
        page.wait_for_timeout(800)
        light = page.evaluate(
            """() => { const { canvas } = nucleate.panes()[0].overlay.drawn;
            const d = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            let n = 0; for (let i = 0; i < d.length; i += 4)
              n += d[i + 3] > 100 && Math.min(d[i], d[i + 1], d[i + 2]) > 200;
            return n; }"""
        )
        assert light > 1000


def test_hover_and_click_tell_of_the_right_nucleus(result, visit, tmp_path):
    image, parquet, _ = result
    with serving(open_contents([image, parquet], None, tmp_path, print)) as address:
        page = visit(address)
        assert count(page) == 400
        page.evaluate("nucleate.go({centre: [500, 400], zoom: 2})")
        page.wait_for_timeout(600)
        row = 20 * 10 + 10  # the square at (505, 405)
        page.mouse.move(*middle(page, (510, 410)))
        page.wait_for_selector("#tip:not([hidden])")
        page.wait_for_timeout(300)
        assert page.inner_text("#tip").startswith(f"nucleus {row + 1}\n")
        page.mouse.click(*middle(page, (510, 410)))
        page.wait_for_selector("#nucleus:not([hidden])")
        assert page.inner_text("#nucleus-id") == str(row + 1)
        printed = page.inner_text("#nucleus-facts")
        assert "25" in printed.split("area µm²")[1].split("\n")[0]  # 20 × 20 pixels of 0.25 um
        page.mouse.move(*middle(page, (548, 438)))  # between squares
        page.wait_for_selector("#tip", state="hidden")


def test_a_slider_changes_the_count_to_what_the_table_says(result, visit, tmp_path):
    image, parquet, _ = result
    with serving(open_contents([image, parquet], None, tmp_path, print)) as address:
        page = visit(address)
        page.select_option("#add-filter", "area_um2")
        page.click("#add")
        slider = page.locator("#filters input[type=range]").first
        slider.evaluate("(s) => { s.value = 500; s.dispatchEvent(new Event('input')); }")
        least = float(page.locator("#filters input[type=number]").first.input_value())
        assert 10 < least < 40
        assert count(page) == ask(parquet, f"area_um2 >= {least}::float") < 400
        field = page.locator("#filters input[type=number]").last
        field.fill("30")
        field.press("Tab")
        assert count(page) == ask(parquet, f"area_um2 between {least}::float and 30")
        drawn = page.evaluate("[...nucleate.panes()[0].overlay.views.values()][0].count")
        assert drawn == count(page)
        page.get_by_label("Remove the filter of area_um2").click()
        assert count(page) == 400


def test_a_region_counts_what_duckdb_counts(result, visit, tmp_path):
    image, parquet, _ = result
    with serving(open_contents([image, parquet], None, tmp_path, print)) as address:
        page = visit(address)
        page.keyboard.press("r")
        for place in ((120, 90), (620, 90), (620, 530), (120, 530)):
            page.mouse.click(*middle(page, place))
            page.wait_for_timeout(350)  # two clicks are no double click
        page.keyboard.press("Enter")
        corners = page.evaluate("nucleate.panes()[0].overlay.ring")
        (x0, y0), (x1, y1) = np.min(corners, 0), np.max(corners, 0)
        assert (abs(np.array([x0, y0, x1, y1]) - [120, 90, 620, 530]) < 3).all()
        where = f"x between {x0} and {x1} and y between {y0} and {y1}"
        assert count(page) == ask(parquet, where) > 50
        assert "mm²" in page.inner_text("#region")
        with page.expect_download() as saved:
            page.click("#save-geojson")
        assert saved.value.suggested_filename == "a.geojson"
        text = saved.value.path().read_text(encoding="utf-8")
        assert text.count('"type":"Feature"') == ask(parquet, where)
        with page.expect_download() as saved:
            page.click("#save-png")
        with Image.open(saved.value.path()) as drawn:
            pane = page.locator(".pane").bounding_box()
            assert abs(drawn.size[0] - pane["width"]) <= 1
            shown = np.asarray(drawn.convert("RGB"))
        lines = (shown == np.array([86, 180, 233])).all(-1).sum()  # outlines, in their colour
        assert lines > 50 or len(np.unique(shown.reshape(-1, 3), axis=0)) > 500
        page.keyboard.press("Escape")
        assert count(page) == 400


def test_what_is_counted_is_what_is_shown(result, visit, tmp_path):
    image, parquet, labels = result
    other = tmp_path / "b.png"
    Image.fromarray(np.full((*labels.shape, 3), 200, np.uint8)).save(other)
    with serving(open_contents([image, parquet, other], None, tmp_path, print)) as address:
        page = visit(address)
        page.evaluate("nucleate.setRegion([[100, 100], [500, 100], [500, 500], [100, 500]])")
        assert 0 < count(page) < 400
        page.keyboard.press("r")  # a new region begins: the old one counts no more
        assert count(page) == 400
        assert "Whole image" in page.inner_text("#region")
        page.keyboard.press("r")
        assert page.evaluate("nucleate.panes()[0].overlay.ring") is None
        page.keyboard.press("r")
        for _ in range(3):  # on a line
            page.keyboard.press("Space")
            page.keyboard.press("ArrowRight")
            page.wait_for_timeout(600)
        page.keyboard.press("Enter")
        assert count(page) == 400
        assert "not on one line" in page.inner_text("#status")
        assert page.evaluate("nucleate.panes()[0].overlay.ring") is None
        page.keyboard.press("r")
        page.keyboard.press("Space")
        page.focus("#take-view")
        page.keyboard.press("Enter")  # of a button, not of the region
        assert len(page.evaluate("nucleate.panes()[0].overlay.ring")) == 4
        page.keyboard.press("r")
        page.keyboard.press("Space")
        # an answer that comes late is not shown over what was chosen after it
        page.route("**/api/items/1", lambda r: (page.wait_for_timeout(600), r.continue_()))
        page.select_option("#item", label="b")
        page.select_option("#item", label="a")
        page.wait_for_timeout(1500)
        assert page.evaluate("document.getElementById('item').selectedOptions[0].text") == "a"
        assert count(page) == 400
        assert page.get_attribute("#draw", "aria-pressed") == "false"


def test_a_link_leads_back_to_the_view(result, visit, tmp_path):
    image, parquet, _ = result
    with serving(open_contents([image, parquet], None, tmp_path, print)) as address:
        page = visit(address)
        page.select_option("#colour", "area_um2")
        page.evaluate("nucleate.go({centre: [300, 200], zoom: 3})")
        page.wait_for_timeout(700)
        link = page.url
        said = parse_qs(link.split("#")[1])
        assert said["colour"] == ["area_um2"]
        again = visit(link)
        here = again.evaluate("nucleate.here()")
        assert here["centre"] == pytest.approx([300, 200], abs=1)
        assert here["zoom"] == pytest.approx(3, rel=0.01)
        assert again.input_value("#colour") == "area_um2"


def test_everything_can_be_done_from_the_keyboard(result, visit, tmp_path):
    image, parquet, _ = result
    with serving(open_contents([image, parquet], None, tmp_path, print)) as address:
        page = visit(address)
        before = page.evaluate("nucleate.here()")
        page.keyboard.press("+")
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(900)
        after = page.evaluate("nucleate.here()")
        assert after["zoom"] > 1.2 * before["zoom"]
        assert after["centre"][0] > before["centre"][0]
        page.keyboard.press("n")
        page.wait_for_selector("#nucleus:not([hidden])")
        first = page.inner_text("#nucleus-id")
        page.keyboard.press("n")
        page.wait_for_timeout(300)
        assert page.inner_text("#nucleus-id") != first
        page.keyboard.press("o")
        assert page.evaluate("nucleate.panes()[0].overlay.hidden")
        page.keyboard.press("v")
        assert count(page) < 400
        page.keyboard.press("Escape")
        page.focus("#draw")
        page.keyboard.press("Enter")
        corners = []
        for arrow in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
            page.keyboard.press(arrow)
            page.wait_for_timeout(700)
            page.keyboard.press("Space")
            corners.append(page.evaluate("nucleate.here().centre"))
        page.keyboard.press("Backspace")
        page.keyboard.press("Enter")
        drawn = page.evaluate("nucleate.panes()[0].overlay.ring")
        assert np.allclose(drawn, corners[:3], atol=1)
        (x0, y0), (x1, y1) = np.min(drawn, 0), np.max(drawn, 0)
        around = ask(parquet, f"x between {x0} and {x1} and y between {y0} and {y1}")
        assert 0 < count(page) < around  # a triangle
        page.keyboard.press("0")
        page.wait_for_timeout(900)
        assert page.evaluate("nucleate.here().zoom") == pytest.approx(before["zoom"], rel=0.02)


def test_true_against_predicted_and_side_by_side(result, visit, tmp_path):
    image, parquet, labels = result
    true = labels.copy()
    true[labels == 7] = 0  # one that is made up
    true[780:790, 980:990] = 500  # one that is missed
    write_labels(tmp_path / "true.tif", true, 0.25)
    shown = open_contents([image, parquet], tmp_path / "true.tif", tmp_path, print)
    with serving(shown) as address:
        page = visit(address)
        assert page.input_value("#colour") == "outcome"
        assert "spurious" in page.inner_text("#legend")
        assert page.locator(".pane").count() == 1
        page.select_option("#layout", "beside")
        playwright.expect(page.locator(".pane")).to_have_count(2)
        page.wait_for_timeout(500)
        page.evaluate("nucleate.go({centre: [900, 700], zoom: 4})")
        page.wait_for_timeout(600)
        both = page.evaluate(
            "nucleate.panes().map((p) => p.overlay.seen().box.map((v) => Math.round(v)))"
        )
        assert np.abs(np.subtract(*both)).max() <= 2  # they move together
        kinds = page.evaluate(
            "nucleate.panes().map((p) => [...[...p.overlay.views.values()][0].values])"
        )
        assert 4 in kinds[1]  # the missed one is in the view of the truth


def test_a_image_is_dropped_and_segmented(oracle, visit, tmp_path):
    labels = scattered(256, 320, step=24, size=12)
    Image.fromarray(painted(labels)).save(tmp_path / "dropped.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    (tmp_path / "scratch").mkdir()
    queue = Queue(oracle, Limits(), tmp_path / "scratch", time.monotonic)
    with serving([], queue) as address:
        page = visit(address)
        page.fill("#mpp", "0.25")
        page.set_input_files("#file", str(tmp_path / "dropped.png"))
        playwright.expect(page.locator("#status")).to_contain_text(" nuclei", timeout=20_000)
        source = ArraySource(painted(labels), 0.25)
        direct = find_nuclei(source, oracle, None, EngineOptions()).nuclei
        assert count(page) == len(direct) == labels.max()
        page.set_input_files("#file", str(tmp_path / "bad.png"))
        playwright.expect(page.locator("#status")).to_contain_text("bad.png:", timeout=20_000)
        assert "cannot be read" in page.inner_text("#status")
    queue.close()


def test_another_site_cannot_read(result, browser, tmp_path):
    image, parquet, _ = result
    with serving(open_contents([image, parquet], None, tmp_path, print)) as address:
        page = browser.new_page()
        page.route(
            "http://evil.example/", lambda r: r.fulfill(body="<p>hi", content_type="text/html")
        )
        page.goto("http://evil.example/")
        printed = page.evaluate(
            """async (a) => { try { const r = await fetch(a + 'api/items'); return r.status; }
            catch (e) { return 'refused'; } }""",
            address,
        )
        assert printed == "refused"
        page.close()

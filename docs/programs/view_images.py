"""Images of the page of `nucleate view`, for the documentation.

python docs/programs/view_images.py DATA

Needs Chromium, the extras view and dev, and of DATA the slide CMU-1-Small-Region.svs (OpenSlide's
test data, CC0) and an image of TNBC (CC BY 4.0, Naylor et al. 2019).
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from nucleate.datasets.loading import list_entries
from nucleate.results.images import write_labels, write_png

IMAGES = Path(__file__).parents[1] / "images"
SLIDE = "slides/aperio_svs/CMU-1-Small-Region.svs"
WIDTH, HEIGHT = 1280, 860


@contextlib.contextmanager
def shown(browser: Browser, *words: object) -> Iterator[Page]:
    """Start `nucleate view` and give the open page."""
    command = ["nucleate", "view", *map(str, words), "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            page.goto(server.stdout.readline().strip())
            page.wait_for_selector("body[data-ready=yes]")
            yield page
        finally:
            server.terminate()


def save(page: Page, name: str) -> None:
    """Keep what is seen as a JPEG."""
    page.wait_for_timeout(1500)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.png"
        page.screenshot(path=path)
        with Image.open(path) as image:
            image.convert("RGB").save(IMAGES / f"{name}.jpg", quality=85)


def segmented(source: Path, out: Path, *words: object) -> Path:
    """Segment an image; return its nuclei."""
    command = ["nucleate", "segment", str(source), "-o", str(out), *map(str, words)]
    subprocess.run(command, check=True, capture_output=True)
    return out / f"{source.stem}.nuclei.parquet"


def main(data: Path) -> None:
    """Make the images."""
    chromium = shutil.which("chromium") or sys.exit("Chromium is needed.")
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as ready:
        out = Path(temporary)
        browser = ready.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        found = segmented(data / SLIDE, out)
        with shown(browser, data / SLIDE, found) as page:
            page.select_option("#colour", "area_um2")
            page.evaluate("nucleate.go({centre: [1060, 760], zoom: 1.6})")
            page.select_option("#add-filter", "area_um2")
            page.click("#add")
            page.wait_for_timeout(1500)
            page.evaluate("nucleate.setRegion([[850, 560], [1180, 600], [1120, 900], [880, 880]])")
            page.keyboard.press("n")
            save(page, "view")
        options = {"mpp": 0.25, "group": "^([0-9]+)_"}
        sample = list_entries("folder", data / "TNBC", options)[9].read()
        write_png(out / "tnbc.png", sample.image)
        write_labels(out / "true.tif", sample.labels, sample.mpp)
        found = segmented(out / "tnbc.png", out, "--mpp", 0.25)
        with shown(browser, out / "tnbc.png", found, "--truth", out / "true.tif") as page:
            save(page, "view-truth")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))

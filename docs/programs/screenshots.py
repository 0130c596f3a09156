"""Images of inspection pages, reports and the stain preview, for the documentation.

python docs/programs/screenshots.py DATA          needs Chromium and the data sets
python docs/programs/screenshots.py DATA RUN      a report of that run only

CoNSeP's images may not be passed on: only the plots of its page are shown.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

IMAGES = Path(__file__).parents[1] / "images"
WIDTH, HEIGHT = 1280, 1120
PAGES = {  # image -> data set, place, options, part of the page
    "inspect-cryonuseg": ("cryonuseg", "CryoNuSeg", [], ""),
    "inspect-cryonuseg-nuclei": ("cryonuseg", "CryoNuSeg", [], "nuclei"),
    "inspect-monuseg": ("monuseg", "MoNuSeg/MoNuSeg 2018 Training Data.zip", [], ""),
    "inspect-tnbc": ("tnbc", "TNBC", [], ""),
    "inspect-consep-nuclei": ("consep", "CoNSeP", ["--option", "types=4"], "nuclei"),
}


def main(data: Path) -> None:
    """Inspect, open in Chromium, take the image."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("Chromium is not installed. Install it, and run this again.")
    with tempfile.TemporaryDirectory() as place:
        for name, (reader, path, options, part) in PAGES.items():
            report = Path(place) / reader
            if not report.exists():
                command = ["nucleate", "data", "inspect", reader, str(data / path), *options]
                subprocess.run([*command, "-o", str(report)], check=True)
            save(taken(browser, cut(report / "index.html", part)), name)
        sheet = Path(place) / "preview.png"
        command = ["nucleate", "stain", "preview", str(data / "TNBC" / "images"), "--count", "4"]
        subprocess.run([*command, "-o", str(sheet)], check=True)
        save(sheet, "stain-preview")


def report_of(data: Path, run: Path) -> None:
    """Report on a run, and take an image of its head and of what goes wrong."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("Chromium is not installed. Install it, and run this again.")
    with tempfile.TemporaryDirectory() as place:
        command = ["nucleate", "report", str(run), "-o", place, "--root", str(data)]
        subprocess.run(command, check=True)
        page = Path(place) / "index.html"
        save(taken(browser, page), "report")
        save(taken(browser, cut(page, "what-goes-wrong")), "report-errors")


def taken(browser: str, page: Path) -> Path:
    """Return an image of the top of a page."""
    shot = page.with_suffix(".png")
    subprocess.run(
        [browser, "--headless", "--no-sandbox", "--hide-scrollbars",
         f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={shot}", page.as_uri()],
        check=True, capture_output=True,
    )  # fmt: skip
    return shot


def cut(page: Path, part: str) -> Path:
    """Return the page, or a copy that begins with one of its headings."""
    if not part:
        return page
    text = page.read_text(encoding="utf-8")
    head, _, rest = text.partition("<body>")
    started = rest.index(f'<h2 id="{part}">')
    other = page.with_name(f"{part}.html")
    other.write_text(f"{head}<body>{rest[started:]}", encoding="utf-8")
    return other


def save(source: Path, name: str) -> None:
    """Keep an image as JPEG."""
    with Image.open(source) as shot:
        shot.convert("RGB").save(IMAGES / f"{name}.jpg", quality=82)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        report_of(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        main(Path(sys.argv[1]))

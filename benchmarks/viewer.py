"""The page of `nucleate view` with a million nuclei: first paint, frames while dragged, memory.

    python benchmarks/viewer.py        writes docs/results/viewer.json

Needs Chromium (software rendering here, as everywhere without a screen) and the extra dev. The
slide is not there: nuclei are drawn on white, which is what is measured.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from playwright.sync_api import Page, sync_playwright
from timing import cpu_name

from nucleate.environment import git_commit
from nucleate.results.parquet import writer
from nucleate.types import Frame, Instances

OUT = Path(__file__).parents[1] / "docs" / "results" / "viewer.json"
EDGE, SIDE, EACH, CORNERS = 60_000, 20, 2_500, 24  # pixels, regions per side, nuclei, vertices
FEATURES = ("eccentricity", "solidity", "haematoxylin_mean", "texture", "neighbours")
ZOOMS = {"heat": 0.04, "points": 0.25, "outlines": 1.0}  # screen pixels per pixel
DRAGS = 90


def region(rng: np.random.Generator, column: int, row: int, first: int) -> Instances:
    """Return the nuclei of one region, from top to bottom: ellipses with rough rims."""
    edge = EDGE / SIDE
    low = np.array([column * edge, row * edge]) + 30
    centres = rng.uniform(low, low + edge - 60, (EACH, 2))
    centres = centres[np.argsort(centres[:, 1])]
    radius = rng.gamma(20, 0.7, (EACH, 1, 1))
    angle = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    unit = np.stack([np.cos(angle), 0.7 * np.sin(angle)], 1)[None]
    rough = 1 + 0.05 * rng.normal(size=(EACH, CORNERS, 1))
    rings = unit * radius * rough + centres[:, None]
    features = {name: rng.normal(10, 3, EACH).astype(np.float32) for name in FEATURES}
    features["area_um2"] = (np.pi * 0.7 * radius[:, 0, 0] ** 2 / 16).astype(np.float32)
    return Instances(
        ids=np.arange(first, first + EACH),
        coords_xy=rings.reshape(-1, 2).astype(np.float32),
        offsets=np.arange(0, EACH * CORNERS + 1, CORNERS),
        boxes_xyxy=np.concatenate([rings.min(1), rings.max(1)], 1).astype(np.float32),
        scores=rng.beta(5, 1, EACH).astype(np.float32),
        classes=np.zeros(EACH, np.int16),
        frame=Frame(EDGE, EDGE, 0.25),
        features=features,
    )


def write_million(path: Path) -> int:
    """Write the table; return how many nuclei it has."""
    rng = np.random.default_rng(0)
    with writer(path, region(rng, 0, 0, 1), {"source": "none"}) as file:
        for i in range(SIDE * SIDE):
            file.write(region(rng, i % SIDE, i // SIDE, 1 + i * EACH))
        return file.count


def dragged(page: Page, zoom: float) -> dict[str, float]:
    """Return frames per second while the view is dragged, and ms that a tenth of them exceed."""
    page.evaluate(f"nucleate.go({{centre: [30000, 30000], zoom: {zoom}}})")
    page.wait_for_timeout(2500)
    page.evaluate("nucleate.panes()[0].overlay.frames.length = 0")
    page.mouse.move(700, 600)
    page.mouse.down()
    for i in range(DRAGS):
        page.mouse.move(700 - 4 * i, 600 - 2 * i)
        time.sleep(1 / 60)
    page.mouse.up()
    frames = np.diff(page.evaluate("nucleate.panes()[0].overlay.frames"))
    kind = page.evaluate("[...nucleate.panes()[0].overlay.views.values()][0].kind")
    return {
        "kind": kind,
        "frames_per_second": round(1000 / float(np.mean(frames)), 1),
        "slowest_tenth_ms": round(float(np.quantile(frames, 0.9)), 1),
    }


def most_mb(process: int) -> int:
    """Return the most memory that a process has had; Linux tells it."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


def main() -> None:
    """Measure, and write."""
    chromium = shutil.which("chromium") or sys.exit("Chromium is needed.")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as ready:
        path = Path(folder) / "million.nuclei.parquet"
        count = write_million(path)
        command = ["nucleate", "view", str(path), "--no-open"]
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            address = server.stdout.readline().strip()
            opened = time.perf_counter() - started
            browser = ready.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            paints = []
            for _ in range(5):
                page = browser.new_page(viewport={"width": 1400, "height": 900})
                page.goto(address, wait_until="load")
                loaded = time.perf_counter()
                page.wait_for_selector("body[data-ready=yes]")
                paints.append(time.perf_counter() - loaded)
            moves = {name: dragged(page, zoom) for name, zoom in ZOOMS.items()}
            page.select_option("#colour", "area_um2")
            page.wait_for_timeout(2000)
            peak = most_mb(server.pid)
            browser.close()
            server.terminate()
    printed = {
        "machine": cpu_name(),
        "command": "python benchmarks/viewer.py", "commit": git_commit(), "nuclei": count,
        "seconds_to_open_the_table": round(opened, 2),
        "seconds_from_load_to_first_paint": round(median(paints), 2),
        "dragged": moves, "server_peak_mb": peak,
    }  # fmt: skip
    OUT.write_text(json.dumps(printed, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(printed, indent=1))


if __name__ == "__main__":
    main()

"""Does nucleate need numba? Watershed, tracing and filling by numba, and by libraries alone.

    python benchmarks/kernels.py [--data DATA] [-o docs/results/kernels.json]

One thread; on the bundled image and, with `--data`, on four training images of MoNuSeg. The ways
take turns, and the best of all rounds counts: read the ratios. Needs scikit-image (extra dev).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import scipy.ndimage
import shapely
import skimage.draw
import skimage.measure
import skimage.segmentation
from timing import cpu_name

import nucleate
from nucleate import postprocess
from nucleate.datasets.loading import list_entries
from nucleate.geometry.labels import boxes_areas, flood, nuclei_of
from nucleate.geometry.outlines import rasterise, trace
from nucleate.geometry.runs import Runs, runs_of
from nucleate.types import Bool, Float32, Int32, UInt8

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "src/nucleate/example/skin.tif"
TRAINING = "MoNuSeg/MoNuSeg 2018 Training Data.zip"
IMAGES, ROUNDS, STARTS = 4, 9, 3
START = """
import time
start = time.perf_counter()
import numpy as np
from nucleate.features import nucleus_features
from nucleate.geometry.labels import flood, nuclei_of
from nucleate.geometry.outlines import rasterise, trace
from nucleate.geometry.runs import runs_of
mask = np.pad(np.ones((6, 6), bool), 4)
runs = runs_of(mask)
labels = nuclei_of(flood(np.zeros(mask.shape, np.float32), runs, runs), mask.shape)
xy, offsets, _ = trace(labels)
rasterise(xy, offsets, labels.shape)
nucleus_features(labels, np.full((*mask.shape, 3), 99, np.uint8), xy, offsets, 0.25)
print(time.perf_counter() - start)
"""
LIBRARIES = """
import time
start = time.perf_counter()
import scipy.ndimage, shapely, skimage.draw, skimage.measure, skimage.segmentation
skimage.draw.polygon, skimage.measure.find_contours, skimage.segmentation.watershed
print(time.perf_counter() - start)
"""


@dataclass(frozen=True)
class Case:
    """What the three loops are given for one image."""

    heights: Float32
    levels: UInt8
    markers: Int32
    mask: Bool
    labels: Int32
    xy: Any
    offsets: Any


def cases(data: Path | None) -> Iterator[Case]:
    """Yield what the decoder of the bundled model meets in real images."""
    model = nucleate.load_model(device="cpu", threads=1, precision="f32")
    sources: list[tuple[Any, float | None]] = [(EXAMPLE, None)]
    if data is not None:
        entries = [e for e in list_entries("monuseg", data / TRAINING, {}) if not e.test_only]
        for entry in entries[:: max(1, len(entries) // IMAGES)][:IMAGES]:
            sample = entry.read()
            sources.append((sample.image, sample.mpp or 0.25))
    met: list[tuple[Float32, Runs, Runs]] = []

    def remember(heights: Float32, markers: Runs, mask: Runs) -> Runs:
        met.append((heights, markers, mask))
        return flood(heights, markers, mask)

    postprocess.flood = remember
    for image, mpp in sources:
        met.clear()
        nucleate.segment(image, model, mpp=mpp)
        for heights, markers, mask in met:
            labels = nuclei_of(flood(heights, markers, mask), heights.shape)
            levels = np.rint(255 * (1 - heights)).astype(np.uint8)
            drawn = [drawn_runs(runs, heights.shape) for runs in (markers, mask)]
            yield Case(heights, levels, drawn[0], drawn[1] > 0, labels, *trace(labels)[:2])
    postprocess.flood = flood


def drawn_runs(runs: Runs, shape: tuple[int, ...]) -> Int32:
    """Return the label image of runs."""
    return runs.draw(runs.labels, np.zeros(shape, np.int32))


def numba_watershed(case: Case) -> Int32:
    """Return nucleate's watershed, from images to an image like the others."""
    flooded = flood(case.heights, runs_of(case.markers), runs_of(case.mask))
    return drawn_runs(flooded, case.mask.shape)


def ift(case: Case) -> Int32:
    """Return SciPy's watershed; it floods the whole image, so the background is a marker."""
    markers = np.where(case.mask, case.markers, -1)
    found = scipy.ndimage.watershed_ift(
        case.levels, markers, scipy.ndimage.generate_binary_structure(2, 1)
    )
    return np.maximum(found, 0)


def opencv_watershed(case: Case) -> Int32:
    """Return OpenCV's watershed, which draws lines between labels and wants a background marker."""
    markers = np.where(case.mask, case.markers, case.markers.max() + 1).astype(np.int32)
    found = cv2.watershed(cv2.merge([case.levels] * 3), markers)
    return np.where(case.mask & (found > 0), found, 0)


def crops(case: Case) -> Iterator[tuple[Bool, int, int]]:
    """Yield of each nucleus its mask with a border of one pixel, and where that begins."""
    padded = np.pad(case.labels, 1)
    boxes, _ = boxes_areas(case.labels, int(case.labels.max()))
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        yield padded[y0 : y1 + 2, x0 : x1 + 2] == i + 1, x0, y0


def opencv_trace(case: Case) -> list[Any]:
    """Return outlines through the centres of border pixels."""
    found = []
    for mask, x0, y0 in crops(case):
        kind = cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        rings, _ = cv2.findContours(mask.view(np.uint8), *kind)
        found.append(max(rings, key=len)[:, 0] + (x0 - 0.5, y0 - 0.5))
    return found


def skimage_trace(case: Case) -> list[Any]:
    """Return marching squares at one half."""
    found = []
    for mask, x0, y0 in crops(case):
        ring = max(skimage.measure.find_contours(mask.view(np.uint8), 0.5), key=len)
        found.append(ring[:-1, ::-1] + (x0 - 0.5, y0 - 0.5))
    return found


def rings(case: Case) -> list[Any]:
    """Return the outlines one by one."""
    return np.split(case.xy, case.offsets[1:-1])


def opencv_fill(case: Case) -> Int32:
    """Fill polygons with coordinates in 1/16 of a pixel; OpenCV also draws the border."""
    out = np.zeros(case.labels.shape, np.int32)
    for i, ring in enumerate(rings(case)):
        cv2.fillPoly(out, [np.rint((ring - 0.5) * 16).astype(np.int32)], i + 1, shift=4)
    return out


def skimage_fill(case: Case) -> Int32:
    """Fill the pixels whose centre is inside."""
    out = np.zeros(case.labels.shape, np.int32)
    for i, ring in enumerate(rings(case)):
        out[skimage.draw.polygon(ring[:, 1] - 0.5, ring[:, 0] - 0.5, out.shape)] = i + 1
    return out


def shapely_fill(case: Case) -> Int32:
    """Ask of each pixel centre of a box whether it is inside."""
    out = np.zeros(case.labels.shape, np.int32)
    for i, ring in enumerate(rings(case)):
        (x0, y0), (x1, y1) = np.floor(ring.min(0)).astype(int), np.ceil(ring.max(0)).astype(int)
        ys, xs = np.mgrid[y0:y1, x0:x1]
        polygon = shapely.Polygon(ring)
        shapely.prepare(polygon)
        out[y0:y1, x0:x1][shapely.contains_xy(polygon, xs + 0.5, ys + 0.5)] = i + 1
    return out


def same_pixels(mine: Int32, theirs: Int32) -> float:
    """Return the share of pixels of nuclei that have the same label."""
    either = (mine > 0) | (theirs > 0)
    return float((mine == theirs)[either].mean())


def same_areas(case: Case, outlines: list[Any]) -> float:
    """Return the area inside the outlines as a share of the area of the pixels."""
    inside = sum(abs(cv2.contourArea(ring.astype(np.float32))) for ring in outlines)
    return float(inside / (case.labels > 0).sum())


WAYS: dict[str, dict[str, Callable[[Case], Any]]] = {
    "watershed": {
        "numba": numba_watershed,
        "scikit-image": lambda c: skimage.segmentation.watershed(c.levels, c.markers, mask=c.mask),
        "SciPy": ift,
        "OpenCV": opencv_watershed,
    },
    "tracing": {
        "numba": lambda c: trace(c.labels),
        "scikit-image": skimage_trace,
        "OpenCV": opencv_trace,
    },
    "filling": {
        "numba": lambda c: rasterise(c.xy, c.offsets, c.labels.shape)[0],
        "scikit-image": skimage_fill,
        "shapely": shapely_fill,
        "OpenCV": opencv_fill,
    },
}


def agreement(loop: str, case: Case, theirs: Any) -> float:
    """Return how far another way's result is that of the definition; 1 is the same."""
    if loop == "tracing":
        outlines = theirs if isinstance(theirs, list) else rings(case)
        return same_areas(case, outlines)
    want = numba_watershed(case) if loop == "watershed" else case.labels
    return same_pixels(want, theirs)


def measure(loop: str, found: list[Case]) -> dict[str, dict[str, float]]:
    """Return of each way the milliseconds of all images, the ratio to numba, and the agreement."""
    best = {way: np.full(len(found), np.inf) for way in WAYS[loop]}
    for _ in range(ROUNDS):
        for i, case in enumerate(found):
            for way, run in WAYS[loop].items():
                start = time.perf_counter()
                run(case)
                best[way][i] = min(best[way][i], time.perf_counter() - start)
    numba = best["numba"].sum()
    return {
        way: {
            "ms": round(1e3 * float(times.sum()), 2),
            "ratio": round(float(times.sum() / numba), 2),
            "same": round(
                float(np.mean([agreement(loop, c, WAYS[loop][way](c)) for c in found])), 4
            ),
        }
        for way, times in best.items()
    }


def first_start() -> dict[str, float]:
    """Return the seconds until a new process has run the loops, and has imported the libraries."""

    def seconds(code: str, cache: str) -> float:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True,
            text=True, env=os.environ | {"NUMBA_CACHE_DIR": cache},
        )  # fmt: skip
        return float(done.stdout)

    times: dict[str, list[float]] = {"first": [], "later": [], "libraries": []}
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory() as cache:
            times["first"].append(seconds(START, cache))
            times["later"].append(seconds(START, cache))
            times["libraries"].append(seconds(LIBRARIES, cache))
    return {name: round(min(each), 2) for name, each in times.items()}


def megabytes(*packages: str) -> int:
    """Return what installed packages take, in MB."""
    files = [file for name in packages for file in importlib.metadata.files(name) or []]
    paths = [Path(str(file.locate())) for file in files if "__pycache__" not in str(file)]
    return round(sum(path.stat().st_size for path in paths if path.exists()) / 2**20)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("-o", type=Path, default=ROOT / "docs/results/kernels.json")
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    found = list(cases(asked.data))
    nuclei = sum(int(case.labels.max()) for case in found)
    content = {
        "command": "python benchmarks/kernels.py" + (" --data DATA" if asked.data else ""),
        "machine": f"{cpu_name()}, one thread",
        "tiles": len(found),
        "megapixels": round(sum(case.labels.size for case in found) / 1e6, 2),
        "nuclei": nuclei,
        "rounds": ROUNDS,
        "loops": {loop: measure(loop, found) for loop in WAYS},
        "start_seconds": first_start(),
        "installed_mb": {
            "numba": megabytes("numba", "llvmlite"),
            "SciPy": megabytes("scipy"),
            "scikit-image": megabytes("scikit-image", "networkx", "imageio", "lazy-loader"),
        },
    }
    asked.o.write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()

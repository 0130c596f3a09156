"""How the time of one tile divides: network, decoding, outlines, features; and against references.

    python benchmarks/stages.py            one thread; writes docs/results/stages.json

Needs scikit-image (extra dev). Every figure is the median of several repetitions in one process.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

import cv2
import numpy as np
from skimage.segmentation import watershed as reference_watershed
from timing import cpu_name

from nucleate import load_model
from nucleate.features import nucleus_features
from nucleate.geometry.labels import flood, largest_pieces
from nucleate.geometry.outlines import rasterise, trace
from nucleate.geometry.runs import runs_of
from nucleate.postprocess import DECODERS, flat
from nucleate.readers.images import read_image

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "tests/data/keratin.tif"


def seconds(call, repeat=7):
    """Return the median time of a call, after one call to warm up."""
    call()
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main():
    """Measure and write."""
    cv2.setNumThreads(1)
    image, _ = read_image(EXAMPLE)
    tile = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)[:1024, 256:1280]
    tile = np.ascontiguousarray(tile)
    model = load_model(device="cpu", threads=1, precision="f32")
    half = load_model(device="cpu", threads=1, precision="bf16")
    default = load_model(device="cpu", threads=1)
    maps = {head: m[0] for head, m in model.backend(tile[None]).items()}
    card = model.card
    decoder = DECODERS[card.decoder]
    shape = tile.shape[:2]
    labels = flat(decoder.decode(maps, card.thresholds, shape))
    xy, offsets, _ = trace(labels)

    inside = maps["foreground"] > card.thresholds["foreground"]
    distance = cv2.GaussianBlur(np.clip(maps["distance"], 0, 1), (0, 0), 1.0)
    levels = np.rint(255 * (1 - distance)).astype(np.uint8)
    seeds = inside & (distance > card.thresholds["marker"])
    markers = cv2.connectedComponents(seeds.view(np.uint8), connectivity=8)[1].astype(np.int32)

    stages = {
        "network, f32": seconds(lambda: model.backend(tile[None]), 3),
        "network, bf16": seconds(lambda: half.backend(tile[None]), 3),
        f"network, default ({default.backend.about.split()[-1]})": seconds(
            lambda: default.backend(tile[None]), 3
        ),
        "decode (watershed, pieces, holes, specks)": seconds(
            lambda: decoder.decode(maps, card.thresholds, shape)
        ),
        "trace outlines": seconds(lambda: trace(labels)),
        "measure features": seconds(lambda: nucleus_features(labels, tile, xy, offsets, 0.25)),
        "draw outlines back": seconds(lambda: rasterise(xy, offsets, labels.shape)),
        "flood alone": seconds(
            lambda: flood(distance, runs_of(seeds).pieces(diagonal=True), runs_of(inside))
        ),
        "flood, scikit-image": seconds(lambda: reference_watershed(levels, markers, mask=inside)),
        "largest pieces alone": seconds(lambda: largest_pieces(labels)),
    }
    whole = stages["network, f32"] + sum(
        stages[k] for k in ("decode (watershed, pieces, holes, specks)", "trace outlines",
                            "measure features")
    )  # fmt: skip
    result = {
        "command": "python benchmarks/stages.py",
        "machine": f"{cpu_name()}, one thread, {model.backend.about}",
        "nuclei": int(labels.max()),
        "tile": list(tile.shape[:2]),
        "seconds": {k: round(v, 5) for k, v in stages.items()},
        "share_of_f32_tile": {k: round(v / whole, 4) for k, v in stages.items()},
        "flood_speedup": round(stages["flood, scikit-image"] / stages["flood alone"], 2),
    }
    (ROOT / "docs/results/stages.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

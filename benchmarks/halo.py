"""What a halo and a tile cost and keep: docs/results/halo.json.

    python benchmarks/halo.py DATA

DATA is the folder that the bundled model's recipe calls `data.root`. Twelve annotated images are
segmented in tiles of a core of 256 pixels with halos of several sizes, and in one tile: a nucleus
differs where the other has none of IoU above 0.9. A slide of 64 megapixels is segmented on one core
in tiles of several sizes, in turns.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.commands import MODEL, SLIDE_PX, on_cores, segmenting  # noqa: E402
from benchmarks.timing import cpu_name  # noqa: E402

from nucleate import load_model  # noqa: E402
from nucleate.datasets.loading import list_entries  # noqa: E402
from nucleate.environment import git_commit  # noqa: E402
from nucleate.evaluation.metrics.instance import matches  # noqa: E402
from nucleate.evaluation.metrics.matching import overlap  # noqa: E402
from nucleate.geometry.outlines import paint  # noqa: E402
from nucleate.inference.backends import Model  # noqa: E402
from nucleate.inference.pipeline import EngineOptions  # noqa: E402
from nucleate.inference.segment import find_nuclei  # noqa: E402
from nucleate.readers.array import ArraySource  # noqa: E402

OUT = ROOT / "docs" / "results" / "halo.json"
CORE_PX, HALOS, TILES = 256, (32, 64, 96, 128), (1024, 1536, 2048, 3072, 4096)
SETS = (("consep", "CoNSeP", 4), ("monuseg", "MoNuSeg/MoNuSeg 2018 Training Data.zip", 5))


def halos(data: Path, precision: Any) -> dict[str, dict[str, float]]:
    """Return halo -> share of nuclei that differ from those of one tile, and nuclei cut."""
    model = load_model(MODEL, device="cpu", precision=precision, threads=1)
    images = [
        entry.read().image
        for name, path, step in SETS
        for entry in list_entries(name, data / path)[::step][:6]
    ]
    whole = [_labels(image, model, EngineOptions(2048))[0] for image in images]
    found = {}
    for halo in HALOS:
        tiled = Model(replace(model.card, halo_px=halo), model.backend)
        same, differ, cut = 0, 0, 0
        for image, truth in zip(images, whole, strict=True):
            labels, more = _labels(image, tiled, EngineOptions(CORE_PX + 2 * halo))
            tp, fp, fn, _ = matches(overlap(truth, labels), 0.9)
            same, differ, cut = same + tp, differ + fp + fn, cut + more
        found[str(halo)] = {"differ": round(differ / 2 / max(same, 1), 5), "cut": cut}
        print(precision, halo, found[str(halo)], flush=True)
    return found


def _labels(image: np.ndarray, model: Model, options: EngineOptions) -> tuple[np.ndarray, int]:
    found = find_nuclei(ArraySource(image, 0.25), model, None, options)
    return paint(found.nuclei, image.shape[:2]), found.cut


def tiles(rounds: int) -> dict[str, dict[str, Any]]:
    """Return tile -> seconds of the whole command on one core, and the memory it takes."""
    from tests.synthetic_slide import tissue_block, write_slide

    found: dict[str, dict[str, Any]] = {str(tile): {"seconds": []} for tile in TILES}
    with tempfile.TemporaryDirectory() as folder:
        slide, out = Path(folder) / "slide.tif", Path(folder) / "out"
        write_slide(slide, SLIDE_PX, SLIDE_PX, tissue_block(), mpp=0.25)
        for _ in range(rounds):
            for tile in TILES:
                words = segmenting(
                    slide, out, "--formats", "labels", "--threads", 1, "--tile-px", tile
                )
                found[str(tile)]["seconds"].append(round(on_cores(words, 1)[0], 2))
                print(tile, found[str(tile)]["seconds"][-1], flush=True)
        for tile in TILES:
            words = segmenting(slide, out, "--formats", "labels", "--threads", 1, "--tile-px", tile)
            found[str(tile)]["peak_mb"] = _peak(words)
    return found


def _peak(words: list[object]) -> int:
    """Return the peak memory of a command, in MB."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], capture_output=True, "
        "check=True); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"
    )
    command = [sys.executable, "-c", code, *map(str, words)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main(options: argparse.Namespace) -> None:
    """Measure and write."""
    started = time.strftime("%Y-%m-%d")
    printed = {
        "command": "python benchmarks/halo.py DATA",
        "commit": git_commit(),
        "date": started,
        "cpu": cpu_name(),
        "model": MODEL,
        "core_px": CORE_PX,
        "halos": {precision: halos(options.data, precision) for precision in ("f32", "int8")},
        "slide_megapixels": round(SLIDE_PX**2 / 1e6, 1),
        "tiles": tiles(options.rounds),
    }
    OUT.write_text(json.dumps(printed, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    main(parser.parse_args())

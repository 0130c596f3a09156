"""Whole commands, as people type them, on one core: docs/results/commands.json.

    python benchmarks/commands.py DATA VENVS [--rounds 5] [--minutes 20]

DATA is the folder that the bundled model's recipe calls `data.root`; VENVS contains the virtual
environment of StarDist with weights trained for `--minutes` (see peers/run.py), made if missing.
A folder of 28 images (14, each twice) and one of a single image are segmented in turns by each way;
the seconds per image are 1 / 27 of the difference, so that start-up does not count. In the same
turns: the same model within one process. Then a slide of 64 megapixels against the network alone
for that area.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import cv2

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "benchmarks" / "peers"))

from benchmarks.timing import cpu_name  # noqa: E402

from nucleate.datasets.loading import list_entries  # noqa: E402
from nucleate.environment import git_commit  # noqa: E402

OUT = ROOT / "docs" / "results" / "commands.json"
TILES, COPIES, MODEL, MPP, SLIDE_PX, NETWORK_PX = 14, 2, "mtl-small", 0.25, 8192, 1536
DEFAULT, LABELS = "nucleate, all default formats", "nucleate, labels"
WITHIN = "nucleate, in one process"
IN_PROCESS = """
import sys, time
from pathlib import Path
import numpy as np
from PIL import Image
from nucleate import load_model, segment
from nucleate.geometry.outlines import paint
model = load_model(sys.argv[2], device="cpu", threads=1)
images = [np.asarray(Image.open(path)) for path in sorted(Path(sys.argv[1]).glob("*.png"))]
paint(segment(images[0], model, 0.25), images[0].shape[:2])
started = time.perf_counter()
for image in images:
    paint(segment(image, model, 0.25), image.shape[:2])
print((time.perf_counter() - started) / len(images))
"""
NETWORK = """
import sys, time
import numpy as np
from PIL import Image
from nucleate import load_model
model = load_model(sys.argv[2], device="cpu", threads=int(sys.argv[4]))
tile = np.asarray(Image.open(sys.argv[1]))
edge = int(sys.argv[3])
batch = np.ascontiguousarray(np.tile(tile, (2, 2, 1))[None, :edge, :edge])
model.backend(batch)
started = time.perf_counter()
for _ in range(5):
    model.backend(batch)
print((time.perf_counter() - started) / 5 / (edge * edge / 1e6))
"""


def on_cores(command: list[object], cores: int) -> tuple[float, str]:
    """Run a command on the first `cores` cores; return its wall time in seconds and its output."""
    mine = set(sorted(os.sched_getaffinity(0))[:cores])
    threads = {name: str(cores) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS",
               "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")}  # fmt: skip
    started = time.perf_counter()
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, mine), env=os.environ | threads,
    )  # fmt: skip
    return time.perf_counter() - started, done.stdout


def segmenting(source: Path, out: Path, *more: object) -> list[object]:
    """Return the words of `nucleate segment`."""
    shutil.rmtree(out, ignore_errors=True)
    return [sys.executable, "-m", "nucleate", "segment", source, "-o", out, "-m", MODEL,
            "--device", "cpu", *more]  # fmt: skip


def folders(data: Path, scratch: Path) -> dict[int, Path]:
    """Write images of MoNuSeg's training part into a folder, and the first one into another."""
    archive = data / "MoNuSeg" / "MoNuSeg 2018 Training Data.zip"
    made = {TILES * COPIES: scratch / "many", 1: scratch / "one"}
    for count, folder in made.items():
        folder.mkdir()
        for entry in list_entries("monuseg", archive, {})[: min(count, TILES)]:
            bgr = cv2.cvtColor(entry.read().image, cv2.COLOR_RGB2BGR)
            for copy in range(max(1, count // TILES)):
                cv2.imwrite(str(folder / f"{entry.name}-{copy}.png"), bgr)
    return made


def stardist(data: Path, venvs: Path, minutes: float) -> tuple[Path, Path]:
    """Return StarDist's Python and its trained weights, made where they are missing."""
    from run import PEERS, environment, trained_stardist

    from nucleate.config import Recipe
    from nucleate.datasets.loading import collect
    from nucleate.models.card import find_model, read_card

    venv = venvs / "StarDist"
    reason = environment(venv, PEERS["StarDist"])
    if reason is not None:
        raise SystemExit(f"StarDist cannot be installed: {reason}")
    recipe = Recipe.model_validate(read_card(find_model(MODEL)).recipe)
    there = collect(recipe.data.model_copy(update={"root": str(data)}), Path())
    parts = {part: there.read(part, recipe.data.mpp) for part in ("train", "validation")}
    return venv / "bin" / "python", trained_stardist(venv, parts, minutes)


def per_image(rounds: int, images: dict[int, Path], ways: dict[str, Any]) -> dict[str, list[float]]:
    """Return way -> seconds per image of each round, start-up taken out."""
    seconds: dict[str, list[float]] = {name: [] for name in (*ways, WITHIN)}
    most = max(images)
    for _ in range(rounds):
        within = on_cores([sys.executable, "-c", IN_PROCESS, images[most], MODEL], 1)[1]
        seconds[WITHIN].append(float(within))
        for name, words in ways.items():
            many, one = (on_cores(words(images[n]), 1)[0] for n in (most, 1))
            seconds[name].append((many - one) / (most - 1))
            print(name, f"{seconds[name][-1]:.3f} s per image, start-up {one:.1f} s", flush=True)
    return seconds


def slide(rounds: int, scratch: Path, one: Path, tile: Path) -> dict[str, Any]:
    """Time a slide of 64 megapixels with labels, and the network alone, on one core and on two."""
    from tests.synthetic_slide import tissue_block, write_slide

    path = scratch / "slide.tif"
    write_slide(path, SLIDE_PX, SLIDE_PX, tissue_block(), mpp=MPP)
    megapixels = SLIDE_PX * SLIDE_PX / 1e6
    alone = {"network alone": 1, "network alone, two cores": 2}
    found: dict[str, list[float]] = {n: [] for n in ("one core", "two cores", *alone)}
    for _ in range(rounds):
        for name, cores in (("one core", 1), ("two cores", 2)):
            words = ("--formats", "labels", "--threads", cores)
            start = on_cores(segmenting(one, scratch / "out", "--mpp", MPP, *words), cores)[0]
            spent = on_cores(segmenting(path, scratch / "out", *words), cores)[0]
            found[name].append((spent - start) / megapixels)
        for name, cores in alone.items():
            words = [sys.executable, "-c", NETWORK, tile, MODEL, NETWORK_PX, cores]
            found[name].append(float(on_cores(words, cores)[1].split()[-1]))
        print({name: round(values[-1], 4) for name, values in found.items()}, flush=True)
    return {"megapixels": round(megapixels, 1), "seconds_per_megapixel": found}


def main(options: argparse.Namespace) -> None:
    """Measure and write."""
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        images = folders(options.data, scratch)
        python, weights = stardist(options.data, options.venvs, options.minutes)
        out = scratch / "out"
        files = ROOT / "benchmarks" / "peers" / "stardist_files.py"
        ways = {
            DEFAULT: lambda i: segmenting(i, out, "--mpp", MPP),
            LABELS: lambda i: segmenting(i, out, "--mpp", MPP, "--formats", "labels"),
            "StarDist, labels": lambda i: [python, files, i, out, weights],
        }
        seconds = per_image(options.rounds, images, ways)
        tile = sorted(images[1].glob("*.png"))[0]
        whole = slide(options.rounds, scratch, images[1], tile)
    printed = {
        "command": "python benchmarks/commands.py DATA VENVS",
        "commit": git_commit(),
        "cpu": cpu_name(),
        "rounds": options.rounds,
        "stardist_minutes": options.minutes,
        "stardist_thresholds": (weights / "thresholds.json").read_text(encoding="utf-8").strip(),
        "seconds_per_image": {name: [round(v, 4) for v in vs] for name, vs in seconds.items()},
        "slide": whole,
    }
    OUT.write_text(json.dumps(printed, indent=1) + "\n", encoding="utf-8")
    for name, values in seconds.items():
        print(f"{name}: {median(values):.3f} s per image", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("venvs", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=20.0)
    main(parser.parse_args())

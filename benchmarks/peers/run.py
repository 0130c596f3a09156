"""nucleate and its peers on one machine in one run: docs/results/peers.json.

python benchmarks/peers/run.py DATA VENVS [--test] [--only NAME ...] [--minutes 20]

DATA is the folder that the bundled model's recipe calls `data.root`. Every peer gets a virtual
environment in VENVS (several gigabytes in all); one that cannot be installed, or does
not run, is listed with the reason. One core each; rounds of all peers follow each other, so that a
busy machine is busy for all. StarDist is trained here, for `--minutes`, on the very images that
the bundled model was trained on, its thresholds chosen on those that were held out. `--test` scores
the peers that find nuclei on MoNuSeg's 14 test images, one row each in the ledger; the score of
the bundled model is that of its evaluation in docs/results.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from nucleate.config import Recipe
from nucleate.datasets.loading import collect, list_entries
from nucleate.environment import git_commit
from nucleate.evaluation.ledger import log_test_use
from nucleate.evaluation.report import Report
from nucleate.evaluation.score import score_labels
from nucleate.models.card import bundled_models, find_model, read_card
from nucleate.types import Sample

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from timing import cpu_name  # noqa: E402

ROOT = HERE.parents[1]
OUT = ROOT / "docs" / "results" / "peers.json"
TEST = "MoNuSeg/MoNuSegTestData.zip"
LEDGER = ROOT / "docs" / "results" / "test-uses.csv"
ROUNDS, TILES = 3, 4
METRICS = ("aji", "pq", "dice")
Rows = dict[str, dict[str, Any]]
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS",
     "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Peer:
    """One competitor.

    Attributes:
        script: file beside this one.
        packages: what pip installs.
        about: what is measured.
        scored: whether it finds nuclei, or is there for its speed only.
        words: given to the script.
        alone: what pip installs without what it states to need.
        trained: whether it has learned what a nucleus is; the others are rules.
    """

    script: str
    packages: tuple[str, ...]
    about: str
    scored: bool = False
    words: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()
    trained: bool = True


OURS = {
    name: Peer("nucleate_.py", (str(ROOT),), "bundled, at its defaults", True, ("--model", name))
    for name in bundled_models()
}
PEERS = OURS | {
    "StarDist": Peer(
        "stardist_.py", ("stardist", "tensorflow-cpu"), "its own package, trained here", True
    ),
    "InstanSeg": Peer(
        "instanseg_.py", ("torch==2.13.0", "instanseg-torch"),
        "its network with random weights, forward pass at its 0.5 µm per pixel",
    ),
    "HoVer-Net": Peer(
        "hovernet.py", ("torch==2.13.0", "monai"),
        "MONAI's network, fast mode, random weights, forward pass of 3 of 49 patches, times 49/3",
    ),
    "Cellpose": Peer("cellpose_.py", ("cellpose",), "its default model", True),
    "HistomicsTK": Peer(
        "histomicstk_.py",
        ("numpy", "scipy", "scikit-image", "scikit-learn", "pandas", "nimfa", "large-image",
         "imageio", "opencv-python-headless", "shapely", "girder-slicer-cli-web", "ctk-cli",
         "girder-client"),
        "nuclei detection at its defaults", True, alone=("histomicstk",), trained=False,
    ),
    "Otsu + watershed": Peer(
        "otsu.py", ("scikit-image",), "ten lines of scikit-image", True, trained=False
    ),
}  # fmt: skip


def environment(folder: Path, peer: Peer) -> str | None:
    """Make a virtual environment, unless it is there; return why it cannot be, or None."""
    ready = folder / "ready"
    if ready.exists():
        return None
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
    for words in (peer.packages, ("--no-deps", *peer.alone) if peer.alone else ()):
        done = subprocess.run([*pip, *words], capture_output=True, text=True) if words else None
        if done is not None and done.returncode:
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            errors = [line for line in lines if line.lower().startswith("error")]
            return (errors or lines or ["pip failed"])[-1]
    ready.touch()
    return None


def megabytes(folder: Path) -> int:
    """Return what a folder takes on the disk."""
    printed = subprocess.run(["du", "-sm", folder], capture_output=True, text=True, check=True)
    return int(printed.stdout.split()[0])


LAUNCHER = """
import os, resource, subprocess, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
print(done.returncode, peak, (done.stderr.strip().splitlines() or [""])[-1])
"""


def asked(peer: Peer, venv: Path, words: list[object]) -> tuple[dict[str, list[float]], int, str]:
    """Run a peer's script on one core; return seconds per tile, peak memory, and its complaint."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "seconds.json"
        command = [venv / "bin" / "python", HERE / peer.script, words[0], out, *words[1:]]
        launched = [sys.executable, "-c", LAUNCHER, *map(str, command)]
        printed = subprocess.run(
            launched, capture_output=True, text=True, check=True, env=os.environ | ONE_THREAD
        )
        code, peak, said = printed.stdout.rstrip("\n").split(" ", 2)
        if code != "0":
            return {}, 0, said or f"exit code {code}"
        return json.loads(out.read_text()), int(peak), ""


def write_arrays(found: list[Sample], images: Path, labels: Path | None = None) -> None:
    """Write images, and labels, as NAME.npy."""
    for folder in (images, labels):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    for sample in found:
        np.save(images / f"{sample.name}.npy", sample.image)
        if labels is not None:
            np.save(labels / f"{sample.name}.npy", sample.labels)


def trained_stardist(venv: Path, parts: dict[str, list[Sample]], minutes: float) -> Path:
    """Train StarDist, unless it is trained; return its folder."""
    model = venv / f"trained-{minutes:g}"
    if not (model / "thresholds.json").exists():
        with tempfile.TemporaryDirectory() as temporary:
            scratch = Path(temporary)
            for part, mine in parts.items():
                write_arrays(mine, scratch / part / "images", scratch / part / "labels")
            script = [venv / "bin" / "python", HERE / "train_stardist.py", scratch, model, minutes]
            subprocess.run(list(map(str, script)), check=True)
    return model


def speed(words: dict[str, list[object]], venvs: dict[str, Path], tiles: Path, rows: Rows) -> None:
    """Fill in seconds and peak memory, round by round; what fails is left out with the reason."""
    for _ in range(ROUNDS):
        for name in list(words):
            seconds, peak, said = asked(PEERS[name], venvs[name], [tiles, *words[name]])
            if said:
                rows[name]["skipped"] = said
                del words[name]
                continue
            rows[name]["seconds"].append(median(s for v in seconds.values() for s in v))
            rows[name]["peak_mb"] = max(peak, rows[name].get("peak_mb", 0))
            print(name, rows[name]["seconds"], flush=True)


def accuracy(
    words: dict[str, list[object]], venvs: dict[str, Path], truth: list[Sample], rows: Rows
) -> None:
    """Fill in the scores on the test images, and write every use into the ledger."""
    command = "python benchmarks/peers/run.py DATA VENVS --test"
    with tempfile.TemporaryDirectory() as temporary:
        tiles = Path(temporary) / "tiles"
        write_arrays(truth, tiles)
        for name in words:
            if name in OURS:
                kept = ROOT / "docs" / "results" / f"{name}-monuseg-test" / "metrics.json"
                means = json.loads(kept.read_text(encoding="utf-8"))["mean"]
                rows[name] |= {metric: means[metric] for metric in METRICS}
            if name in OURS or not PEERS[name].scored:
                continue
            found = Path(temporary) / name
            found.mkdir()
            asked(PEERS[name], venvs[name], [tiles, "--labels", found, *words[name]])
            scores = [
                score_labels(s.labels, np.load(found / f"{s.name}.npy"), s.ignore, s.name)
                for s in truth
            ]
            report = Report(scores, {})
            means = report.means()
            rows[name] |= {metric: means[metric] for metric in METRICS}
            log_test_use(LEDGER, name, "peer", report, command)
            print(name, rows[name], flush=True)


def main(options: argparse.Namespace) -> None:
    """Measure, and write what was found."""
    card = read_card(find_model("mtl-small"))
    recipe = Recipe.model_validate(card.recipe)
    data = collect(recipe.data.model_copy(update={"root": str(options.data)}), Path())
    parts = {part: data.read(part, recipe.data.mpp) for part in ("train", "validation")}
    chosen = [name for name in PEERS if not options.only or name in options.only]
    venvs = {n: options.venvs / ("nucleate" if n in OURS else n.replace(" ", "")) for n in chosen}
    (options.venvs / "nucleate" / "ready").unlink(missing_ok=True)  # may be of older code
    rows: Rows = {}
    words: dict[str, list[object]] = {}
    for name in chosen:
        peer = PEERS[name]
        reason = environment(venvs[name], peer)
        rows[name] = {
            "about": peer.about, "trained": peer.trained, "skipped": reason, "seconds": [],
        }  # fmt: skip
        if reason is None:
            rows[name]["install_mb"] = megabytes(venvs[name])
            words[name] = list(peer.words)
    if "StarDist" in words:
        words["StarDist"] = ["--model", trained_stardist(venvs["StarDist"], parts, options.minutes)]
    with tempfile.TemporaryDirectory() as temporary:
        write_arrays(parts["validation"][:TILES], Path(temporary))
        speed(words, venvs, Path(temporary), rows)
    if options.test:
        truth = [entry.read() for entry in list_entries("monuseg", options.data / TEST, {})]
        accuracy(words, venvs, truth, rows)
    printed = {
        "command": f"python benchmarks/peers/run.py DATA VENVS{' --test' if options.test else ''}",
        "commit": git_commit(), "rounds": ROUNDS, "minutes": options.minutes,
        "machine": cpu_name(), "rows": rows,
    }  # fmt: skip
    OUT.write_text(json.dumps(printed, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("venvs", type=Path)
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--minutes", type=float, default=20.0)
    main(parser.parse_args())

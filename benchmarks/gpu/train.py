"""Train with what is left of the time; the run travels in pieces and goes on in the next call.

What is trained was packed beforehand (`pack.py --train RECIPE`): a recipe and its data as JPEG.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load_file, save_file

if TYPE_CHECKING:
    from benchmarks.gpu.run import Findings

PACK = Path(__file__).parents[2] / ".gpu"
RECIPE, RUN = "recipe.yaml", "run"
PIECE, MOST_PIECES = 15 << 20, 4  # bytes; files that come back are 16 MiB at most, and few
PIECES = "run-*.safetensors"
LAST_S = 45.0  # what stopping, and putting the run into pieces, may take


def train(found: Findings, pack: Path = PACK) -> None:
    """Train or resume the packed recipe until the time is over, and leave the run in pieces."""
    if not (pack / RECIPE).exists():
        found.put("train", "not run", "nothing is packed: benchmarks/gpu/pack.py --train RECIPE")
        return
    seconds = found.left() - LAST_S
    if seconds < 20:
        found.put("train", "not run", f"{found.left():.0f} s left are too few")
        return
    run = pack / RUN
    resumed = join(pack, run)
    workers = min(15, max(0, (os.cpu_count() or 1) - 1))
    command = [
        sys.executable, "-m", "nucleate", "train", pack / RECIPE, "-o", run,
        "--set", f"data.root={pack / 'data'}", "--set", f"train.device={found.device}",
        "--set", f"train.workers={workers if found.device == 'cuda' else 0}",
        *(["--resume"] if resumed else []),
    ]  # fmt: skip
    process = subprocess.Popen(list(map(str, command)))
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        process.wait()
    rows = (run / "metrics.csv").read_text().splitlines() if (run / "metrics.csv").exists() else []
    found.put("train", "run", {
        "resumed": resumed,
        "finished": (run / "model" / "card.json").exists(),
        "rounds": max(0, len(rows) - 1),
        "last": dict(zip(rows[0].split(","), rows[-1].split(","), strict=True)) if rows[1:] else {},
        "pieces": split(run, found.path.parent),
    })  # fmt: skip


def split(run: Path, out: Path) -> int:
    """Write a run folder into `out` as run-NN.safetensors of at most 15 MiB; return how many.

    Nothing else than bytes is in them: what was pickled by nobody is unpickled by nobody.
    """
    for old in out.glob(PIECES):
        old.unlink()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path in sorted(run.rglob("*")):
            if path.is_file() and "tensorboard" not in path.parts:
                archive.add(path, path.relative_to(run).as_posix())
    content = np.frombuffer(packed.getvalue(), np.uint8)
    count = -(-len(content) // PIECE)
    if count > MOST_PIECES:
        raise ValueError(
            f"the run takes {len(content) >> 20} MiB, more than {MOST_PIECES} pieces: train a "
            "smaller network"
        )
    for number in range(count):
        part = np.ascontiguousarray(content[number * PIECE : (number + 1) * PIECE])
        save_file({"bytes": part}, out / f"run-{number:02d}.safetensors")
    return count


def join(folder: Path, run: Path) -> bool:
    """Restore a run folder from the pieces in `folder`; return whether there is one to resume."""
    pieces = sorted(folder.glob(PIECES))
    if pieces and not run.exists():
        content = b"".join(load_file(piece)["bytes"].tobytes() for piece in pieces)
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive:  # packed above; Python before 3.11.4 has no filter
                if not (run / member.name).resolve().is_relative_to(run.resolve()):
                    raise SystemExit(f"{folder}: {member.name} leads out of the run folder.")
                archive.extract(member, run)
    return (run / "checkpoints" / "manifest.json").exists()

"""Run several trainings in parallel, each in its own process, distributed over the GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from nucleate.errors import TrainingError
from nucleate.files import write_text
from nucleate.inference.loading import cuda_count
from nucleate.trees import Strict, dump_recipe


def run_apart(
    tasks: dict[str, tuple[str, Strict]],
    out: Path,
    jobs: int,
    tell: Callable[[str], None],
    done: Callable[[str], None] = lambda _: None,
) -> None:
    """Run recipes, `jobs` at a time; runs that were started earlier are resumed.

    Args:
        tasks: name -> command (train or pretrain) and recipe; the run folder is `out / name`, next
            to NAME.yaml and NAME.err.
        out: output folder.
        jobs: number of parallel trainings; without GPUs they share the cores.
        tell: called with one line per step.
        done: called with the name of each successful training.

    Raises:
        TrainingError: some trainings failed; the others ran to completion.
    """
    devices = cuda_count()
    waiting, running = list(tasks), dict[str, subprocess.Popen[bytes]]()
    failed: list[str] = []
    free = list(range(jobs))
    slots: dict[str, int] = {}
    try:
        while waiting or running:
            while waiting and free:
                name = waiting.pop(0)
                slots[name] = free.pop(0)
                running[name] = _launch(*tasks[name], out, name, slots[name], jobs, devices)
                tell(f"{name}: started; its log is {out / name / 'log.txt'}")
            time.sleep(0.2)
            ended = [name for name, process in running.items() if process.poll() is not None]
            for name in ended:
                code = running.pop(name).returncode
                free.append(slots[name])
                tell(f"{name}: {'failed' if code else 'done'}")
                if code:
                    failed.append(name)
                else:
                    done(name)
    finally:
        for process in running.values():
            process.terminate()
            process.wait()
    if failed:
        raise TrainingError(
            f"{', '.join(sorted(failed))}: training failed; see the end of "
            f"{out / (min(failed) + '.err')}. Correct the cause, and continue with --resume."
        )


def _launch(
    command: str, recipe: Strict, out: Path, name: str, slot: int, jobs: int, devices: int
) -> subprocess.Popen[bytes]:
    """Start one training."""
    file, log_file = out / f"{name}.yaml", out / f"{name}.err"
    write_text(file, dump_recipe(recipe))
    resume = ["--resume"] if (out / name / "recipe.yaml").exists() else []
    settings = dict(os.environ)
    if devices:
        allowed = settings.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(devices)))
        mine = allowed.split(",")
        settings["CUDA_VISIBLE_DEVICES"] = mine[slot % len(mine)]
    else:
        settings["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))
    with open(log_file, "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "nucleate", command, str(file), "-o", str(out / name), *resume],
            stdout=log,
            stderr=log,
            env=settings,
        )

"""The judge: train on four data sets, test on the fifth, for every idea of the plan.

    python benchmarks/generalise/run.py --next        the next missing fold, on one thread
    python benchmarks/generalise/run.py --status      a table of what is known
    python benchmarks/generalise/run.py --device cuda --parallel 16 --seconds 400 --out OUT
    python benchmarks/generalise/run.py --merge OUT/generalise.json

Each finished fold is written to docs/results/generalise/IDEA.json at once; with `--out`, to
OUT/generalise.json, beside the weights in pieces. The data must be packed (pack.py).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import queue
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.generalise import plan, scoring, store  # noqa: E402
from benchmarks.generalise.areas import load_areas  # noqa: E402
from benchmarks.generalise.sets import PACKED, SETS  # noqa: E402
from benchmarks.generalise.store import RESULTS, Job  # noqa: E402

from nucleate.errors import NucleateError  # noqa: E402

if TYPE_CHECKING:
    from benchmarks.generalise.fold import Packed
    from benchmarks.gpu.run import Findings

RUNS = ROOT / "runs" / "generalise"
EVERY = 250  # steps between checkpoints where a run is likely to be killed
PIECE, MOST_PIECES = 15 << 20, 4  # bytes and files of weights that come back
LAST_S, STARTS_S = 15.0, 10.0  # what writing at the end, and loading libraries, may take
MOST_PARALLEL = 16  # folds that share a GPU
SHARE = 0.8  # of the time of the last fold that must be left to begin another


def run_next(job: Job, data: Packed, runs: Path, device: str, steps: int | None) -> dict[str, Any]:
    """Run one fold with checkpoints, keep its weights, and return its result."""
    from benchmarks.generalise.fold import run_fold, write_weights

    folder = runs / job.name
    result, weights = run_fold(job.idea, job.left_out, job.seed, data, device, folder, steps, EVERY)
    write_weights(runs / "weights" / f"{job.name}.safetensors", weights)
    shutil.rmtree(folder)
    return result


def work(
    number: int, todo: Any, done: Any, data: Packed, folder: Path, device: str, end: float,
    steps: int | None,
) -> None:  # fmt: skip
    """Run folds until none is left or too little time is: one of several processes."""
    from benchmarks.generalise.fold import run_fold, write_weights

    last = 0.0
    while end - time.time() > SHARE * last:
        try:
            job = todo.get(timeout=0.2)
        except queue.Empty:
            break
        started = time.time()
        try:
            run = folder / f"run-{number}-{job.name}"
            result, weights = run_fold(job.idea, job.left_out, job.seed, data, device, run, steps)
            write_weights(folder / "weights" / f"{job.name}.safetensors", weights)
            done.put((job.name, result, None))
            shutil.rmtree(run, ignore_errors=True)
        except Exception as error:  # one fold must not cost the others
            traceback.print_exc()
            done.put((job.name, None, f"{type(error).__name__}: {error}"[:300]))
        last = time.time() - started


def run_parallel(
    todo: list[Job], data: Packed, out: Path, device: str, parallel: int, end: float,
    steps: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Run folds in several processes until the time is over; return what finished.

    Everything is loaded and compiled before the processes fork, so that each begins at once.
    """
    context = multiprocessing.get_context("fork")
    wanted, done = context.Queue(), context.Queue()
    for job in todo:
        wanted.put(job)
    scratch = out / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    warm_up(todo, data)
    started = time.time()
    workers = [
        context.Process(target=work, args=(n, wanted, done, data, scratch, device, end, steps))
        for n in range(min(parallel, len(todo)))
    ]
    for worker in workers:
        worker.start()
    found: dict[str, Any] = {"folds": {}, "failed": {}}
    while time.time() < end and (any(w.is_alive() for w in workers) or not done.empty()):
        try:
            name, result, error = done.get(timeout=0.5)
        except queue.Empty:
            continue
        if result is None:
            found["failed"][name] = error
        else:
            found["folds"][name] = result
            said = f"{result['steps_per_s']} steps/s, test {result['test_seconds']} s"
            print(f"[{end - time.time():4.0f} s left] {name}: {said}", flush=True)
        _write(out, found)
    for worker in workers:
        if worker.is_alive():
            worker.terminate()
        worker.join()
    steps_done = sum(fold["steps"] for fold in found["folds"].values())
    found["steps_per_s_in_all"] = round(steps_done / (time.time() - started), 1)
    found["weights"] = pack_weights(scratch / "weights", out, list(found["folds"]))
    _write(out, found)
    shutil.rmtree(scratch, ignore_errors=True)
    return found


def _write(out: Path, found: dict[str, Any]) -> None:
    text = json.dumps(found, separators=(",", ":"))
    (out / "generalise.json").write_text(text + "\n", encoding="utf-8")


def warm_up(todo: list[Job], data: Packed) -> None:
    """Read every set that is trained on, and compile what makes crops and decodes maps."""
    import cv2
    import torch
    from benchmarks.generalise.fold import CropDataset

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    for job in todo[: len(SETS)]:
        recipe = plan.recipe_of(job.idea, job.left_out, job.seed, None, data.pixels)
        samples = data.training(recipe)
        CropDataset(samples, recipe)[0]
    sample = data.test["tnbc"][0]
    inside = (sample.labels > 0).astype("float32")  # type: ignore[operator]
    maps = {"foreground": inside, "distance": inside}
    scoring.judge_set([sample], {}, lambda _: maps, scoring.GRID[:1])


def pack_weights(folder: Path, out: Path, names: list[str]) -> list[str]:
    """Write the weights of folds into pieces of at most 15 MiB; return whose fitted in.

    The folds of the plan's first ideas come first.
    """
    from safetensors.numpy import load_file, save_file

    for old in out.glob("weights-*.safetensors"):
        old.unlink()
    order = [idea.name for idea in plan.IDEAS]
    names = sorted(names, key=lambda name: order.index(name.partition(".")[0]))
    pieces: list[dict[str, Any]] = [{}]
    size, kept = 0, []
    for name in names:
        path = folder / f"{name}.safetensors"
        if not path.exists():
            continue
        weights = load_file(path)
        more = sum(array.nbytes for array in weights.values()) + 100 * len(weights)
        if size + more > PIECE:
            if len(pieces) == MOST_PIECES:
                continue
            pieces.append({})
            size = 0
        pieces[-1] |= {f"{name}/{key}": array for key, array in weights.items()}
        size += more
        kept.append(name)
    for number, piece in enumerate(pieces):
        if piece:
            save_file(piece, out / f"weights-{number}.safetensors")
    return kept


def part(found: Findings, ideas: str = "", steps: int | None = None) -> None:
    """Run the judge as a part of benchmarks/gpu/run.py, in the time that is left.

    It runs in a separate process: one that has used the GPU cannot fork others that use it.
    """
    out = found.path.parent
    parallel = min(os.cpu_count() or 1, MOST_PARALLEL)
    command = [
        sys.executable, __file__, "--parallel", parallel, "--device", found.device,
        "--seconds", f"{found.left() - STARTS_S:.0f}", "--out", out,
        *(["--ideas", ideas] if ideas else []), *(["--steps", steps] if steps else []),
    ]  # fmt: skip
    subprocess.run(list(map(str, command)), check=True)
    result = store.read(out / "generalise.json")
    found.put("generalise", "run", {
        "folds": len(result["folds"]), "failed": result["failed"],
        "steps_per_s_in_all": result["steps_per_s_in_all"], "weights": result["weights"],
    })  # fmt: skip


def ready(todo: list[Job]) -> list[Job]:
    """Return the jobs whose recipe this version has; say which ideas have to wait."""
    found, waiting = [], {}
    for job in todo:
        try:
            plan.recipe_of(job.idea, job.left_out, job.seed, None, dict.fromkeys(SETS, 1.0))
            found.append(job)
        except NucleateError as error:
            waiting[job.idea.name] = str(error)
    for name, said in waiting.items():
        print(f"{name} has to wait: {said}", file=sys.stderr)
    return found


def status(results: Path) -> None:
    """Print one line per idea: G at the best common setting, G at the fixed one, F, each set."""
    areas = load_areas()
    print(f"{'idea':14s} folds  best setting  G (95 %)              G fixed  F/mm²  tissue  "
          + "  ".join(f"{name:9s}" for name in SETS))  # fmt: skip
    for idea in plan.IDEAS:
        folds = store.folds_of(results, idea)
        wanted = len(idea.seeds) * len(idea.left_out)
        if not folds:
            print(f"{idea.name:14s} 0/{wanted}")
            continue
        best, at_best, fixed = scoring.standing(store.by_set(folds), areas)
        setting = f"{best['foreground']}/{best['marker']}"
        each = [f"{at_best.sets[n]['aji'][0]:.4f}" if n in at_best.sets else "–" for n in SETS]
        print(f"{idea.name:14s} {len(folds)}/{wanted}    {setting:12s}  {at_best.g:.4f} "
              f"({at_best.g_low:.4f}–{at_best.g_high:.4f})  {fixed.g:.4f}   "
              f"{at_best.f:5.1f}  {at_best.f_tissue:6.1f}  "
              + "  ".join(f"{value:9s}" for value in each))  # fmt: skip


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--next", action="store_true", help="run the next missing fold")
    parser.add_argument("--status", action="store_true", help="print one line per idea")
    parser.add_argument("--merge", type=Path, help="keep the folds of a generalise.json")
    parser.add_argument("--parallel", type=int, help="run as many folds at once")
    parser.add_argument("--seconds", type=float, default=400, help="with --parallel: time budget")
    parser.add_argument("--out", type=Path, help="with --parallel: folder of what is found")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cpu")
    parser.add_argument("--ideas", default="", help="comma-separated; none takes the plan")
    parser.add_argument("--steps", type=int, help="instead of the idea's: for a trial, not kept")
    parser.add_argument("--packed", type=Path, default=PACKED)
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    end = time.time() + given.seconds - LAST_S
    if given.status:
        return status(given.results)
    if given.merge:
        content = json.loads(given.merge.read_text(encoding="utf-8"))
        print(f"{store.merge(given.results, content)} folds kept in {given.results}")
        return None
    from benchmarks.generalise.fold import Packed

    ideas = tuple(plan.by_name(n) for n in given.ideas.split(",")) if given.ideas else plan.IDEAS
    todo = ready(store.jobs(given.results, ideas))
    if not todo:
        return print("nothing is missing")
    data = Packed(given.packed)
    if given.parallel:
        out = given.out or given.runs
        out.mkdir(parents=True, exist_ok=True)
        run_parallel(todo, data, out, given.device, given.parallel, end, given.steps)
        return None
    if not given.next:
        parser.error("give --next, --status, --merge or --parallel")
    os.nice(max(0, 19 - os.nice(0)))
    job = todo[0]
    print(f"{job.name}: begins", file=sys.stderr)
    result = run_next(job, data, given.runs, given.device, given.steps)
    if given.steps is None:
        store.keep(given.results, job, result)
    print(f"{job.name}: {result['seconds']} s, {result['steps_per_s']} steps/s, "
          f"test {result['test_seconds']} s")  # fmt: skip
    return None


if __name__ == "__main__":
    main()

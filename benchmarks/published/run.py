"""Train the recipes of the published systems, one after the other, on one thread at low priority.

python benchmarks/published/run.py --status
python benchmarks/published/run.py --next [--one] [--data DATA] [--runs RUNS]

`--next` runs or resumes the next recipe, evaluates it, keeps its result, and goes on with the one
after it. It may be stopped at any time (SIGTERM, or a kill): the same command goes on from the last
checkpoint. A recipe gets at most `--hours` CPU hours; where its steps cost more, as many as fit are
run. Costs are measured on a few steps and kept in published-costs.json of `--results`.
"""

from __future__ import annotations

import os

if __name__ == "__main__":  # before anything starts threads
    for _name in ("OMP", "MKL", "OPENBLAS", "NUMBA"):
        os.environ[f"{_name}_NUM_THREADS"] = "1"

import argparse
import importlib
import json
import shutil
import signal
import sys
import time
import traceback
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import plan as planning
from plan import Cost, Item, Plan
from store import COCO, TRAINING, Meter, Queue, processor, read

from nucleate.errors import NucleateError, TrainingError
from nucleate.files import write_text
from nucleate.training.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
TEST = "MoNuSeg/MoNuSegTestData.zip"
MEASURED, ROUND = 6, 3  # steps that are timed, and between validations
PROGRAMS = str(ROOT / "docs" / "programs")
LOADED = (  # at the start, so that changes of the code do not reach a queue that is at work
    "nucleate.cli", "nucleate.training.trainer", "nucleate.pretraining.pretrainer",
    "nucleate.evaluation.evaluate", "nucleate.inference.loading", "nucleate.reports.run_results",
    "keep_experiment",
)  # fmt: skip

METER = Meter()


def nucleate(words: list[str]) -> None:
    """Run a command of nucleate in this process; errors come as exceptions."""
    from typer.main import get_command

    from nucleate.cli import app

    sys.argv = ["nucleate", *words]  # what results are marked with
    code = get_command(app)(words, prog_name="nucleate", standalone_mode=False)
    if code:
        raise TrainingError(f"nucleate {words[0]} ended with code {code}. See its output.")


def train_words(queue: Queue, item: Item, plan: Plan, out: Path) -> list[str]:
    """Return the command that trains a recipe as planned."""
    settings: dict[str, object] = {
        "data.root": data_root(queue, item),
        **{f"train.{name}": value for name, value in asdict(plan).items()},
        "train.threads": 1,
        "train.workers": 0,
        "train.device": "cpu",
    }
    file = item.file.relative_to(ROOT) if item.file.is_relative_to(ROOT) else item.file
    changes = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    command = "pretrain" if item.pretraining else "train"
    return [command, str(file), *changes, "-o", str(out)]


def data_root(queue: Queue, item: Item) -> Path:
    """Return the folder of a recipe's data; make what it wants in COCO form beside the runs."""
    wanted = [path for path in item.inputs if path in COCO]
    if not wanted:
        return queue.data
    root = queue.runs / "data"
    (root / "coco").mkdir(parents=True, exist_ok=True)
    for path in wanted:
        reader, source, *options = COCO[path]
        if not (root / path).exists():
            started = root / f"{path}.started"
            shutil.rmtree(started, ignore_errors=True)
            words = ["data", "convert", reader, str(queue.data / source), "--to", "coco"]
            nucleate([*words, *options, "-o", str(started)])
            started.rename(root / path)
    return root


def measure(queue: Queue, item: Item) -> Cost:
    """Time a few steps of a recipe, a validation, and all that is done once; keep the figures."""
    out = queue.runs / "measured"
    shutil.rmtree(out, ignore_errors=True)
    print(f"{item.name}: measuring {MEASURED} steps", file=sys.stderr)
    words = train_words(queue, item, Plan(MEASURED, ROUND, 0), out)
    METER.begin(queue, item)
    started = time.process_time()
    nucleate(words)
    cost = cost_of(METER.steps, time.process_time() - started)
    shutil.rmtree(out)
    table = {**read(queue.costs), item.name: asdict(cost)}
    write_text(queue.costs, json.dumps(dict(sorted(table.items())), indent=1) + "\n")
    return cost


def cost_of(steps: list[float], whole_s: float) -> Cost:
    """Return the cost of a step, of a validation and of the rest, from the times of all steps."""
    gaps = [after - before for before, after in pairwise(steps)]
    within = [gap for i, gap in enumerate(gaps, 1) if i % ROUND]
    between = [gap for i, gap in enumerate(gaps, 1) if i % ROUND == 0]
    step_s = max(median(within), 1e-4)
    validation_s = max(0.0, median(between) - step_s)
    rounds = len(steps) // ROUND
    fixed_s = max(0.0, whole_s - len(steps) * step_s - rounds * validation_s)
    return Cost(round(step_s, 4), round(validation_s, 2), round(fixed_s, 1), processor())


def choose(queue: Queue, items: list[Item]) -> Item | None:
    """Return what is next; where the cheapest comes first, measure those that compete for it."""
    facts = {item.name: queue.facts(item) for item in items}
    left = planning.order(items, facts)
    if not left:
        return None
    first = planning.tier(left[0], facts[left[0].name])
    unknown = [
        item
        for item in left
        if facts[item.name].cost is None and planning.tier(item, facts[item.name]) == first
    ]
    if first not in (2, 3) or not unknown:
        return left[0]
    for item in unknown:
        attempt(queue, item, measure)
    return choose(queue, items)


def attempt(queue: Queue, item: Item, action: Any) -> None:
    """Do something for a recipe; write down what went wrong, and leave the recipe for next time."""
    try:
        action(queue, item)
    except Exception as error:
        if not isinstance(error, NucleateError):
            traceback.print_exc()
        said = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"{item.name}: {said}", file=sys.stderr)
        queue.note(item, failed=said)
        queue.tried.add(item.name)
    finally:
        METER.save()


def run(queue: Queue, item: Item) -> None:
    """Train or resume a recipe, evaluate it, and keep its result."""
    out, facts = queue.runs / item.name, queue.facts(item)
    started = facts.plan is not None and (out / "recipe.yaml").exists()
    if not started:
        shutil.rmtree(out, ignore_errors=True)
        cost = facts.cost
        if cost is None or cost.processor != processor():
            cost = measure(queue, item)
        facts.plan = planning.make_plan(item.train, cost, queue.hours * 3600)
        if facts.plan is None:
            raise TrainingError("not one round fits in the budget. Run it on a GPU.")
        queue.note(item, plan=asdict(facts.plan))
    if facts.plan is None:
        raise TrainingError(f"{out}: has no plan. Remove it.")
    queue.note(item, failed=None)
    METER.begin(queue, item)
    words = train_words(queue, item, facts.plan, out)
    print(f"{item.name}: {facts.plan}", file=sys.stderr)
    if not RunFolder(out).is_finished():
        nucleate([*words, "--resume"] if started else words)
    keep(queue, item, evaluations(queue, item))


def evaluations(queue: Queue, item: Item) -> list[Path]:
    """Score a model on the official test images of what it was trained on; each use is noted."""
    trained_on = {TRAINING, "coco/monuseg"} & set(item.inputs)
    if item.pretraining or not trained_on or not (queue.data / TEST).exists():
        return []
    out = queue.runs / f"{item.name}-test"
    if not (out / "metrics.json").exists():
        nucleate(
            ["evaluate", "-m", str(queue.runs / item.name), "--data", "monuseg", "--root",
             str(queue.data / TEST), "--threads", "1", "-o", str(out),
             "--ledger", str(queue.results / "test-uses.csv")]
        )  # fmt: skip
    return [out]


def keep(queue: Queue, item: Item, evaluated: list[Path]) -> None:
    """Write a result where the pages are made from."""
    from keep_experiment import row_of_pretraining, row_of_run, write_row

    path = queue.runs / item.name
    if item.pretraining:
        row = row_of_pretraining(path)
    else:
        row = row_of_run(path, evaluated, str(data_root(queue, item)))
    METER.save()
    row["queue"] = {
        "of_steps": item.train.steps,
        "cpu_hours": round(queue.facts(item).cpu_s / 3600, 2),
        "processor": processor(),
    }
    write_row(row, queue.result(item))
    print(f"{item.name}: kept in {queue.result(item)}", file=sys.stderr)


def work(queue: Queue, one: bool) -> None:
    """Run what is next until nothing is left."""
    import filelock
    from torch.optim.optimizer import register_optimizer_step_post_hook

    sys.path.insert(0, PROGRAMS)
    for module in LOADED:
        importlib.import_module(module)
    queue.runs.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(queue.runs / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        sys.exit(f"{queue.runs}: another queue is at work here.")
    hook = register_optimizer_step_post_hook(METER.step)
    try:
        items = planning.known(queue.recipes)
        while (item := choose(queue, items)) is not None:
            attempt(queue, item, run)
            if one:
                return
    finally:
        hook.remove()
        lock.release()


def status(queue: Queue) -> None:
    """Print one line per recipe."""
    items = planning.known(queue.recipes)
    facts = {item.name: queue.facts(item) for item in items}
    left = planning.order(items, facts)
    others = [item for item in items if item not in left]
    for item in [*others, *left]:
        print(planning.line(item, facts[item.name], queue.hours * 3600, item in left[:1]))


def pause(number: int, _: object) -> None:
    """End at once: the last checkpoint is whole."""
    METER.save()
    os.write(2, b"paused; the same command goes on from the last checkpoint\n")
    os._exit(128 + number)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--next", action="store_true", help="run or resume what is next")
    what.add_argument("--status", action="store_true", help="print one line per recipe")
    parser.add_argument("--one", action="store_true", help="end when one recipe is finished")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "published")
    parser.add_argument("--recipes", type=Path, default=ROOT / "recipes")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument("--hours", type=float, default=4.0, help="CPU hours per recipe, at most")
    parser.add_argument("--nice", type=int, default=19, help="priority; 19 is the lowest")
    given = parser.parse_args()
    folders = (given.data, given.runs, given.recipes, given.results)
    queue = Queue(*(folder.resolve() for folder in folders), given.hours)
    os.chdir(ROOT)
    if given.status:
        status(queue)
        return
    os.nice(max(0, given.nice - os.nice(0)))
    signal.signal(signal.SIGTERM, pause)
    signal.signal(signal.SIGINT, pause)
    work(queue, given.one)


if __name__ == "__main__":
    main()

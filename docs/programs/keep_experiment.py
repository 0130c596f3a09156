"""Write down what a finished run or cross-validation reached: docs/results/experiments/NAME.json.

python docs/programs/keep_experiment.py runs/NAME [EVALUATED …]

The images that a run was not trained on are predicted again, as `nucleate report` does. EVALUATED
are folders of `nucleate evaluate -m runs/NAME … -o EVALUATED`, for other data; official tests
add `--ledger docs/results/test-uses.csv`.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

from nucleate.config import Recipe
from nucleate.evaluation.report import no_nan
from nucleate.evaluation.score import METRICS
from nucleate.files import write_text
from nucleate.reports.run_results import RunResult, gather
from nucleate.training.run_folder import RunFolder

OUT = Path(__file__).parents[1] / "results" / "experiments"


def shown(words: list[str]) -> str:
    """Return a command as anyone could type it: folders of this machine left out."""
    cleaned = []
    for word in words:
        key, equals, value = word.rpartition("=")
        path = Path(value)
        short = value
        if path.is_absolute():
            short = "data" if key.endswith("data.root") else "/".join(path.parts[-2:])
        cleaned.append(key + equals + short)
    return shlex.join(["nucleate", *cleaned])


def split_of(recipe: Recipe, folds: int) -> str:
    """Return in words who was tested on."""
    if folds > 1:
        return f"{folds} folds, {recipe.crossval.scheme}, seed {recipe.crossval.seed}"
    if recipe.data.scheme is not None:
        return f"published: {recipe.data.scheme}"
    return f"{recipe.data.validation:.0%} of the patients held out, seed {recipe.data.split_seed}"


def row_of(run: RunResult, path: Path) -> dict:
    """Return the facts of a run and its results on its own images."""
    recipe, environment = run.recipe, run.environment
    report = run.report
    summary = path / "crossval.json"
    folds = json.loads(summary.read_text()) if summary.exists() else {}
    command = folds.get("command")
    words = shlex.split(command)[1:] if command else environment["arguments"]
    return {
        "name": run.name,
        "recipe": recipe.name,
        "data": [s.title or s.name for s in recipe.data.sets],
        "split": split_of(recipe, len(run.curves)),
        "images_are": run.part,
        "seed": recipe.seed,
        "steps": recipe.train.steps,
        "batch": recipe.train.batch,
        "crop_px": recipe.train.crop_px,
        "device": "GPU" if "crops on cuda" in log_of(path) else "CPU",
        "precision": recipe.train.precision,
        "start": RunFolder(path).started_from()[0],
        "cost": {name: {"value": v, "unit": unit} for name, (v, unit) in run.cost.items()},
        "commit": folds.get("commit") or environment["commit"],
        "command": shown(words),
        "images": len(run.images),
        "mean": report.means(),
        "pooled": report.pooled(),
        "over_folds": folds.get("out_of_fold", {}).get("over_folds"),
        "tta": folds.get("out_of_fold_tta", {}).get("over_folds"),
        "per_class": None,
        "elsewhere": [],
    }


def log_of(path: Path) -> str:
    """Return the log of a run, or of all folds."""
    return "".join(log.read_text() for log in sorted(path.rglob("log.txt")))


def elsewhere(folder: Path) -> dict:
    """Return the results of one evaluation on other data."""
    found = json.loads((folder / "metrics.json").read_text())
    return {
        "data": found["about"]["data"]["root"],
        "command": found["about"]["command"],
        "commit": found["about"]["commit"],
        "images": found["images"],
        "mean": {m: found["mean"][m] for m in METRICS},
        "pooled": found["pooled"],
    }


def row_of_run(path: Path, evaluated: list[Path], root: str | None = None) -> dict:
    """Return what a finished run reached, here and on other data; `root` is where its data are."""
    row = row_of(gather(path, Path(), root, print), path)
    metrics = path / "out-of-fold" / "metrics.json"
    if metrics.exists():
        row["per_class"] = json.loads(metrics.read_text()).get("per_class") or None
    row["elsewhere"] = [elsewhere(folder) for folder in evaluated]
    return row


def row_of_pretraining(path: Path) -> dict:
    """Return what a finished pretraining reached on the images that it held out."""
    card = json.loads((path / "encoder" / "card.json").read_text())
    environment = json.loads((path / "environment.json").read_text())
    train = card["recipe"]["train"]
    return {
        "name": path.resolve().name,
        "recipe": card["name"],
        "task": card["task"],
        "start": card["notes"],
        "steps": train["steps"],
        "batch": train["batch"],
        "minutes": sum(row["seconds"] for row in RunFolder(path).numbers()) / 60,
        "commit": environment["commit"],
        "command": shown(environment["arguments"]),
        "validation": card["metrics"]["validation"],
        "chance": card["metrics"]["chance"],
    }


def write_row(row: dict, file: Path) -> None:
    """Write a result, whole or not at all."""
    write_text(file, json.dumps(no_nan(row), indent=1) + "\n")


def main() -> None:
    """Keep one run."""
    path = Path(sys.argv[1])
    row = row_of_run(path, [Path(folder) for folder in sys.argv[2:]])
    write_row(row, OUT / f"{row['name']}.json")


if __name__ == "__main__":
    main()

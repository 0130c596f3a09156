"""Cross-validation: k folds → k models, and an out-of-fold prediction for every image.

NAME-cv/
recipe.yaml            the recipe
splits/fold-1.json …   training, validation and test images
fold-1/ …              run folders, each resumable
predictions/           out-of-fold label image of every image
out-of-fold/           metrics.json, per_image.csv
out-of-fold-tta/       the same with test-time augmentation, if requested
crossval.json          per fold, and mean ± SD over folds
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nucleate.config import Recipe, load_recipe
from nucleate.datasets.base import Entry
from nucleate.datasets.loading import list_sets
from nucleate.datasets.schemes import SchemeOptions, split_by
from nucleate.datasets.splits import Split, file_names, read_split, write_split
from nucleate.environment import git_commit
from nucleate.errors import ConfigError, TrainingError
from nucleate.evaluation.evaluate import model_facts, predictions
from nucleate.evaluation.report import Report, no_nan
from nucleate.evaluation.score import METRICS, ImageScore
from nucleate.files import read_text, write_text
from nucleate.inference.ensembles import with_tta
from nucleate.inference.loading import load_model
from nucleate.models.card import CROSSVAL
from nucleate.results.images import write_labels
from nucleate.results.names import LABELS
from nucleate.training.parallel import run_apart
from nucleate.training.run_folder import RunFolder, differences
from nucleate.trees import dump_recipe


@dataclass(frozen=True, slots=True)
class CrossvalOptions:
    """Options of a cross-validation.

    Attributes:
        resume: whether to continue the cross-validation in the folder; finished folds are kept and
            unfinished folds resumed.
        jobs: number of parallel folds, each in its own process, distributed over the GPUs.
        tta: whether to predict with test-time augmentation too, reported separately.
        command: command that repeats the cross-validation, for the summary.
    """

    resume: bool = False
    jobs: int = 1
    tta: bool = False
    command: str = ""


def cross_validate(
    recipe: Recipe,
    base: Path,
    out: Path,
    options: CrossvalOptions,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Train one model per fold and score each on its held-out test images.

    Args:
        recipe: the recipe; its `crossval` defines the folds.
        base: base folder of relative paths in the recipe.
        out: output folder.
        options: resuming, parallel folds, test-time augmentation.
        tell: called with one line per step.

    Returns:
        The content of crossval.json.

    Raises:
        ConfigError: the recipe contradicts itself, or its scheme does not suit the data.
        InputError: the data cannot be read, or official test images are among them.
        TrainingError: the folder exists or contains something else; a fold failed.
    """
    if recipe.data.split is not None or recipe.data.scheme is not None:
        recipe = recipe.model_copy(
            update={"data": recipe.data.model_copy(update={"split": None, "scheme": None})}
        )
    entries, splits = fold_splits(recipe, base)
    files = file_names(n for split in splits.values() for n in split.parts["test"])
    _begin(out, recipe, splits, options.resume)
    folds = {name: _fold_recipe(recipe, out / "splits" / f"{name}.json", base) for name in splits}
    open_folds = [name for name in folds if not RunFolder(out / name).is_finished()]
    for name in folds.keys() - open_folds:
        tell(f"{name}: already finished")
    if options.jobs > 1:
        run_apart({name: ("train", folds[name]) for name in open_folds}, out, options.jobs, tell)
    else:
        from nucleate.training.trainer import train_recipe

        for name in open_folds:
            tell(f"{name} of {len(folds)}")
            train_recipe(folds[name], base, out / name, (out / name / "recipe.yaml").exists())
    summary = {
        "recipe": recipe.name,
        "scheme": recipe.crossval.model_dump(mode="json"),
        "command": options.command,
        "commit": git_commit(),
        "date": time.strftime("%Y-%m-%d"),
        "out_of_fold": _predict(out, entries, splits, files, tell),
    }
    if options.tta:
        summary["out_of_fold_tta"] = _predict(out, entries, splits, {}, tell)
    elif not open_folds and (out / CROSSVAL).exists():
        summary |= {k: v for k, v in _earlier(out / CROSSVAL).items() if k == "out_of_fold_tta"}
    write_text(out / CROSSVAL, json.dumps(no_nan(summary), indent=1) + "\n")
    return summary


def fold_splits(recipe: Recipe, base: Path) -> tuple[dict[str, Entry], dict[str, Split]]:
    """Return the images of a recipe, and one split per fold.

    Only sets with `validate_on` are split; the others are used for training in every fold, except
    for patients that the fold holds out.
    """
    entries, split_up, _ = list_sets(recipe.data.sets, base / recipe.data.root)
    wanted = recipe.crossval
    if wanted.folds is not None and wanted.scheme != "kfold":
        raise ConfigError(
            f"crossval.folds: {wanted.scheme} has a fixed number of folds. Omit the key."
        )
    options = SchemeOptions(wanted.folds or 5, wanted.validation, wanted.seed)
    found = split_by(wanted.scheme, split_up, options)
    if len(found) < 2:
        raise ConfigError(
            f"crossval.scheme: {wanted.scheme} has only one split. Use 'nucleate train' with "
            f"data.scheme={wanted.scheme}."
        )
    inside = {e.name for e in split_up}
    always = [e for e in entries.values() if e.name not in inside]
    splits = {}
    for name, split in found.items():
        held = {split.groups[n] for p in ("validation", "test") for n in split.parts[p]}
        more = [e for e in always if e.group not in held]
        parts = {**split.parts, "train": (*split.parts["train"], *(e.name for e in more))}
        groups = {**split.groups, **{e.name: e.group for e in more}}
        splits[name] = Split(parts, groups, split.mixes)
    return entries, splits


def _earlier(path: Path) -> dict[str, Any]:
    """Return an earlier summary; empty if it is damaged, because it is rewritten anyway."""
    try:
        return dict(json.loads(read_text(path)))
    except (ValueError, TypeError):
        return {}


def _begin(out: Path, recipe: Recipe, splits: dict[str, Split], resume: bool) -> None:
    """Write recipe and splits, or check that a resumed cross-validation is the same."""
    file = out / "recipe.yaml"
    if resume != file.exists():
        raise TrainingError(
            f"{out} already contains a cross-validation. Add --resume, or choose another -o."
            if file.exists()
            else f"{out} contains no cross-validation to resume. Omit --resume."
        )
    if not resume:
        if out.exists() and any(out.iterdir()):
            raise TrainingError(f"{out} is neither empty nor a cross-validation. Use another -o.")
        write_text(file, dump_recipe(recipe))
    changed = differences(load_recipe(file), recipe)
    if changed:
        raise TrainingError(
            f"{out} was started with another recipe ({', '.join(changed)}). Resume it with "
            "the same one, or choose another -o."
        )
    for name, split in splits.items():
        if not (out / "splits" / f"{name}.json").exists():  # new, or killed right after the start
            write_split(out / "splits" / f"{name}.json", split)
        if read_split(out / "splits" / f"{name}.json").digest != split.digest:
            raise TrainingError(
                f"{out}: the data have changed since it was started: {name} differs. Restore the "
                "data, or choose another -o."
            )


def _fold_recipe(recipe: Recipe, split: Path, base: Path) -> Recipe:
    """Return the recipe that trains one fold."""
    path = split if split.is_absolute() else Path(os.path.relpath(split, base))
    return recipe.model_copy(
        update={"data": recipe.data.model_copy(update={"split": path.as_posix()})}
    )


def _predict(
    out: Path,
    entries: dict[str, Entry],
    splits: dict[str, Split],
    files: dict[str, str],
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Score every fold's model on its test images; write predictions and results.

    If `files` (the names of the prediction files) is empty, score with test-time augmentation.
    """
    tta = not files
    scores: list[ImageScore] = []
    folds: dict[str, Any] = {}
    about: dict[str, Any] = {}
    for name, split in splits.items():
        model = load_model(out / name)
        model = with_tta(model) if tta else model
        mine: list[ImageScore] = []
        for found in predictions(model, [entries[n] for n in sorted(split.parts["test"])]):
            mine.append(found.score)
            if not tta:
                path = out / "predictions" / f"{files[found.score.name]}{LABELS}"
                write_labels(path, found.labels, found.sample.mpp)
        means = Report(mine).means()
        run = RunFolder(out / name)
        folds[name] = {
            "images": len(mine),
            "best_step": model.card.metrics["validation"]["best_step"],
            "seconds": sum(row["seconds"] for row in run.numbers()),
            "thresholds": model.card.thresholds,
            **{metric: means[metric]["mean"] for metric in METRICS},
        }
        tell(f"{name}: AJI {folds[name]['aji']:.4f}, PQ {folds[name]['pq']:.4f} out of fold")
        scores += mine
        about = model_facts(model)
    for key in ("model_files", "thresholds"):
        del about[key]
    folder = "out-of-fold-tta" if tta else "out-of-fold"
    Report(scores, {**about, "data": {"root": out.name}}).write(out / folder)
    return {
        "folds": folds,
        "over_folds": {
            metric: {
                "mean": float(np.mean([f[metric] for f in folds.values()])),
                "sd": float(np.std([f[metric] for f in folds.values()], ddof=1)),
            }
            for metric in METRICS
        },
    }

"""Run a study of pretraining: one training from several starts, with few and many labels."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

from nucleate.config import Recipe, load_recipe
from nucleate.datasets.loading import at_mpp
from nucleate.environment import git_commit
from nucleate.errors import ConfigError, ModelError, TrainingError
from nucleate.evaluation.evaluate import evaluate_model
from nucleate.evaluation.ledger import check_ledger, log_test_use
from nucleate.evaluation.report import no_nan
from nucleate.files import read_text, write_text
from nucleate.inference.loading import load_model
from nucleate.models.card import find_model, read_card, read_encoder_card, weights_digest
from nucleate.models.families import build
from nucleate.models.imagenet import start_from_imagenet
from nucleate.pretraining.pretrainer import pretrain_recipe
from nucleate.pretraining.recipe import PretrainRecipe, StudyRecipe
from nucleate.pretraining.study_plan import (
    Plan,
    StudyOptions,
    has_encoder,
    plan_study,
    run_name,
    slug,
    test_title,
    training_recipe,
)
from nucleate.pretraining.study_results import draw_efficiency, summarise
from nucleate.training.initial_weights import seen_pixels
from nucleate.training.parallel import run_apart
from nucleate.training.run_folder import RunFolder, differences
from nucleate.training.trainer import train_recipe
from nucleate.trees import Strict, dump_recipe, load_tree


def run_study(
    file: Path,
    changes: list[str],
    base: Path,
    out: Path,
    options: StudyOptions,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Pretrain, train from every start with every fraction of the labels, score, and compare.

    Args:
        file: recipe of the study; paths of other recipes are relative to it.
        changes: `key=value` each, as passed to `--set`.
        base: base folder of `root`.
        out: output folder.
        options: resuming, parallel runs, the official test images.
        tell: called with one line per step.

    Returns:
        The content of study.json.

    Raises:
        ConfigError: the recipes contradict each other or the protocol.
        InputError: data cannot be read.
        TrainingError: the folder exists or contains another study; a training failed.
    """
    plan = plan_study(file, changes, base)
    recipe = plan.recipe
    official = any(e.test_only for entries in plan.tests.values() for e in entries)
    if options.final and official and options.ledger is not None:
        check_ledger(options.ledger)
    skipped = _unreachable(plan)
    for start, why in skipped.items():
        tell(f"{start}: not run: {why}")
    _begin(out, plan, options.resume)
    pretexts = out / "pretexts"
    todo: dict[str, tuple[str, Strict]] = {
        name: ("pretrain", pretext)
        for name, pretext in plan.pretexts.items()
        if not has_encoder(pretexts / name)
    }
    _run(todo, pretexts, base, options.jobs, tell)
    _check_unseen(plan, pretexts)
    starts = {t: s for t, s in recipe.starts.items() if t not in skipped}
    trainings: dict[str, Recipe] = {}
    for share, seed, title in product(recipe.fractions, recipe.seeds, starts):
        name = run_name(title, share, seed)
        trainings[name] = training_recipe(plan.finetune, share, seed, starts[title], pretexts)
    runs = out / "runs"
    for name, training in trainings.items():
        _check_same(runs / name, training)

    def score(name: str) -> None:
        _score(plan, runs / name, out, options, official=False)

    for name in trainings:
        if RunFolder(runs / name).is_finished():
            score(name)
    todo = {
        name: ("train", training)
        for name, training in trainings.items()
        if not RunFolder(runs / name).is_finished()
    }
    _run(todo, runs, base, options.jobs, tell, score)
    if options.final and official:
        for name in trainings:
            _score(plan, runs / name, out, options, official=True)
    summary = summarise(plan, out, skipped)
    summary |= {
        "command": options.command,
        "commit": git_commit(),
        "date": time.strftime("%Y-%m-%d"),
    }
    write_text(out / "study.json", json.dumps(no_nan(summary), indent=1) + "\n")
    draw_efficiency(summary, out / "label-efficiency.png")
    return summary


def _check_unseen(plan: Plan, pretexts: Path) -> None:
    """Raise a `ConfigError` if a pretext used a test image under another name."""
    cards = [read_encoder_card(pretexts / name / "encoder") for name in plan.pretexts]
    for title, entries in plan.tests.items():
        for entry in entries if cards else ():
            sample = at_mpp(entry.read(), plan.finetune.data.mpp)
            for card in cards:
                if seen_pixels(card, [sample]) is not None:
                    raise ConfigError(
                        f"{card.name} was pretrained on {sample.name} of {title!r} under another "
                        "name. Remove it from the data of the pretext task, and pretrain again."
                    )


def _check_same(run: Path, training: Recipe) -> None:
    """Raise a `TrainingError` if a run was started with another recipe."""
    file = run / "recipe.yaml"
    if not file.exists():
        return
    before = load_recipe(file)
    changed = differences(before, training)
    encoders = (Path(str(recipe.init.from_model)).name for recipe in (before, training))
    if changed == ["init.from"] and len(set(encoders)) == 1:  # from another working folder
        return
    if changed:
        raise TrainingError(
            f"{run} was started with another recipe ({', '.join(changed)}). Give the run another "
            "title, or choose another -o."
        )


def _unreachable(plan: Plan) -> dict[str, str]:
    """Return the starts whose weights cannot be downloaded, with the reason."""
    starts = [title for title, start in plan.recipe.starts.items() if start.imagenet]
    if not starts:
        return {}
    model = plan.finetune.model
    try:
        start_from_imagenet(build(model.family, list(plan.finetune.maps), model.arguments))
    except ModelError as error:
        return dict.fromkeys(starts, str(error))
    return {}


def _run(
    tasks: dict[str, tuple[str, Strict]],
    out: Path,
    base: Path,
    jobs: int,
    tell: Callable[[str], None],
    done: Callable[[str], None] = lambda _: None,
) -> None:
    """Run recipes one after the other, or `jobs` at a time in separate processes."""
    if jobs > 1:
        run_apart(tasks, out, jobs, tell, done)
        return
    for name, (_, task) in tasks.items():
        tell(name)
        resume = (out / name / "recipe.yaml").exists()
        if isinstance(task, PretrainRecipe):
            pretrain_recipe(task, base, out / name, resume)
        elif isinstance(task, Recipe):
            train_recipe(task, base, out / name, resume)
        done(name)


def _begin(out: Path, plan: Plan, resume: bool) -> None:
    """Write the recipes of a study, or check that those of a resumed study are the same.

    Starts, fractions, seeds and tests may be added later; the training must not change.
    """
    file = out / "study.yaml"
    if resume != file.exists():
        raise TrainingError(
            f"{out} already contains a study. Continue with --resume, or choose another -o."
            if file.exists()
            else f"{out} contains no study to resume. Omit --resume."
        )
    if not resume and out.exists() and any(out.iterdir()):
        raise TrainingError(f"{out} is neither empty nor a study. Choose another -o.")
    if resume and (out / "finetune.yaml").exists():
        changed = differences(load_recipe(out / "finetune.yaml"), plan.finetune)
        if changed:
            raise TrainingError(
                f"{out} was started with another training ({', '.join(changed)}). Resume it with "
                "the same one, or choose another -o."
            )
    before = {test_title(s): s for s in load_tree(StudyRecipe, file).tests} if resume else {}
    other = next(
        (test_title(s) for s in plan.recipe.tests if before.get(test_title(s), s) != s), None
    )
    if other is not None:
        raise TrainingError(
            f"{out}: the data of the test {other!r} have changed. Give the test another title, or "
            "choose another -o."
        )
    for name, pretext in plan.pretexts.items():
        started = out / "pretexts" / name / "recipe.yaml"
        changed = (
            differences(load_tree(PretrainRecipe, started), pretext) if started.exists() else []
        )
        if changed:
            raise TrainingError(
                f"{out}: the pretext {name} has another recipe ({', '.join(changed)}). "
                "Resume it with the same one, or give the new one another name."
            )
    write_text(file, dump_recipe(plan.recipe))
    write_text(out / "finetune.yaml", dump_recipe(plan.finetune))


def _score(plan: Plan, run: Path, out: Path, options: StudyOptions, official: bool) -> None:
    """Score a finished run on the official or the other tests, unless it is already scored."""
    model = None
    files = read_card(find_model(run)).files
    for title, entries in plan.tests.items():
        folder = out / "tests" / slug(title) / run.name
        if any(e.test_only for e in entries) != official or _scored_files(folder) == files:
            continue
        model = model or load_model(run)
        report = evaluate_model(model, entries)
        report.about.update(data={"root": title}, commit=git_commit())
        if official and options.ledger is not None:
            name = f"{plan.recipe.name}: {run.name}"
            log_test_use(options.ledger, name, weights_digest(model.card), report, options.command)
        report.write(folder)


def _scored_files(folder: Path) -> object:
    """Return the files and hashes of the model that produced a result; None without a result."""
    file = folder / "metrics.json"
    try:
        return json.loads(read_text(file))["about"]["model_files"] if file.exists() else None
    except (ValueError, LookupError, TypeError):
        return None

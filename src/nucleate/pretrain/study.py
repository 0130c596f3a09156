"""Does pretraining help? The same training from several starts, with few and with many labels.

NAME/
study.yaml             what was asked, with all recipes
pretexts/TASK/         run folders of the pretrainings
runs/START-SHARE-SEED/ run folders of the trainings
tests/TEST/RUN/        metrics.json, per_picture.csv
study.json             table: AJI per test, share and start; gain over the first start
label-efficiency.png   the same, drawn

Same network, same steps, same pictures per seed: the starts differ in nothing else. What is tested
on is in no pretext set. The official test pictures are scored only when that is asked for.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from nucleate.checkpoint import find_model, read_card, read_encoder_card, weights_digest
from nucleate.config import Recipe, SetConfig, Strict, dump_recipe, load_recipe, load_tree
from nucleate.datasets.collect import at_mpp, collect, list_sets
from nucleate.datasets.entry import Entry
from nucleate.errors import ConfigError, ModelError, TrainingError
from nucleate.evaluate import (
    check_ledger,
    evaluate_model,
    log_test_use,
    read_scores,
)
from nucleate.inference.load import load_model
from nucleate.io.files import atomic, read_text, write_text
from nucleate.jobs import run_apart
from nucleate.metrics.paired import paired_over_seeds
from nucleate.metrics.report import METRICS, no_nan
from nucleate.models import build
from nucleate.models.imagenet import start_from_imagenet
from nucleate.pretrain import pretrain_recipe
from nucleate.pretrain.config import PretrainRecipe, StartConfig, StudyRecipe
from nucleate.pretrain.corpus import gather
from nucleate.run_folder import RunFolder, differences, git_commit
from nucleate.train import train_recipe
from nucleate.train.start import seen_pixels

HELD_OUT = "held-out pictures"


@dataclass(frozen=True, slots=True)
class StudyOptions:
    """How to go about it.

    Attributes:
        resume: go on with what the folder holds; finished runs stay.
        jobs: trainings at a time.
        final: also score the official test pictures.
        ledger: CSV file that gets a row for each of these uses; None: no file is written.
        command: that repeats it, for the summary.
    """

    resume: bool = False
    jobs: int = 1
    final: bool = False
    ledger: Path | None = None
    command: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """A study, spelled out.

    Attributes:
        recipe: as written.
        finetune: the training, with the study's root.
        pretexts: name of the recipe -> pretraining, without what is tested on.
        tests: title -> pictures.
    """

    recipe: StudyRecipe
    finetune: Recipe
    pretexts: dict[str, PretrainRecipe]
    tests: dict[str, list[Entry]]


def run_study(
    file: Path,
    changes: list[str],
    base: Path,
    out: Path,
    options: StudyOptions,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Pretrain, train from every start with every share of the labels, score, and compare.

    Args:
        file: recipe of the study; the recipes it names lie relative to it.
        changes: `key=value` each, as given to `--set`.
        base: folder that `root` starts from.
        out: where everything goes.
        options: resuming, parallel runs, the official test pictures.
        tell: is given one line per step.

    Returns:
        What is written to study.json.

    Raises:
        ConfigError: the recipes contradict each other or the protocol.
        InputError: data cannot be read.
        TrainingError: the folder is taken or holds another study; a training failed.
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
        if not _has_encoder(pretexts / name)
    }
    _run(todo, pretexts, base, options.jobs, tell)
    _check_unseen(plan, pretexts)
    starts = {t: s for t, s in recipe.starts.items() if t not in skipped}
    trainings: dict[str, Recipe] = {}
    for share, seed, title in product(recipe.fractions, recipe.seeds, starts):
        name = run_name(title, share, seed)
        trainings[name] = _training(plan.finetune, share, seed, starts[title], pretexts)
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


def plan_study(file: Path, changes: list[str], base: Path) -> Plan:
    """Read a study and the recipes that it names, and keep apart what must be.

    Raises:
        ConfigError: the recipes contradict each other or the protocol.
        InputError: data cannot be read.
    """
    recipe = load_tree(StudyRecipe, file, changes)
    root = [] if recipe.root is None else [f"data.root={json.dumps(recipe.root)}"]
    finetune = load_recipe(file.parent / recipe.finetune, root)
    if finetune.train.keep != "last" or finetune.decode.tune:
        raise ConfigError(
            f"{recipe.finetune}: a study scores the pictures that are held out, so nothing may be "
            "chosen on them. Set train.keep=last and decode.tune=false."
        )
    if finetune.init.from_model is not None or finetune.data.labelled < 1:
        raise ConfigError(
            f"{recipe.finetune}: init.from and data.labelled are what the study varies. Leave "
            "them away."
        )
    data = collect(finetune.data, base)
    held = {g for n, g in data.split.groups.items() if n not in data.split.parts["train"]}
    tests = {HELD_OUT: [data.entries[n] for n in data.split.parts["validation"]]}
    for test in recipe.tests:
        entries, _, _ = list_sets([test], base / finetune.data.root)
        tests[_title(test)] = list(entries.values())
    trained = {data.split.groups[n] for n in data.split.parts["train"]}
    tested = {e.group for entries in tests.values() for e in entries}
    both = min(tested & trained, default=None)
    if both is not None:
        raise ConfigError(f"tests: {both} is trained on as well. Take other pictures for one.")
    pretexts: dict[str, PretrainRecipe] = {}
    for start in recipe.starts.values():
        if start.pretext is not None:
            pretext = load_tree(PretrainRecipe, file.parent / start.pretext, root)
            wanted = _without(pretext, held | tested, base)
            name = Path(start.pretext).stem
            if pretexts.setdefault(name, wanted) != wanted:
                raise ConfigError(f"starts: two recipes are called {name!r}. Rename one.")
    for what, titles in (("starts", list(recipe.starts)), ("tests", list(tests))):
        folders = [slug(title) for title in titles]
        twice = next((f for f in folders if folders.count(f) > 1), None)
        if twice is not None:
            raise ConfigError(f"{what}: two titles give one folder, {twice!r}. Rename one.")
    return Plan(recipe, finetune, pretexts, tests)


def run_name(start: str, share: float, seed: int) -> str:
    """Return the name of a run folder.

    Example:
        >>> run_name("relative position", 0.1, 3)
        'relative-position-10-3'
    """
    return f"{slug(start)}-{share * 100:g}-{seed}"


def slug(title: str) -> str:
    """Return a title as the name of a file.

    Example:
        >>> slug("MoNuSeg: test"), slug("../x")
        ('MoNuSeg-test', 'x')
    """
    return re.sub(r"[^\w.+-]+", "-", title).strip(".-") or "unnamed"


def _title(test: SetConfig) -> str:
    return test.title or test.path


def _without(pretext: PretrainRecipe, groups: set[str], base: Path) -> PretrainRecipe:
    """Return a pretraining that leaves out the patients of `groups`, as far as it has them."""
    corpus = gather(pretext.data, base)
    mine = {origin.group for origin in corpus.origins.values()}
    exclude = tuple(sorted({*pretext.data.exclude, *(groups & mine)}))
    return pretext.model_copy(update={"data": pretext.data.model_copy(update={"exclude": exclude})})


def _training(
    finetune: Recipe, share: float, seed: int, start: StartConfig, pretexts: Path
) -> Recipe:
    """Return one of the trainings."""
    tree = finetune.model_dump(mode="json")
    tree["seed"] = seed
    tree["data"] |= {"labelled": share, "labelled_seed": seed}
    tree["init"] = {"from": None, "imagenet": "required" if start.imagenet else "never"}
    if start.pretext is not None:
        encoder = pretexts / Path(start.pretext).stem
        tree["init"]["from"] = Path(os.path.relpath(encoder)).as_posix()  # as people type it
    return Recipe.model_validate(tree)


def _check_unseen(plan: Plan, pretexts: Path) -> None:
    """Raise a `ConfigError` where a pretext has looked at what is tested on, by another name."""
    cards = [read_encoder_card(pretexts / name / "encoder") for name in plan.pretexts]
    for title, entries in plan.tests.items():
        for entry in entries if cards else ():
            sample = at_mpp(entry.read(), plan.finetune.data.mpp)
            for card in cards:
                if seen_pixels(card, [sample]) is not None:
                    raise ConfigError(
                        f"{card.name} has looked at {sample.name} of {title!r} under another name. "
                        "Take it out of the pretext's data, and pretrain again."
                    )


def _check_same(run: Path, training: Recipe) -> None:
    """Raise a `TrainingError` where a run was begun as something else."""
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
            f"{run}: was begun with another recipe ({', '.join(changed)}). Give the start another "
            "title, or choose another -o."
        )


def _unreachable(plan: Plan) -> dict[str, str]:
    """Return the starts that cannot be had here, and why."""
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
    """Run recipes one after the other, or `jobs` at a time in processes of their own."""
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


def _has_encoder(run: Path) -> bool:
    return (run / "encoder" / "encoder.json").is_file()


def _begin(out: Path, plan: Plan, resume: bool) -> None:
    """Write what is asked, or check that what is resumed was asked alike.

    More starts, shares, seeds and tests may be asked for later; what is trained may not change.
    """
    file = out / "study.yaml"
    if resume != file.exists():
        raise TrainingError(
            f"{out}: holds a study already. Go on with --resume, or choose another -o."
            if file.exists()
            else f"{out}: holds no study to resume. Leave --resume away."
        )
    if not resume and out.exists() and any(out.iterdir()):
        raise TrainingError(f"{out}: not empty, and no study. Choose another -o.")
    if resume and (out / "finetune.yaml").exists():
        changed = differences(load_recipe(out / "finetune.yaml"), plan.finetune)
        if changed:
            raise TrainingError(
                f"{out}: was begun with another training ({', '.join(changed)}). Resume it with "
                "the same one, or choose another -o."
            )
    before = {_title(s): s for s in load_tree(StudyRecipe, file).tests} if resume else {}
    other = next((_title(s) for s in plan.recipe.tests if before.get(_title(s), s) != s), None)
    if other is not None:
        raise TrainingError(
            f"{out}: the test {other!r} was other data before. Give it another title, or choose "
            "another -o."
        )
    for name, pretext in plan.pretexts.items():
        begun = out / "pretexts" / name / "recipe.yaml"
        changed = differences(load_tree(PretrainRecipe, begun), pretext) if begun.exists() else []
        if changed:
            raise TrainingError(
                f"{out}: the pretext {name} was begun with another recipe ({', '.join(changed)}). "
                "Resume it with the same one, or give the new one another name."
            )
    write_text(file, dump_recipe(plan.recipe))
    write_text(out / "finetune.yaml", dump_recipe(plan.finetune))


def _score(plan: Plan, run: Path, out: Path, options: StudyOptions, official: bool) -> None:
    """Score a finished run on the tests, the official ones or the others; its own scores stay."""
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
    """Return the files (and hashes) of the model that a result is of; None where there is none."""
    file = folder / "metrics.json"
    try:
        return json.loads(read_text(file))["about"]["model_files"] if file.exists() else None
    except (ValueError, LookupError, TypeError):
        return None


def summarise(plan: Plan, out: Path, skipped: dict[str, str]) -> dict[str, Any]:
    """Return the table of a study, as far as its runs are scored.

    A gain is the mean difference in AJI from the first start, over pictures and seeds; its
    interval draws seeds and patients.
    """
    recipe = plan.recipe
    tables: dict[str, Any] = {}
    first = next(iter(recipe.starts))
    for title, entries in plan.tests.items():
        folder = out / "tests" / slug(title)
        rows: dict[str, Any] = {}
        for share in sorted(recipe.fractions):
            found: dict[str, list[dict[str, dict[str, float]]]] = {}
            for start in recipe.starts:
                names = [folder / run_name(start, share, seed) for seed in recipe.seeds]
                if all((name / "metrics.json").exists() for name in names):
                    scores = [read_scores(name) for name in names]
                    found[start] = [s.metrics for s in scores]
                    groups = scores[0].groups
            rows[f"{share * 100:g}"] = {
                start: _row(metrics, None if start == first else found.get(first), groups)
                for start, metrics in found.items()
            }
        tables[title] = {"pictures": len(entries), "labelled": rows}
    return {
        "study": recipe.name,
        "about": recipe.about,
        "finetune": plan.finetune.name,
        "steps": plan.finetune.train.steps,
        "batch": plan.finetune.train.batch,
        "crop_px": plan.finetune.train.crop_px,
        "seeds": list(recipe.seeds),
        "starts": list(recipe.starts),
        "skipped": skipped,
        "pretexts": {name: _pretext(out / "pretexts" / name) for name in plan.pretexts},
        "tests": tables,
    }


def _row(
    metrics: list[dict[str, dict[str, float]]],
    first: list[dict[str, dict[str, float]]] | None,
    groups: dict[str, str],
) -> dict[str, Any]:
    """Return the scores of one start: per metric mean, SD over seeds; the gain in AJI."""
    row: dict[str, Any] = {}
    for name in METRICS:
        means = [_mean(m[name]) for m in metrics]
        sd = float(np.std(means, ddof=1)) if len(means) > 1 else None
        row[name] = {"mean": float(np.mean(means)), "sd": sd, "seeds": means}
    if first is not None:
        pairs = [(a["aji"], b["aji"]) for a, b in zip(first, metrics, strict=True)]
        row["gain"] = asdict(paired_over_seeds(pairs, groups))
    return row


def _mean(values: dict[str, float]) -> float:
    """Return the mean over pictures; NaN where none has the metric."""
    known = [value for value in values.values() if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _pretext(run: Path) -> dict[str, Any]:
    """Return how a pretraining went."""
    if not _has_encoder(run):
        return {}
    card = read_encoder_card(run / "encoder")
    rows = RunFolder(run).numbers()
    return {
        "task": card.task,
        "metrics": card.metrics,
        "minutes": round(sum(row["seconds"] for row in rows) / 60, 1),
        "arguments": card.recipe["pretext"]["arguments"],
        "sha256": next(iter(card.files.values())),
        "progress": [
            {k: v for k, v in row.items() if k == "step" or k.startswith("val_")} for row in rows
        ],
    }


def draw_efficiency(summary: dict[str, Any], path: Path) -> None:
    """Draw AJI over the share of the labels: a panel per test, a line per start."""
    from matplotlib.figure import Figure  # no pyplot: no global state, no window

    tests = summary["tests"]
    figure = Figure(figsize=(4.4 * len(tests), 4.2), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(tests)))
    colours = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
    markers = "osD^vPX"
    for axes, (title, test) in zip(panels, tests.items(), strict=True):
        for i, start in enumerate(summary["starts"]):
            points = [
                (float(share), row[start]["aji"]["mean"], row[start]["aji"]["sd"] or 0.0)
                for share, row in test["labelled"].items()
                if start in row
            ]
            if points:
                x, y, spread = zip(*points, strict=True)
                moved = np.array(x) * 1.03 ** (i - len(summary["starts"]) / 2)  # bars side by side
                look = {"color": colours[i % 7], "marker": markers[i % 7]}
                axes.errorbar(moved, y, spread, capsize=2, label=start, **look)
        shares = sorted({float(share) for share in test["labelled"]})
        axes.set(xscale="log", xlabel="labelled pictures, %", ylabel="AJI")
        axes.set_title(f"{title}, {test['pictures']} pictures", fontsize=10)
        axes.set_xticks(shares, [f"{share:g}" for share in shares])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)

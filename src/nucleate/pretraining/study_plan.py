"""Plan a study: starts, fractions of labels, seeds, tests."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from nucleate.config import Recipe, SetConfig, load_recipe
from nucleate.datasets.base import Entry
from nucleate.datasets.loading import collect, list_sets
from nucleate.errors import ConfigError
from nucleate.pretraining.corpus import gather
from nucleate.pretraining.recipe import PretrainRecipe, StartConfig, StudyRecipe
from nucleate.trees import load_tree

HELD_OUT = "held-out images"


@dataclass(frozen=True, slots=True)
class StudyOptions:
    """Options of running a study.

    Attributes:
        resume: whether to continue the study in the folder; finished runs are kept.
        jobs: number of parallel trainings.
        final: whether to score the official test images too.
        ledger: CSV file that logs each use of them; None writes no file.
        command: command that repeats the study, for the summary.
    """

    resume: bool = False
    jobs: int = 1
    final: bool = False
    ledger: Path | None = None
    command: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """A study with all its recipes and images.

    Attributes:
        recipe: recipe of the study.
        finetune: recipe of the training, with the study's root.
        pretexts: name of the recipe -> pretraining, without test images.
        tests: title -> images.
    """

    recipe: StudyRecipe
    finetune: Recipe
    pretexts: dict[str, PretrainRecipe]
    tests: dict[str, list[Entry]]


def plan_study(file: Path, changes: list[str], base: Path) -> Plan:
    """Read a study and its recipes, and check that tests, training and pretexts are disjoint.

    Raises:
        ConfigError: the recipes contradict each other or the protocol.
        InputError: data cannot be read.
    """
    recipe = load_tree(StudyRecipe, file, changes)
    root = [] if recipe.root is None else [f"data.root={json.dumps(recipe.root)}"]
    finetune = load_recipe(file.parent / recipe.finetune, root)
    if finetune.train.keep != "last" or finetune.decode.tune:
        raise ConfigError(
            f"{recipe.finetune}: a study scores the held-out images, so that they must not be used "
            "for selection. Set train.keep=last and decode.tune=false."
        )
    if finetune.init.from_model is not None or finetune.data.labelled < 1:
        raise ConfigError(
            f"{recipe.finetune}: the study varies init.from and data.labelled. Omit them."
        )
    data = collect(finetune.data, base)
    held = {g for n, g in data.split.groups.items() if n not in data.split.parts["train"]}
    tests = {HELD_OUT: [data.entries[n] for n in data.split.parts["validation"]]}
    for test in recipe.tests:
        entries, _, _ = list_sets([test], base / finetune.data.root)
        tests[test_title(test)] = list(entries.values())
    trained = {data.split.groups[n] for n in data.split.parts["train"]}
    tested = {e.group for entries in tests.values() for e in entries}
    both = min(tested & trained, default=None)
    if both is not None:
        raise ConfigError(
            f"tests: {both} is also used for training. Use other images for the test."
        )
    pretexts: dict[str, PretrainRecipe] = {}
    for start in recipe.starts.values():
        if start.pretext is not None:
            pretext = load_tree(PretrainRecipe, file.parent / start.pretext, root)
            wanted = _without(pretext, held | tested, base)
            name = Path(start.pretext).stem
            if pretexts.setdefault(name, wanted) != wanted:
                raise ConfigError(f"starts: two recipes have the name {name!r}. Rename one.")
    for what, titles in (("starts", list(recipe.starts)), ("tests", list(tests))):
        folders = [slug(title) for title in titles]
        twice = next((f for f in folders if folders.count(f) > 1), None)
        if twice is not None:
            raise ConfigError(f"{what}: two titles give the same folder: {twice!r}. Rename one.")
    return Plan(recipe, finetune, pretexts, tests)


def run_name(start: str, share: float, seed: int) -> str:
    """Return the name of a run folder.

    Example:
        >>> run_name("relative position", 0.1, 3)
        'relative-position-10-3'
    """
    return f"{slug(start)}-{share * 100:g}-{seed}"


def slug(title: str) -> str:
    """Return a file name made from a title.

    Example:
        >>> slug("MoNuSeg: test"), slug("../x")
        ('MoNuSeg-test', 'x')
    """
    return re.sub(r"[^\w.+-]+", "-", title).strip(".-") or "unnamed"


def test_title(test: SetConfig) -> str:
    """Return the title of a test set."""
    return test.title or test.path


def _without(pretext: PretrainRecipe, groups: set[str], base: Path) -> PretrainRecipe:
    """Return a pretraining that also excludes those of its patients that are in `groups`."""
    corpus = gather(pretext.data, base)
    mine = {origin.group for origin in corpus.origins.values()}
    exclude = tuple(sorted({*pretext.data.exclude, *(groups & mine)}))
    return pretext.model_copy(update={"data": pretext.data.model_copy(update={"exclude": exclude})})


def training_recipe(
    finetune: Recipe, share: float, seed: int, start: StartConfig, pretexts: Path
) -> Recipe:
    """Return the recipe of one training of a study."""
    tree = finetune.model_dump(mode="json")
    tree["seed"] = seed
    tree["data"] |= {"labelled": share, "labelled_seed": seed}
    tree["init"] = {"from": None, "imagenet": "required" if start.imagenet else "never"}
    if start.pretext is not None:
        encoder = pretexts / Path(start.pretext).stem
        tree["init"]["from"] = Path(os.path.relpath(encoder)).as_posix()  # as users type it
    return Recipe.model_validate(tree)


def has_encoder(run: Path) -> bool:
    """Return whether a pretraining is finished."""
    return (run / "encoder" / "encoder.json").is_file()

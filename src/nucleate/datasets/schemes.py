"""Split schemes: k-fold, leave one organ or patient out, and the splits of publications."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nucleate.datasets.base import Entry
from nucleate.datasets.splits import (
    Split,
    bare_name,
    make_split,
    refuse_test_images,
)
from nucleate.errors import ConfigError, InputError, pick

# The 6 validation images of the published CryoNuSeg notebook (Histology-NucleiSeg). The notebook
# has 28 images and trains on the other 22; the two listed below are absent from its copy of the
# data, and therefore in neither part.
_NOTEBOOK_VALIDATION = (
    "Human_Larynx_03", "Human_AdrenalGland_02", "Human_Pleura_02", "Human_Testes_01",
    "Human_AdrenalGland_03", "Human_Mediastinum_01",
)  # fmt: skip
_NOTEBOOK_ABSENT = ("Human_LymphNodes_03", "Human_ThyroidGland_01")
NUINSSEG_TILES, NUINSSEG_SEED = 665, 19


@dataclass(frozen=True, slots=True)
class SchemeOptions:
    """Parameters of the schemes.

    Attributes:
        folds: number of folds of `kfold`.
        validation: share of the non-test images that is held out for validation.
        seed: seed of every draw.
    """

    folds: int = 5
    validation: float = 0.17
    seed: int = 1


def kfold(entries: list[Entry], options: SchemeOptions) -> dict[str, Split]:
    """Split into folds of whole groups, with similar numbers of images and organs spread evenly."""
    groups = _by_group(entries)
    if not 2 <= options.folds <= len(groups):
        raise ConfigError(
            f"{options.folds} folds are not possible: the data set has {len(groups)} groups "
            f"(patients). Choose 2 to {len(groups)} folds."
        )
    order = random.Random(options.seed)  # noqa: S311  (stable across versions and machines)
    shuffled = sorted(groups)
    order.shuffle(shuffled)
    shuffled.sort(key=lambda g: (groups[g][0].organ or "", -len(groups[g])))  # stable
    folds: list[list[str]] = [[] for _ in range(options.folds)]
    for group in shuffled:
        organ = groups[group][0].organ
        sizes = [
            (
                sum(groups[g][0].organ == organ for g in fold),
                sum(len(groups[g]) for g in fold),
                i,
            )
            for i, fold in enumerate(folds)
        ]
        folds[min(sizes)[2]].append(group)
    return {f"fold-{i + 1}": _test_on(entries, set(fold), options) for i, fold in enumerate(folds)}


def leave_one_organ_out(entries: list[Entry], options: SchemeOptions) -> dict[str, Split]:
    """Return one split per organ, which tests on that organ and trains on the others."""
    unknown = next((e.name for e in entries if e.organ is None), None)
    if unknown is not None:
        raise ConfigError(
            f"{unknown}: states no organ, so no organ can be left out. Use another scheme."
        )
    organs: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        organs[str(entry.organ)].add(entry.group)
    for a in organs:
        shared = next((g for b in organs if b > a for g in organs[a] & organs[b]), None)
        if shared is not None:
            raise InputError(
                f"Group {shared!r} has images of several organs, so that leaving one organ out "
                "would divide it. Change the option group."
            )
    return _each(entries, organs, options)


def leave_one_patient_out(entries: list[Entry], options: SchemeOptions) -> dict[str, Split]:
    """Return one split per group, which tests on that group and trains on the others."""
    return _each(entries, {group: {group} for group in sorted(_by_group(entries))}, options)


def histology_nucleiseg(entries: list[Entry], options: SchemeOptions) -> dict[str, Split]:
    """Return the split of Histology-NucleiSeg's notebook, recovered from its output."""
    names = {bare_name(e.name): e for e in entries}
    missing = [name for name in _NOTEBOOK_VALIDATION if name not in names]
    if missing or len(entries) != 30:
        raise ConfigError(
            "The scheme histology-nucleiseg splits the 30 images of CryoNuSeg only. Use another "
            "scheme."
        )
    rest = [e.name for n, e in names.items() if n not in (*_NOTEBOOK_VALIDATION, *_NOTEBOOK_ABSENT)]
    parts = {
        "train": tuple(sorted(rest)),
        "validation": tuple(names[n].name for n in _NOTEBOOK_VALIDATION),
    }
    return {
        "histology-nucleiseg": Split(
            parts, {e.name: e.group for n, e in names.items() if n not in _NOTEBOOK_ABSENT}
        )
    }


def histology_nucleiseg_tested(entries: list[Entry], options: SchemeOptions) -> dict[str, Split]:
    """Return the split `histology-nucleiseg` with its six validation images as test set.

    Histology-NucleiSeg reports scores on its validation images. Do not tune on them.
    """
    published = histology_nucleiseg(entries, options)["histology-nucleiseg"]
    train = set(published.parts["train"])
    drawn = make_split([e for e in entries if e.name in train], options.validation, options.seed)
    parts = {**drawn.parts, "test": tuple(sorted(published.parts["validation"]))}
    return {"histology-nucleiseg-tested": Split(parts, published.groups)}


def nuinsseg(entries: list[Entry], options: SchemeOptions) -> dict[str, Split]:
    """Return NuInsSeg's published folds: scikit-learn's KFold(5, shuffle=True, random_state=19).

    The publication does not fix the order of the 665 names; here they are in order of their Unicode
    code points. The folds divide slides: report leave-one-organ-out as well, which does not.
    """
    if len(entries) != NUINSSEG_TILES:
        raise ConfigError(
            f"The scheme nuinsseg splits the {NUINSSEG_TILES} tiles of NuInsSeg, but the data set "
            f"has {len(entries)}. Complete the data set."
        )
    ordered = sorted(entries, key=lambda e: bare_name(e.name))
    found = {}
    for i, test in enumerate(shuffled_folds(len(ordered), 5, NUINSSEG_SEED)):
        chosen = {ordered[n].name for n in test}
        rest = [e for e in entries if e.name not in chosen]
        drawn = make_split(
            [Entry(e.name, e.name, e.read, e.organ) for e in rest], options.validation, options.seed
        )
        parts = {**drawn.parts, "test": tuple(sorted(chosen))}
        mixes = "published over tiles; tiles of one slide are in training and in test"
        found[f"fold-{i + 1}"] = Split(parts, {e.name: e.group for e in entries}, mixes)
    return found


def shuffled_folds(count: int, folds: int, seed: int) -> list[list[int]]:
    """Return the test indices of each fold, as in scikit-learn's shuffled KFold.

    Example:
        >>> shuffled_folds(5, 2, 0)
        [[0, 1, 2], [3, 4]]
    """
    order = np.arange(count)
    np.random.RandomState(seed).shuffle(order)
    sizes = np.full(folds, count // folds)
    sizes[: count % folds] += 1
    ends = np.cumsum(sizes)
    return [sorted(order[e - n : e].tolist()) for e, n in zip(ends, sizes, strict=True)]


def official(entries: list[Entry], options: SchemeOptions) -> dict[str, Split]:
    """Return the published parts: training and test folders, or PanNuke's folds in turn."""
    homes = {e.name: bare_name(e.name).split("/")[0].split("_")[0].lower() for e in entries}
    folds = sorted({home for home in homes.values() if home.startswith("fold")})
    if len(folds) > 1:
        by_fold = {f: {e.group for e in entries if homes[e.name] == f} for f in folds}
        return _each(entries, by_fold, options)
    test = {e.group for e in entries if homes[e.name] == "test" or e.test_only}
    if not test or len(test) == len(_by_group(entries)):
        raise ConfigError(
            "The data set has no official test part here. Name the folder that contains both "
            "parts, or use another scheme."
        )
    return {"official": _test_on(entries, test, options)}


_MAY_TEST = (
    "official",
    "histology-nucleiseg",
    "histology-nucleiseg-tested",
)  # schemes that put test-only images in the test part


def split_by(scheme: str, entries: list[Entry], options: SchemeOptions) -> dict[str, Split]:
    """Return the splits of a named scheme.

    Raises:
        ConfigError: no such scheme, or it does not suit the data.
        InputError: training would use official test images.
    """
    make = pick(SCHEMES, scheme, "scheme")
    if scheme not in _MAY_TEST:
        refuse_test_images(entries)
    return make(entries, options)  # type: ignore[no-any-return]


SCHEMES: dict[str, Callable[[list[Entry], SchemeOptions], dict[str, Split]]] = {
    "kfold": kfold,
    "leave-one-organ-out": leave_one_organ_out,
    "leave-one-patient-out": leave_one_patient_out,
    "official": official,
    "histology-nucleiseg": histology_nucleiseg,
    "histology-nucleiseg-tested": histology_nucleiseg_tested,
    "nuinsseg": nuinsseg,
}


def _each(
    entries: list[Entry], homes: dict[str, set[str]], options: SchemeOptions
) -> dict[str, Split]:
    if len(homes) < 2:
        raise ConfigError("There is only one group, so no training data remain. Add data.")
    found: dict[str, Split] = {}
    for name, groups in sorted(homes.items()):
        file = name.replace(" ", "-").replace("/", "-")
        if file in found:
            raise ConfigError(
                f"Two splits would have the name {file!r}. Rename one of the organs or patients."
            )
        found[file] = _test_on(entries, groups, options)
    return found


def _test_on(entries: list[Entry], groups: set[str], options: SchemeOptions) -> Split:
    """Return the split that tests on `groups` and holds out a part of the others."""
    rest = [e for e in entries if e.group not in groups]
    owners = {e.name: e.group for e in entries}
    test = tuple(e.name for e in entries if e.group in groups)
    if len(_by_group(rest)) < 2:
        raise ConfigError(
            "Only one group (patient) remains beside the test part, too few for training and "
            "validation. Use fewer folds, or add data."
        )
    drawn = make_split(rest, options.validation, options.seed)
    return Split({**drawn.parts, "test": test}, owners)


def _by_group(entries: list[Entry]) -> dict[str, list[Entry]]:
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in sorted(entries, key=lambda e: e.name):
        groups[entry.group].append(entry)
    return groups

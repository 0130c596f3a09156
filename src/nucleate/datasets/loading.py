"""Recipe → samples: training and held-out images, read into memory."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nucleate.config import DataConfig, SetConfig
from nucleate.datasets import DATASETS
from nucleate.datasets.base import Entry, sample_doubts
from nucleate.datasets.resize import resized
from nucleate.datasets.schemes import SchemeOptions, split_by
from nucleate.datasets.splits import Split, make_split, read_split, refuse_test_images
from nucleate.errors import ConfigError, InputError, nearest, pick
from nucleate.geometry.labels import grown
from nucleate.resolution import HOW_TO_STATE_MPP, check_mpp, grid_ratio, no_mpp
from nucleate.types import Sample


@dataclass(frozen=True, slots=True)
class Collection:
    """All images of a recipe, split; names are prefixed by the number of their set.

    Attributes:
        entries: qualified name -> entry.
        split: training and held-out images.
        sources: one description per set, for the model card.
        sets: sets of the recipe, in order.
    """

    entries: dict[str, Entry]
    split: Split
    sources: list[dict[str, Any]]
    sets: tuple[SetConfig, ...] = ()

    def read(self, part: str, mpp: float) -> list[Sample]:
        """Read the samples of a part of the split, resampled to `mpp`.

        Training samples get the weight of their set, and nuclei grown as it states.

        Raises:
            InputError: an image cannot be read, has no labels, or has no resolution.
        """
        samples = [at_mpp(self.entries[name].read(), mpp) for name in self.split.parts[part]]
        for sample in samples:
            if sample.labels is None:
                raise InputError(f"{sample.name}: has no labels. Add labels, or remove the image.")
            for doubt in sample_doubts(sample):
                warnings.warn(f"{sample.name}: {doubt}", stacklevel=2)
        if part != "train" or not self.sets:
            return samples
        owners = [self.sets[int(name.partition(":")[0])] for name in self.split.parts[part]]
        return [
            replace(_grown(sample, owner.grow_px), weight=owner.weight)
            for sample, owner in zip(samples, owners, strict=True)
        ]


def collect(config: DataConfig, base: Path) -> Collection:
    """List the images of a recipe and split them, without reading them.

    Args:
        config: the recipe's data.
        base: folder that relative paths start from.

    Raises:
        ConfigError: no such data set or option, or a split that names unknown images.
        InputError: a folder is missing or wrong; training would use an official test image; the
            split has other groups than the data.
    """
    entries, may_validate, sources = list_sets(config.sets, base / config.root)
    if config.scheme is not None:
        split = _published(config, list(entries.values()))
    elif config.split is None:
        refuse_test_images(list(entries.values()))
        split = _draw(list(entries.values()), may_validate, config)
    else:
        split = _read_fitting(base / config.split, entries)
    for part in ("train", "validation"):
        if not split.parts.get(part):
            raise ConfigError(f"The split has no images in the part {part}. Create it again.")
    if config.labelled < 1:
        split = with_fewer(split, config.labelled, config.labelled_seed)
    return Collection(entries, split, sources, tuple(config.sets))


def with_fewer(split: Split, share: float, seed: int) -> Split:
    """Reduce the training images of a split to a share, rounded, at least one image.

    With the same seed, a larger share contains the images of a smaller one.

    Example:
        >>> four = Split({"train": ("a", "b", "c", "d")}, {n: n for n in "abcd"})
        >>> len(with_fewer(four, 0.5, 1).parts["train"])
        2
    """
    names = sorted(split.parts["train"])
    random.Random(seed).shuffle(names)  # noqa: S311  (not for secrets; stable across versions)
    kept = set(names[: max(1, round(share * len(names)))])
    parts = {**split.parts, "train": tuple(n for n in split.parts["train"] if n in kept)}
    named = {name for names in parts.values() for name in names}
    return Split(parts, {n: g for n, g in split.groups.items() if n in named}, split.mixes)


def list_sets(
    sets: Sequence[SetConfig], root: Path
) -> tuple[dict[str, Entry], list[Entry], list[dict[str, Any]]]:
    """List the images of data sets.

    Returns:
        Qualified name -> entry; the entries that may be held out; one description per set.

    Raises:
        ConfigError: no such data set or option.
        InputError: a folder is missing or wrong.
    """
    entries: dict[str, Entry] = {}
    may_validate: list[Entry] = []
    sources: list[dict[str, Any]] = []
    for number, wanted in enumerate(sets):
        dataset = pick(DATASETS, wanted.name, "data set")
        found = list_entries(wanted.name, root / wanted.path, wanted.options)
        title = wanted.title or dataset.card.title
        for entry in found:
            qualified = replace(
                entry, name=f"{number}:{entry.name}", group=_group(entry, wanted.name, title)
            )
            entries[qualified.name] = qualified
            if wanted.validate_on:
                may_validate.append(qualified)
        licence = wanted.licence or dataset.card.licence
        citation = wanted.citation or dataset.card.citation
        sources.append(describe_set(title, wanted.name, wanted.path, len(found), licence, citation))
    return entries, may_validate, sources


def describe_set(
    title: str, reader: str, path: str, images: int, licence: str, citation: str
) -> dict[str, Any]:
    """Return the description of a training data set for the model card."""
    return {
        "name": title,
        "reader": reader,
        "part": Path(path).name,
        "images": images,
        "licence": licence,
        "citation": citation,
    }


def _published(config: DataConfig, entries: list[Entry]) -> Split:
    """Return the only split of a published scheme."""
    apart = next((s.path for s in config.sets if not s.validate_on), None)
    if apart is not None:
        raise ConfigError(
            f"data.scheme splits every set, but {apart} has validate_on: false. Omit one of the "
            "two keys."
        )
    options = SchemeOptions(validation=config.validation, seed=config.split_seed)
    splits = split_by(str(config.scheme), entries, options)
    if len(splits) != 1:
        raise ConfigError(
            f"data.scheme: {config.scheme} gives {len(splits)} splits. Use nucleate crossval, or "
            "write them with 'nucleate data split' and set data.split to one of the files."
        )
    split = next(iter(splits.values()))
    refuse_test_images([e for e in entries if e.name not in split.parts.get("test", ())])
    return split


def _read_fitting(path: Path, entries: dict[str, Entry]) -> Split:
    """Read a split and check names, groups and official test images against the data."""
    split = read_split(path)
    parts = {name: part for part, names in split.parts.items() for name in names}
    held = {split.groups[name] for name, part in parts.items() if part != "train"}
    left_out = {name for name, e in entries.items() if name not in parts and e.group in held}
    strange = sorted((parts.keys() ^ entries.keys()) - left_out)
    if strange:
        raise ConfigError(
            f"{path}: {strange[0]!r} is missing from the split or from the data. Create the split "
            "again for this data set."
        )
    # check the groups from the readers, not those claimed by the file
    Split(split.parts, {e.name: e.group for e in entries.values()}, split.mixes)
    other = next((n for n in parts if split.groups[n] != entries[n].group), None)
    if other is not None:
        raise InputError(
            f"{path}: assigns {other!r} to group {split.groups[other]!r}, but the data set states "
            f"{entries[other].group!r}. Set the same options as for the split, or create the split "
            "again."
        )
    refuse_test_images([entries[n] for n, part in parts.items() if part != "test"])
    return split


OWN_DATA = ("folder", "coco", "qupath")  # readers whose groups are the user's own names


def _group(entry: Entry, reader: str, title: str) -> str:
    """Return the group of an entry, unique across data sets; TCGA patients are shared by all."""
    own = reader in OWN_DATA and not entry.group.startswith("TCGA-")
    return f"{title}:{entry.group}" if own else entry.group


def list_entries(name: str, root: str | Path, options: dict[str, Any] | None = None) -> list[Entry]:
    """List the entries of a data set: name, patient, organ; pixels are read on request.

    Args:
        name: name of the reader, as in `nucleate data list`.
        root: folder or zip file of the data set.
        options: options of the reader, for instance `mpp`, `group`, `annotation`.

    Raises:
        ConfigError: no such data set or option.
        InputError: the folder is missing or wrong.
    """
    import inspect

    options = options or {}
    dataset = pick(DATASETS, name, "data set")
    known = [key for key in inspect.signature(dataset.entries).parameters if key != "root"]
    for key in options:
        if key not in known:
            raise ConfigError(f"The data set {name!r} has no option {key!r}. {nearest(key, known)}")
    if options.get("mpp") is not None:
        check_mpp(options["mpp"])
    for key in ("annotation", "annotations", "group", "mpp_table"):
        if not isinstance(options.get(key), str | None):
            raise ConfigError(f"{key} = {options[key]!r}: must be text. Put it in quotes.")
    if name == "folder":
        for key in ("only", "classes"):
            given = options.get(key)
            if given is not None and not (
                isinstance(given, list | tuple) and all(isinstance(text, str) for text in given)
            ):
                raise ConfigError(f"{key} = {given!r}: must be a list of names, as in [a, b].")
    return dataset.entries(Path(root), **options)  # type: ignore[no-any-return]


def at_mpp(sample: Sample, mpp: float) -> Sample:
    """Resample a sample to `mpp`; within 5 % it stays unchanged.

    Labels are resampled by nearest neighbour.

    Raises:
        InputError: the sample has no resolution.
    """
    if sample.mpp is None:
        more = ", or in a recipe as the option mpp of its data set"
        raise no_mpp(sample.name, remedy=HOW_TO_STATE_MPP + more)
    ratio = grid_ratio(sample.mpp, mpp)
    if ratio == 1.0:
        return sample
    height, width = sample.image.shape[:2]
    size = max(1, round(height * ratio)), max(1, round(width * ratio))
    return resized(sample, *size, mpp, (ratio, ratio))


def _grown(sample: Sample, by_px: float) -> Sample:
    """Grow the nuclei of a sample by `by_px` pixels, or shrink them if negative."""
    if sample.labels is None or by_px == 0:
        return sample
    return replace(sample, labels=grown(sample.labels, by_px))


def _draw(everyone: list[Entry], may_validate: list[Entry], config: DataConfig) -> Split:
    """Hold out patients of the sets that allow it; the other groups are training data."""
    if not may_validate:
        raise ConfigError(
            "data.sets: no set has validate_on: true, so no image can be held out. Set it for "
            "at least one set."
        )
    drawn = make_split(may_validate, config.validation, config.split_seed)
    held = {drawn.groups[name] for name in drawn.parts["validation"]}
    return Split(
        parts={
            "train": tuple(e.name for e in everyone if e.group not in held),
            "validation": drawn.parts["validation"],
        },
        groups={
            e.name: e.group
            for e in everyone
            if e.group not in held or e.name in drawn.parts["validation"]
        },
    )

"""Split files: training, validation and test images, with a hash; groups are never divided."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nucleate.errors import ConfigError, InputError
from nucleate.files import digest_of, read_text, write_text

PARTS = ("train", "validation", "test")


def bare_name(name: str) -> str:
    """Remove the number of its set in a recipe from an image's name.

    Example:
        >>> bare_name("0:Train/train_6"), bare_name("scan:2")
        ('Train/train_6', 'scan:2')
    """
    number, colon, rest = name.partition(":")
    return rest if colon and number.isdecimal() else name


def file_names(images: Iterable[str]) -> dict[str, str]:
    """Return image -> file name, with the number of its set only if needed for uniqueness.

    Raises:
        ConfigError: two files would have the same name.

    Example:
        >>> file_names(["0:a/b", "1:c"])
        {'0:a/b': 'a_b', '1:c': 'c'}
    """
    names = list(images)
    bare = [bare_name(name) for name in names]
    shown = bare if len(set(bare)) == len(bare) else names
    files = [name.replace("/", "_").replace(":", "_") for name in shown]
    if len(set(files)) < len(files):
        twice = next(file for file in files if files.count(file) > 1)
        raise ConfigError(
            f"Two predictions would have the name {twice!r}. Rename one of the images."
        )
    return dict(zip(names, files, strict=True))


@dataclass(frozen=True, slots=True)
class Split:
    """Names per part, and the group of every name.

    Attributes:
        parts: part name -> names of images.
        groups: name of an image -> its patient or slide.
        mixes: why groups may be in two parts, for published splits; else empty.

    Raises:
        InputError: an image is in two parts, has no group, or a group is in two parts.

    Example:
        >>> Split({"train": ("a",), "validation": ("b",)}, {"a": "p1", "b": "p1"})
        Traceback (most recent call last):
        nucleate.errors.InputError: The split has group 'p1' in both train and validation. ...
    """

    parts: dict[str, tuple[str, ...]]
    groups: dict[str, str]
    mixes: str = ""

    def __post_init__(self) -> None:
        home: dict[str, str] = {}
        seen: set[str] = set()
        for part, names in self.parts.items():
            if part not in PARTS:
                raise InputError(
                    f"A split has the parts {', '.join(PARTS)}; {part!r} is not one of them."
                )
            for name in names:
                if name in seen:
                    raise InputError(f"The split lists {name!r} twice. Remove one.")
                seen.add(name)
                if name not in self.groups:
                    raise InputError(f"The split has no group for {name!r}. Create it again.")
                other = home.setdefault(self.groups[name], part)
                if other != part and not self.mixes:
                    raise InputError(
                        f"The split has group {self.groups[name]!r} in both {other} and {part}. "
                        "Images of one patient must be in one part. Create the split again."
                    )

    def names(self) -> set[str]:
        """Return all names, with and without the number of their set in a recipe."""
        named = {name for names in self.parts.values() for name in names}
        return named | set(map(bare_name, named))

    @property
    def digest(self) -> str:
        """SHA-256 of parts and groups, independent of the order of names."""
        content = {
            "parts": {part: sorted(names) for part, names in sorted(self.parts.items())},
            "groups": dict(sorted(self.groups.items())),
        } | ({"mixes": self.mixes} if self.mixes else {})
        return digest_of(content)


class Member(Protocol):
    """The properties of an image that splitting needs."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def group(self) -> str: ...  # noqa: D102
    @property
    def organ(self) -> str | None: ...  # noqa: D102
    @property
    def test_only(self) -> bool: ...  # noqa: D102


def make_split(entries: Sequence[Member], validation: float, seed: int) -> Split:
    """Hold out whole groups for validation, spread evenly over organs.

    Args:
        entries: all images available for training.
        validation: share of the images to hold out, 0 < share < 1.
        seed: seed of the shuffle; the same seed and names give the same split on every machine.

    Returns:
        A split into `train` and `validation`; both contain at least one group.

    Raises:
        ConfigError: the share is out of range, or there are fewer than two groups.
    """
    if not 0 < validation < 1:
        raise ConfigError(f"The share for validation must be between 0 and 1, not {validation}.")
    groups: dict[str, list[Member]] = defaultdict(list)
    for entry in sorted(entries, key=lambda item: item.name):
        groups[entry.group].append(entry)
    if len(groups) < 2:
        raise ConfigError(
            "A split needs at least two groups (patients), but the data set has one. Add data."
        )
    by_organ: dict[str, list[str]] = defaultdict(list)
    for group, members in sorted(groups.items()):
        by_organ[members[0].organ or ""].append(group)
    order = random.Random(seed)  # noqa: S311  (not for secrets; stable across versions and machines)
    for organ in sorted(by_organ):
        order.shuffle(by_organ[organ])
    target = validation * len(entries)
    held: list[str] = []
    count = 0
    turn = 0
    while count < target and len(held) < len(groups) - 1:
        candidates = [
            (turn / len(names), organ)
            for organ, names in sorted(by_organ.items())
            if turn < len(names)
        ]
        if not candidates:
            break
        for _, organ in sorted(candidates):
            if count >= target or len(held) >= len(groups) - 1:
                break
            held.append(by_organ[organ][turn])
            count += len(groups[by_organ[organ][turn]])
        turn += 1
    chosen = set(held)
    return Split(
        parts={
            "train": tuple(e.name for e in entries if e.group not in chosen),
            "validation": tuple(e.name for e in entries if e.group in chosen),
        },
        groups={e.name: e.group for e in entries},
    )


def refuse_test_images(entries: Iterable[Member]) -> None:
    """Raise an `InputError` if an official test image is among the training images."""
    found = next((entry.name for entry in entries if entry.test_only), None)
    if found is not None:
        raise InputError(
            f"{found}: is an official test image, which must not be used for training, tuning or "
            "selection. Remove it from the recipe, or use a split that tests on it (data split "
            "--scheme official)."
        )


def write_split(path: Path, split: Split) -> None:
    """Write a split as JSON, with its hash."""
    content = {
        "format": "nucleate-split-1",
        "sha256": split.digest,
        "parts": {part: sorted(names) for part, names in split.parts.items()},
        "groups": dict(sorted(split.groups.items())),
    } | ({"mixes": split.mixes} if split.mixes else {})
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_split(path: Path) -> Split:
    """Read a split and check its hash and its groups.

    Raises:
        InputError: not a split file, changed by hand, or with a group in two parts.
    """
    try:
        content = json.loads(read_text(path))
        split = Split(
            parts={part: tuple(names) for part, names in content["parts"].items()},
            groups=dict(content["groups"]),
            mixes=str(content.get("mixes", "")),
        )
        stated = content["sha256"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not a split file ({error}). Create it again.") from error
    if split.digest != stated:
        raise InputError(
            f"{path}: the hash does not match the names: the file was changed after it was "
            "written. Create the split again, under a new name."
        )
    return split

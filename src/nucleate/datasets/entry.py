"""What every data set gives: a list of entries that know who they are and can read themselves."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nucleate.errors import InputError
from nucleate.io.images import PathLike
from nucleate.types import Sample


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture of a data set, not read yet.

    Attributes:
        name: unique in its data set.
        group: patient or slide; a split never cuts a group.
        read: reads the picture and its annotation.
        organ: as the data set says, None if it does not.
        test_only: an official test picture, on which nothing may be trained, tuned or selected.
    """

    name: str
    group: str
    read: Callable[[], Sample]
    organ: str | None = None
    test_only: bool = False


@dataclass(frozen=True, slots=True)
class DatasetCard:
    """What a data set is, who made it and what it may be used for.

    Attributes:
        title: full name.
        contents: what is in it, in a sentence.
        licence: SPDX expression or a sentence.
        citation: reference with DOI.
        where: how to get it.
    """

    title: str
    contents: str
    licence: str
    citation: str
    where: str


def open_root(path: Path) -> PathLike:
    """Return a folder or the inside of a zip file as a path to walk in.

    Raises:
        InputError: there is no such folder or zip file, or the zip file is damaged.
    """
    if path.is_dir():
        return path
    if not path.exists():
        raise InputError(
            f"{path}: there is no such folder or zip file. Check the path, or set data.root."
        )
    try:
        with zipfile.ZipFile(path) as archive:  # zipfile.Path would walk odd names for ever
            names = archive.namelist()
        bad = next((name for name in names if name.startswith("/") or "//" in name), None)
        if bad is not None:
            raise InputError(f"{path}: holds the odd name {bad!r}. Pack it anew.")
        return zipfile.Path(path)
    except zipfile.BadZipFile as error:
        raise InputError(
            f"{path}: neither a folder nor a valid zip file ({error}). Download it again."
        ) from error


def walk(root: PathLike, below: str = "") -> Iterator[tuple[str, PathLike]]:
    """Yield (path relative to `root` with slashes, file) of all visible files, sorted by name."""
    children: list[PathLike] = list(root.iterdir())
    for child in sorted(children, key=lambda item: item.name):
        if child.name.startswith((".", "__MACOSX")):
            continue
        name = f"{below}{child.name}"
        if isinstance(child, Path) and child.is_dir() and child.is_symlink():
            continue  # a link to a folder may lead back here, and one picture would count twice
        if child.is_dir():
            yield from walk(child, f"{name}/")
        else:
            yield name, child

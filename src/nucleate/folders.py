"""Walking through folders, and pairing the files in them by name."""

from __future__ import annotations

import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from nucleate.errors import InputError, explain_os_error
from nucleate.files import PathLike

T = TypeVar("T")


def walk(root: PathLike, whole: tuple[str, ...] = ()) -> list[tuple[str, PathLike]]:
    """List the visible files of a folder as (path relative to `root` with slashes, file), sorted.

    Links to folders are followed. Each folder is visited once: under its own name if that is below
    `root`, else under the first link to it. Broken links are listed, for the reader to report.

    Warns:
        UserWarning: a link leads to a folder that contains it; the link is not followed.

    Args:
        root: folder, which may be inside a zip file.
        whole: endings of folders that are listed as if they were files.

    Raises:
        InputError: a folder cannot be read.
    """
    found: list[tuple[str, PathLike]] = []
    links: list[tuple[str, PathLike]] = [("", root)]
    entered: set[Path] = set()
    while links:
        folders = [links.pop(0)]
        while folders:
            below, folder = folders.pop()
            if isinstance(folder, Path):
                real = folder.resolve()
                if below and _leads_back(folder, real, Path(str(root))):
                    message = "the link leads back to a folder that it is in: it is not followed"
                    warnings.warn(f"{folder}: {message}", stacklevel=2)
                    continue
                if real in entered:
                    continue
                entered.add(real)
            for child in _visible(folder):
                name = f"{below}{child.name}"
                if child.is_file() or (child.is_dir() and name.lower().endswith(whole)):
                    found.append((name, child))
                elif child.is_dir():
                    is_link = isinstance(child, Path) and child.is_symlink()
                    (links if is_link else folders).append((f"{name}/", child))
                elif isinstance(child, Path) and child.is_symlink() and not child.exists():
                    found.append((name, child))
    return sorted(found, key=lambda item: item[0])


def _leads_back(folder: Path, real: Path, root: Path) -> bool:
    """Return whether a link leads to a folder that contains it."""
    above = [root, folder.parent] if folder.is_symlink() else [root]
    return any(path.resolve().is_relative_to(real) for path in above)


def _visible(folder: PathLike) -> list[PathLike]:
    """Return the visible children of a folder, sorted.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        children: list[PathLike] = list(folder.iterdir())
    except OSError as error:
        raise InputError(explain_os_error(error, str(folder))) from error
    shown = [child for child in children if not child.name.startswith((".", "__MACOSX"))]
    return sorted(shown, key=lambda child: child.name)


def folded(name: str) -> str:
    """Normalise a name's case and Unicode form, in which file systems differ.

    Example:
        >>> folded("E\u0301.PNG") == folded("\u00e9.png")
        True
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def renamed(files: dict[str, T], names: Iterable[str]) -> dict[str, T]:
    """Rename the keys of `files` to the names that they pair with.

    An unpaired file gets the only unpaired name that differs just in case or Unicode form; if that
    match is not unique, it keeps its own name.

    Example:
        >>> renamed({"A1": 1, "b": 2}, ["a1", "b"])
        {'a1': 1, 'b': 2}
    """
    wanted = set(names)
    theirs: dict[str, list[str]] = {}
    for name in wanted - files.keys():
        theirs.setdefault(folded(name), []).append(name)
    mine = Counter(folded(name) for name in files.keys() - wanted)
    new = {}
    for name in files.keys() - wanted:
        like = theirs.get(folded(name), [])
        if len(like) == 1 and mine[folded(name)] == 1:
            new[name] = like[0]
    return {new.get(name, name): file for name, file in files.items()}

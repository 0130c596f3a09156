"""What can go wrong, said in one sentence: subject, cause, remedy.

Every error that a user can fix is a `NucleateError`. The command line prints its text and
exits with code 2; from Python it is an ordinary exception. Anything else is a bug in nucleate.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import warnings
from importlib import metadata
from types import ModuleType
from typing import Any

_QUERY = re.compile(  # up to the end of the sentence's part
    r"(\bhttps?:/{1,2}[^\s?#'\"<>]*)[?#][^\s'\"<>]*?(?=[:.,;)\]]*(?:[\s'\"<>]|$))"
)
_USER = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]+:/{1,2})[^/@\s'\"]+@")


def without_secrets(text: str) -> str:
    """Return a text whose addresses have no query, which may be a signature, and no password.

    Example:
        >>> without_secrets("https://host/a.png?sig=x%2Fy: gone. See s3://key:secret@bucket/a.")
        'https://host/a.png: gone. See s3://bucket/a.'
    """
    return _USER.sub(r"\1", _QUERY.sub(r"\1", text)) if ":/" in text else text


class NucleateError(Exception):
    """An error with a cause and a remedy; the message is one sentence or two.

    Its addresses have no signature and no password: messages go into logs and into files.
    """

    def __init__(self, text: object = "") -> None:
        super().__init__(without_secrets(str(text)))


class InputError(NucleateError):
    """A file or an array is missing, corrupt, or not what it has to be."""


class ConfigError(NucleateError):
    """A recipe or an option contradicts itself or names something that does not exist."""


class ModelError(NucleateError):
    """A model cannot be found, read, trusted or run."""


class TrainingError(NucleateError):
    """Training cannot start or cannot go on."""


class DoubtfulImage(UserWarning):
    """An image cannot be what it is said to be: wrong mpp, channels, stain, or out of focus."""


class OutputError(NucleateError):
    """A result cannot be written."""


def nearest(word: str, known: list[str]) -> str:
    """Return the part of an error sentence that names the closest known word, and all of them.

    Args:
        word: what the user wrote.
        known: what would have been accepted.

    Example:
        >>> nearest("fourground", ["foreground", "distance"])
        "Did you mean 'foreground'? Known: distance, foreground."
    """
    import difflib

    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Known: {', '.join(sorted(known))}."


def pick(table: dict[str, Any], name: str, what: str) -> Any:  # noqa: ANN401
    """Return `table[name]`, or raise a `ConfigError` that names the nearest known entry.

    Example:
        >>> pick({"a": 1}, "a", "letter")
        1
    """
    if name not in table:
        raise ConfigError(f"There is no {what} named {name!r}. {nearest(name, list(table))}")
    return table[name]


def optional(module: str, extra: str) -> ModuleType:
    """Import and return an optional module, or raise an error that names the extra to install.

    Args:
        module: dotted name of the module.
        extra: name of the extra of nucleate that installs it.

    Raises:
        NucleateError: the module is not installed.
    """
    try:
        with warnings.catch_warnings():  # of packages about each other: not about what is done here
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError as error:
        raise NucleateError(
            f"This needs the Python package {module.split('.')[0]!r}, which is not installed. "
            f"Install the extra {extra!r} of nucleate: {install(extra, module)}"
        ) from error


def install(extra: str, module: str) -> str:
    """Return the command that installs the packages of an extra; it needs no release of nucleate.

    Args:
        extra: name of the extra.
        module: one that is missing, for an installation that does not list its extras.
    """
    packages = _packages(extra) or [module.split(".")[0].replace("_", "-")]
    return f"pip install {shlex.join(packages)}"


def _packages(extra: str) -> list[str]:
    """Return the requirements of an extra, as the installed nucleate lists them."""
    try:
        listed = metadata.requires("nucleate") or []
    except metadata.PackageNotFoundError:
        return []
    parts = [line.partition(";") for line in listed]
    marks = (f"extra == '{extra}'", f'extra == "{extra}"')
    return [package.strip() for package, _, when in parts if any(mark in when for mark in marks)]


def explain_os_error(error: OSError, path: str | os.PathLike[str]) -> str:
    """Return the sentence that states what an operating-system error means for `path`.

    Example:
        >>> explain_os_error(FileNotFoundError(2, "No such file"), "a.png")
        'a.png: there is no such file. Check the path.'
    """
    import errno

    causes = {
        errno.ENOENT: "there is no such file. Check the path.",
        errno.EACCES: "permission denied. Check the rights of the file and of its folder.",
        errno.EPERM: "permission denied. Check the rights of the file and of its folder.",
        errno.EISDIR: "this is a folder, a file was expected. Name a file.",
        errno.EEXIST: "a file of this name is in the way. Choose another name, or remove it.",
        errno.ENOTDIR: "a part of this path is a file, not a folder. Check the path.",
        errno.EROFS: "the file system is read-only. Choose another folder.",
        errno.ENOSPC: "the disk is full. Free some space or choose another folder.",
        errno.EDQUOT: "the disk quota is used up. Free some space or choose another folder.",
        errno.ENAMETOOLONG: "the name is too long. Rename it.",
        errno.EFBIG: "the file would be larger than allowed here. Choose another folder.",
    }
    reason = error.strerror or str(error)
    return f"{path}: {causes.get(error.errno or 0, f'{reason}. Check the file and the disk.')}"

"""Errors whose messages state subject, cause and remedy in a sentence or two.

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

_QUERY = re.compile(  # the query ends before trailing punctuation
    r"(\bhttps?:/{1,2}[^\s?#'\"<>]*)[?#][^\s'\"<>]*?(?=[:.,;)\]]*(?:[\s'\"<>]|$))"
)
_USER = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]+:/{1,2})[^/@\s'\"]+@")


def without_secrets(text: str) -> str:
    """Remove queries, which may be signatures, and credentials from the addresses in a text.

    Example:
        >>> without_secrets("https://host/a.png?sig=x%2Fy: gone. See s3://key:secret@bucket/a.")
        'https://host/a.png: gone. See s3://bucket/a.'
    """
    return _USER.sub(r"\1", _QUERY.sub(r"\1", text)) if ":/" in text else text


class NucleateError(Exception):
    """An error with a cause and a remedy; the message is one or two sentences.

    Signatures and passwords are removed from addresses: messages go into logs and files.
    """

    def __init__(self, text: object = "") -> None:
        super().__init__(without_secrets(str(text)))


class InputError(NucleateError):
    """A file or an array is missing, corrupt, or of the wrong kind."""


class ConfigError(NucleateError):
    """A recipe or an option contradicts itself or names something that does not exist."""


class ModelError(NucleateError):
    """A model cannot be found, read, trusted or run."""


class TrainingError(NucleateError):
    """Training cannot start or cannot continue."""


class DoubtfulImage(UserWarning):
    """An image looks inconsistent: wrong mpp, channels or stain, or out of focus."""


class OutputError(NucleateError):
    """A result cannot be written."""


def nearest(word: str, known: list[str]) -> str:
    """Return the hint of an error message: the closest known word, and all known words.

    Args:
        word: word given by the user.
        known: accepted words.

    Example:
        >>> nearest("fourground", ["foreground", "distance"])
        "Did you mean 'foreground'? Known: distance, foreground."
    """
    import difflib

    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Known: {', '.join(sorted(known))}."


def pick(table: dict[str, Any], name: str, what: str) -> Any:  # noqa: ANN401
    """Return `table[name]`, or raise a `ConfigError` that suggests the nearest entry.

    Example:
        >>> pick({"a": 1}, "a", "letter")
        1
    """
    if name not in table:
        raise ConfigError(f"There is no {what} named {name!r}. {nearest(name, list(table))}")
    return table[name]


def optional(module: str, extra: str) -> ModuleType:
    """Import an optional module, or raise an error that names the extra to install.

    Args:
        module: dotted name of the module.
        extra: extra of nucleate that installs it.

    Raises:
        NucleateError: the module is not installed.
    """
    try:
        with warnings.catch_warnings():  # warnings of packages about each other are not the user's
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError as error:
        raise NucleateError(
            f"This needs the Python package {module.split('.')[0]!r}, which is not installed. "
            f"Install the extra {extra!r} of nucleate: {install(extra, module)}"
        ) from error


def install(extra: str, module: str) -> str:
    """Return the command that installs the packages of an extra; works without a PyPI release.

    Args:
        extra: name of the extra.
        module: a missing module, used if the installation does not list its extras.
    """
    packages = _packages(extra) or [module.split(".")[0].replace("_", "-")]
    return f"pip install {shlex.join(packages)}"


def _packages(extra: str) -> list[str]:
    """Return the requirements of an extra, from the installed metadata of nucleate."""
    try:
        listed = metadata.requires("nucleate") or []
    except metadata.PackageNotFoundError:
        return []
    parts = [line.partition(";") for line in listed]
    marks = (f"extra == '{extra}'", f'extra == "{extra}"')
    return [package.strip() for package, _, when in parts if any(mark in when for mark in marks)]


def explain_os_error(error: OSError, path: str | os.PathLike[str]) -> str:
    """Explain an operating-system error on `path` in a sentence, with a remedy.

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

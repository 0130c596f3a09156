"""Read the summary.json of a folder of results."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from nucleate.errors import InputError
from nucleate.files import read_text

SUMMARY = "summary.json"


def read_summary(folder: Path) -> dict[str, Any]:
    """Read the summary of a folder of results.

    Raises:
        InputError: it cannot be read, or is another file of the same name.
    """
    file = folder / SUMMARY
    try:
        found: dict[str, Any] = json.loads(read_text(file))
        for row in found["sources"]:
            if not isinstance(row["source"], str) or not isinstance(row["status"], str):
                raise TypeError("a source without a name")
            if row["status"] != "failed":
                _check_below(row["files"]["parquet"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        said = " ".join(str(error).split())[:100]
        raise InputError(
            f"{file}: not a summary of this version of nucleate ({said}). Rename it, or segment "
            "again into another folder."
        ) from error
    return found


def _check_below(name: str) -> None:
    """Raise a `ValueError` for a file name that points outside the folder of results."""
    if PurePosixPath(name).is_absolute() or "\\" in name or ".." in PurePosixPath(name).parts:
        raise ValueError(f"{name!r} is not a file name")

"""Write summary.json, which lists all results in a folder, from all calls of `segment`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from nucleate._version import __version__
from nucleate.errors import InputError
from nucleate.files import write_text
from nucleate.locks import alone
from nucleate.readers.remote import is_url, shown, url_name
from nucleate.results.names import PARQUET
from nucleate.results.summary import SUMMARY, read_summary

if TYPE_CHECKING:
    from nucleate.inference.backends import Model
    from nucleate.readers.remote import Mirror
    from nucleate.slides.outputs import BatchOptions

_MADE_WITH = ("nucleate", "model", "engine", "tile_px")


def summarise(rows: list[dict[str, Any]], model: Model, options: BatchOptions) -> dict[str, Any]:
    """Return the summary of one call: model and settings, one row per source, totals."""
    return {
        "nucleate": __version__,
        "model": {
            "name": model.card.name,
            "version": model.card.version,
            "licence": model.card.licence,
            "files": model.card.files,
            "thresholds": model.card.thresholds,
            "mpp": model.card.mpp,
        },
        "engine": model.backend.about,
        "tile_px": options.engine.tile_of(model.card),
        "sources": rows,
        "totals": _totals(rows),
    }


def check_summary(out: Mirror, stems: dict[Path | str, str]) -> None:
    """Check that no source would replace the results of another source in an existing summary.

    Args:
        out: folder of results.
        stems: source -> stem of its result files.

    Raises:
        InputError: summary.json is another file, or a source would replace the results of another.
    """
    before = _before(out)
    rows = before["sources"] if before is not None else []
    there = {_parquet(row): str(row["source"]) for row in rows}
    for source, stem in stems.items():
        other = there.get(f"{stem}{PARQUET}")
        if other is not None and _is_another(other, str(source)):
            raise InputError(
                f"{shown(source)}: would replace the results of {other}, which an earlier run "
                "wrote. Rename one of them, or choose another -o."
            )


def _is_another(before: str, now: str) -> bool:
    """Return whether two names denote different sources, not one that was moved or copied.

    Example:
        >>> _is_another("a/tile.png", "a/tile.jpg"), _is_another("gone/tile.png", "b/tile.png")
        (True, False)
    """
    if PurePath(url_name(before)).name != PurePath(url_name(now)).name:
        return True
    if is_url(before) or is_url(now):
        return False
    one, other = Path(before), Path(now)
    return one.is_file() and other.is_file() and one.stat().st_size != other.stat().st_size


def add_to_summary(out: Mirror, summary: dict[str, Any]) -> None:
    """Merge the summary of a call into the summary of its folder.

    Several processes may do so at the same time if the folder is on a disk; at a URL the last
    process wins.

    Raises:
        InputError: summary.json is another file.
        OutputError: the file cannot be written.
    """
    file = out.folder / SUMMARY
    with alone(file):
        before = _before(out)
        merged = summary if before is None else merge(before, summary)
        write_text(file, json.dumps(merged, indent=1, ensure_ascii=False) + "\n")
        out.push(SUMMARY)


def merge(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Add the rows of an earlier summary to a summary, except for sources in both.

    A row that was made with another model, engine, tile size or version than the last call states
    them in `made_with`.

    Example:
        >>> old = {"engine": "a", "sources": [{"source": s, "status": "done"} for s in "xy"]}
        >>> new = {"engine": "b", "sources": [{"source": "y", "status": "failed"}]}
        >>> [(row["source"], row["status"]) for row in merge(old, new)["sources"]]
        [('x', 'done'), ('y', 'failed')]
    """
    names = {row["source"] for row in now["sources"]}
    files = {_parquet(row) for row in now["sources"]} - {None}
    kept = []
    for row in before["sources"]:
        if row["source"] in names or _parquet(row) in files:
            continue
        made_with = row.get("made_with") or {key: before.get(key) for key in _MADE_WITH}
        row = {key: value for key, value in row.items() if key != "made_with"}
        same = made_with == {key: now.get(key) for key in _MADE_WITH}
        kept.append(row if same else {**row, "made_with": made_with})
    rows = kept + now["sources"]
    return {**now, "sources": rows, "totals": _totals(rows)}


def _totals(rows: list[dict[str, Any]]) -> dict[str, int]:
    states = Counter(row["status"] for row in rows)
    return {
        **{state: states[state] for state in ("done", "incomplete", "failed")},
        "nuclei": sum(row.get("nuclei", 0) for row in rows),
    }


def _parquet(row: dict[str, Any]) -> str | None:
    """Return the name of a row's Parquet file, None if the source failed."""
    files: dict[str, str] = row.get("files", {})
    return files.get("parquet")


def _before(out: Mirror) -> dict[str, Any] | None:
    """Read the summary in a folder of results; None if there is none."""
    out.pull_file(SUMMARY)
    return read_summary(out.folder) if (out.folder / SUMMARY).exists() else None

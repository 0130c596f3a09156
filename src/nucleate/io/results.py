"""A folder of `nucleate segment` → one file with the nuclei of all its pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nucleate.errors import InputError, pick
from nucleate.io.annotations import read_scored_geojson
from nucleate.io.coco import detection, read_coco
from nucleate.io.files import read_text, write_text


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        pictures: with or without nuclei.
        nuclei: of all pictures.
        left_out: pictures that the file of truth does not name.
    """

    pictures: int
    nuclei: int
    left_out: int


def export_results(folder: Path, to: str, out: Path, truth: Path | None = None) -> Exported:
    """Write the nuclei of all pictures of a result into one file.

    Args:
        folder: written by `nucleate segment`, with GeoJSON.
        to: key of `FORMS`.
        out: file to write.
        truth: COCO file of the same pictures, see `write_coco`.

    Raises:
        ConfigError: no such form.
        InputError: no such result, or a damaged one; the truth is of other pictures.
        OutputError: the file cannot be written.
    """
    return pick(FORMS, to, "form")(folder, out, truth)  # type: ignore[no-any-return]


def write_coco(folder: Path, out: Path, truth: Path | None) -> Exported:
    """Write COCO JSON: boxes, run lengths, areas and scores.

    Beside a file of truth a list of results, numbered as its pictures and categories are (by their
    names: files without ending, types in any case; a type that it lacks becomes its first one), as
    COCO's evaluation takes it. Without one a whole file, whose annotations have scores.
    """
    rows = _sources(folder)
    pictures = {Path(row["source"]).stem: i + 1 for i, row in enumerate(rows)}
    kinds: dict[str, int] = {}
    if truth is not None:
        known = read_coco(truth)
        pictures = {Path(p.record["file_name"]).stem: int(p.record["id"]) for p in known.pictures}
        kinds = {known.categories[i].lower(): number for number, i in known.position_of.items()}
    mine = [row for row in rows if Path(row["source"]).stem in pictures]
    if not mine:
        raise InputError(f"{truth}: names none of the {len(rows)} pictures of {folder}. Check it.")
    found: list[dict[str, Any]] = []
    for row in mine:
        number = pictures[Path(row["source"]).stem]
        shape = int(row["height"]), int(row["width"])
        (xy, offsets), names, scores = read_scored_geojson(folder / row["files"]["geojson"])
        for i, name in enumerate(names):
            kind = name.lower() or "nucleus"
            if truth is None:
                kinds.setdefault(kind, len(kinds) + 1)
            outline = xy[offsets[i] : offsets[i + 1]].astype(np.float32)
            category = kinds.get(kind, min(kinds.values(), default=1))
            found.append(detection(outline, scores[i], number, category, shape))
    content: Any = found
    if truth is None:
        content = {
            "info": {"description": "written by nucleate; areas and boxes in pixels"},
            "images": [
                {"id": pictures[Path(row["source"]).stem], "file_name": Path(row["source"]).name}
                | {key: row[key] for key in ("height", "width", "mpp")}
                for row in mine
            ],
            "annotations": [{"id": i + 1, "iscrowd": 0, **one} for i, one in enumerate(found)],
            "categories": [
                {"id": n, "name": name} for name, n in (kinds or {"nucleus": 1}).items()
            ],
        }
    write_text(out, json.dumps(content, ensure_ascii=False) + "\n")
    return Exported(len(mine), len(found), len(rows) - len(mine))


FORMS: dict[str, Callable[[Path, Path, Path | None], Exported]] = {"coco": write_coco}


def _sources(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of summary.json whose nuclei are there as GeoJSON."""
    file = folder / "summary.json"
    if not file.is_file():
        raise InputError(f"{folder}: holds no summary.json. Name a folder of nucleate segment.")
    try:
        rows = [row for row in json.loads(read_text(file))["sources"] if row["status"] == "done"]
        lacking = next((row["source"] for row in rows if "geojson" not in row["files"]), None)
        for row in rows:
            _ = str(row["source"]), int(row["height"]), int(row["width"]), row["mpp"]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file}: not a summary of this version ({error!r:.80}). Segment again."
        ) from error
    if lacking is not None:
        raise InputError(f"{folder}: {lacking} was segmented without geojson. Segment it again.")
    if not rows:
        raise InputError(f"{file}: no picture was segmented. Segment again.")
    return rows

"""A folder of `nucleate segment` → one file with the nuclei of all its pictures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from nucleate.errors import InputError, pick
from nucleate.io.annotations import read_scored_geojson
from nucleate.io.coco import CocoFile, detection, read_coco
from nucleate.io.files import read_text, write_text

_Edge = Annotated[int, Field(ge=1, le=1 << 20)]


class _Row(BaseModel):
    """What is needed of a source in summary.json."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    source: str
    height: _Edge
    width: _Edge
    mpp: Annotated[float, Field(ge=0.02, le=20)]
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        pictures: with or without nuclei.
        nuclei: of all pictures.
        left_out: pictures of the result that the file of truth does not name.
        without: pictures of the truth that the result does not have.
    """

    pictures: int
    nuclei: int
    left_out: int
    without: int


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
    names: files without ending, types in any case; a type that it lacks becomes its most frequent
    one), as COCO's evaluation takes it. Without one a whole file, whose annotations have scores.
    """
    rows = _sources(folder)
    stems = [Path(row["source"]).stem for row in rows]
    pictures = {stem: i + 1 for i, stem in enumerate(stems)}
    kinds: dict[str, int] = {}
    other = 1
    if truth is not None:
        known = read_coco(truth)
        pictures = _numbers(known, truth)
        kinds = {known.categories[i].lower(): number for number, i in known.position_of.items()}
        used = Counter(int(a["category_id"]) for p in known.pictures for a in p.annotations)
        other = used.most_common(1)[0][0] if used else min(kinds.values(), default=1)
        sizes = {int(p.record["id"]): p.record for p in known.pictures}
    mine = [row for row, stem in zip(rows, stems, strict=True) if stem in pictures]
    if not mine:
        raise InputError(f"{truth}: names none of the {len(rows)} pictures of {folder}. Check it.")
    found: list[dict[str, Any]] = []
    for row in mine:
        number = pictures[Path(row["source"]).stem]
        shape = row["height"], row["width"]
        if truth is not None and shape != tuple(int(sizes[number][k]) for k in ("height", "width")):
            raise InputError(
                f"{truth}: {row['source']} has another size there than in {folder}. Segment the "
                "pictures that the truth is of."
            )
        (xy, offsets), names, scores = read_scored_geojson(folder / row["files"]["geojson"])
        for i, name in enumerate(names):
            if truth is None:
                kinds.setdefault(name or "nucleus", len(kinds) + 1)
            category = kinds.get(name.lower() if truth is not None else name or "nucleus", other)
            outline = xy[offsets[i] : offsets[i + 1]].astype(np.float32)
            try:
                found.append(detection(outline, scores[i], number, category, shape))
            except ValueError as error:
                raise InputError(
                    f"{folder}: nucleus {i + 1} of {row['source']} is none ({error}). Segment "
                    "again."
                ) from error
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
    write_text(out, json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n")
    return Exported(len(mine), len(found), len(rows) - len(mine), len(pictures) - len(mine))


FORMS: dict[str, Callable[[Path, Path, Path | None], Exported]] = {"coco": write_coco}


def _numbers(known: CocoFile, truth: Path) -> dict[str, int]:
    """Return name without ending -> id of the pictures of a file of truth."""
    stems = [Path(picture.record["file_name"]).stem for picture in known.pictures]
    twice = next((stem for stem, count in Counter(stems).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"{truth}: two pictures are named {twice!r}. Rename one of them.")
    ids = [int(picture.record["id"]) for picture in known.pictures]
    return dict(zip(stems, ids, strict=True))


def _sources(folder: Path) -> list[dict[str, Any]]:
    """Return source, size, mpp and files of what was segmented, from summary.json."""
    file = folder / "summary.json"
    if not file.is_file():
        raise InputError(f"{folder}: holds no summary.json. Name a folder of nucleate segment.")
    try:
        rows = [
            _Row(**{key: row[key] for key in _Row.model_fields}).model_dump()
            for row in json.loads(read_text(file))["sources"]
            if row["status"] == "done"
        ]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        said = " ".join(str(error).split())[:100]
        raise InputError(
            f"{file}: not a summary of this version of nucleate ({said}). Segment again."
        ) from error
    lacking = next((row["source"] for row in rows if "geojson" not in row["files"]), None)
    if lacking is not None:
        raise InputError(f"{folder}: {lacking} was segmented without geojson. Segment it again.")
    if not rows:
        raise InputError(f"{file}: no picture was segmented. Segment again.")
    return rows

"""What `nucleate segment` wrote → files for other programs: one per picture, or one for all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nucleate.errors import ConfigError, InputError, nearest
from nucleate.io.coco import CocoFile, detection, read_coco
from nucleate.io.exports import EXPORTERS, PARQUET
from nucleate.io.files import atomic, keep_apart, read_text
from nucleate.io.nuclei import NucleiFile, open_nuclei


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
    left_out: int = 0
    without: int = 0


def export_results(result: Path, to: str, out: Path, truth: Path | None = None) -> Exported:
    """Write nuclei in another form.

    Args:
        result: folder that `nucleate segment` wrote, or one `.nuclei.parquet` of it.
        to: `coco`, which holds all pictures in one file, or a key of `EXPORTERS`.
        out: file to write; where the result has several pictures and each needs a file, a folder.
        truth: for `coco`: a COCO file of the same pictures, see `write_coco`.

    Raises:
        ConfigError: no such form.
        InputError: no such result, or a damaged one; the truth is of other pictures.
        OutputError: the file cannot be written.
    """
    forms = ["coco", *(name for name, e in EXPORTERS.items() if not e.needs_source)]
    if to not in forms:
        raise ConfigError(f"There is no form named {to!r}. {nearest(to, forms)}")
    if to != "coco" and truth is not None:
        raise ConfigError(f"--truth goes with --to coco, not with {to}. Leave it away.")
    files = _files(result)
    keep_apart(out, result / "summary.json", truth, *(found.path for found in files))
    if to == "coco":
        return write_coco(files, result, out, truth)
    exporter = EXPORTERS[to]
    if len(files) == 1:
        exporter.write(files[0], None, out)
    else:
        if out.is_file():
            raise ConfigError(f"{out}: is a file, but {len(files)} pictures need a folder.")
        for found in files:
            exporter.write(found, None, out / f"{_stem(found)}{exporter.suffix}")
    return Exported(len(files), sum(found.count for found in files))


def write_coco(files: list[NucleiFile], result: Path, out: Path, truth: Path | None) -> Exported:
    """Write COCO JSON: boxes, run lengths, areas and scores, one nucleus after the other.

    Beside a file of truth a list of results, numbered as its pictures and categories are (by their
    names: files without ending, types in any case; a type that it lacks becomes its most frequent
    one), as COCO's evaluation takes it. Without one a whole file, whose annotations have scores.
    """
    pictures = {_stem(found): i + 1 for i, found in enumerate(files)}
    kinds: dict[str, int] = {}
    for found in files:
        for name in found.class_names:
            kinds.setdefault(name, len(kinds) + 1)
    other = 1
    if truth is not None:
        known = read_coco(truth)
        pictures = _numbers(known, truth)
        kinds = {known.categories[i].lower(): number for number, i in known.position_of.items()}
        used = Counter(int(a["category_id"]) for p in known.pictures for a in p.annotations)
        other = used.most_common(1)[0][0] if used else min(kinds.values(), default=1)
        sizes = {int(p.record["id"]): p.record for p in known.pictures}
    mine = [found for found in files if _stem(found) in pictures]
    if not mine:
        raise InputError(f"{truth}: names none of the {len(files)} pictures of {result}. Check it.")
    for found in mine if truth is not None else ():
        record = sizes[pictures[_stem(found)]]
        if (found.frame.height, found.frame.width) != (record["height"], record["width"]):
            raise InputError(
                f"{truth}: {_stem(found)} has another size there than in {result}. Segment the "
                "pictures that the truth is of."
            )
    if truth is not None:
        lower = {name: kinds.get(name.lower(), other) for f in mine for name in f.class_names}
        head, tail = "[", "]\n"
    else:
        lower = kinds
        start = {
            "info": {"description": "written by nucleate; areas and boxes in pixels"},
            "images": [
                {
                    "id": pictures[_stem(found)],
                    "file_name": str(found.facts.get("source")),
                    "height": found.frame.height,
                    "width": found.frame.width,
                    "mpp": found.frame.mpp,
                }
                for found in mine
            ],
            "categories": [{"id": number, "name": name} for name, number in kinds.items()],
        }
        head, tail = json.dumps(start, ensure_ascii=False)[:-1] + ', "annotations": [', "]}\n"
    count = 0
    with atomic(out) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(head)
        for found in mine:
            for one in _detections(found, pictures[_stem(found)], lower):
                count += 1
                extra = {} if truth is not None else {"id": count, "iscrowd": 0}
                text = json.dumps(extra | one, allow_nan=False)
                file.write(("\n" if count == 1 else ",\n") + text)
        file.write(tail)
    return Exported(len(mine), count, len(files) - len(mine), len(pictures) - len(mine))


def _detections(found: NucleiFile, number: int, kinds: dict[str, int]) -> Iterator[dict[str, Any]]:
    shape = found.frame.height, found.frame.width
    for nuclei in found.groups():
        for i in range(len(nuclei)):
            category = kinds[found.class_names[int(nuclei.classes[i])]]
            try:
                yield detection(nuclei.outline(i), float(nuclei.scores[i]), number, category, shape)
            except ValueError as error:
                raise InputError(
                    f"{found.path}: nucleus {nuclei.ids[i]} is none ({error}). Segment again."
                ) from error


def _stem(found: NucleiFile) -> str:
    return found.path.name.removesuffix(PARQUET)


def _files(result: Path) -> list[NucleiFile]:
    """Return the nuclei of every picture of a result."""
    if result.is_file():
        return [open_nuclei(result)]
    return [open_nuclei(result / name) for name in _sources(result)]


def _numbers(known: CocoFile, truth: Path) -> dict[str, int]:
    """Return name without ending -> id of the pictures of a file of truth."""
    stems = [Path(picture.record["file_name"]).stem for picture in known.pictures]
    twice = next((stem for stem, count in Counter(stems).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"{truth}: two pictures are named {twice!r}. Rename one of them.")
    ids = [int(picture.record["id"]) for picture in known.pictures]
    return dict(zip(stems, ids, strict=True))


def _sources(folder: Path) -> list[str]:
    """Return the names of the Parquet files of what was segmented, from summary.json."""
    file = folder / "summary.json"
    if not file.is_file():
        raise InputError(f"{folder}: holds no summary.json. Name a folder of nucleate segment.")
    try:
        rows = json.loads(read_text(file))["sources"]
        names = [row["files"]["parquet"] for row in rows if row["status"] != "failed"]
        wrong = next((name for name in names if Path(name).name != name), None)
        if wrong is not None:
            raise ValueError(f"{wrong!r} is no name of a file")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        said = " ".join(str(error).split())[:100]
        raise InputError(
            f"{file}: not a summary of this version of nucleate ({said}). Segment again."
        ) from error
    if not names:
        raise InputError(f"{file}: no picture was segmented. Segment again.")
    return names

"""Export results of `nucleate segment` for other programs, as one file per image or in all."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from nucleate.annotations.coco import (
    CocoFile,
    Id,
    identity,
    image_name,
    read_coco,
)
from nucleate.annotations.coco_masks import detection
from nucleate.errors import ConfigError, InputError, nearest
from nucleate.files import atomic, keep_apart
from nucleate.folders import renamed
from nucleate.results.csv import write_joint_csv
from nucleate.results.formats import EXPORTERS
from nucleate.results.names import PARQUET
from nucleate.results.parquet import NucleiFile, open_nuclei
from nucleate.results.summary import SUMMARY, read_summary


@dataclass(frozen=True, slots=True)
class Exported:
    """Counts of an export.

    Attributes:
        images: images written, with or without nuclei.
        nuclei: nuclei in all images.
        left_out: images of the result that are not in the ground truth.
        without: images of the ground truth that are not in the result.
    """

    images: int
    nuclei: int
    left_out: int = 0
    without: int = 0


def export_results(result: Path, to: str, out: str | Path, truth: Path | None = None) -> Exported:
    """Export nuclei in another format.

    Args:
        result: folder written by `nucleate segment`, or a `.nuclei.parquet` in it.
        to: `coco`, with all images in one file, or a key of `EXPORTERS`.
        out: file to write. For several images, `csv` writes one table with a column `source`;
            other formats need a folder: an existing folder, or a name without an ending or with a
            trailing slash.
        truth: for `coco`, a COCO file of the same images, see `write_coco`.

    Raises:
        ConfigError: unknown format; one file for several images in a format for one image.
        InputError: the result is missing or damaged; the ground truth has other images.
        OutputError: the file cannot be written.
    """
    forms = ["coco", *(name for name, e in EXPORTERS.items() if not e.needs_source)]
    if to not in forms:
        raise ConfigError(f"Unknown format {to!r}. {nearest(to, forms)}")
    if to != "coco" and truth is not None:
        raise ConfigError(f"--truth requires --to coco, not {to}. Omit --truth.")
    files, path = _files(result), Path(out)
    keep_apart(path, result / SUMMARY, truth, *(found.path for found in files.values()))
    if to == "coco":
        return write_coco(files, result, path, truth)
    exporter = EXPORTERS[to]
    if _is_folder(out, len(files)):
        for name, found in files.items():
            exporter.write(found, None, path / f"{name}{exporter.suffix}")
    elif len(files) == 1:
        exporter.write(next(iter(files.values())), None, path)
    elif to == "csv":
        write_joint_csv({_source(name, found): found for name, found in files.items()}, path)
    else:
        raise ConfigError(
            f"{path}: {to} stores one image per file, but {result} has {len(files)}. Export each "
            f".nuclei.parquet, or pass a folder: -o {path.with_suffix('')}/"
        )
    return Exported(len(files), sum(found.count for found in files.values()))


def _is_folder(out: str | Path, count: int) -> bool:
    """Return whether `out` is a folder for one file per image.

    Example:
        >>> _is_folder("all.csv", 2), _is_folder("all.csv/", 2), _is_folder("all", 2)
        (False, True, True)
    """
    path = Path(out)
    if str(out).endswith(("/", os.sep)):
        return True
    if path.suffix == ".zarr":  # a file that is a folder
        return False
    return path.is_dir() or (count > 1 and not path.suffix and not path.exists())


def write_coco(
    files: dict[str, NucleiFile], result: Path, out: Path, truth: Path | None
) -> Exported:
    """Write COCO JSON with boxes, run-length masks, areas and scores, nucleus by nucleus.

    With ground truth, write a list of results for COCO's evaluation, with the image and category
    ids of the ground truth. Images are matched by file name without ending, types by name in any
    case; a type that the ground truth lacks becomes its most frequent type. Without ground truth,
    write a complete COCO file whose annotations have scores.
    """
    images: dict[str, Id] = {name: i + 1 for i, name in enumerate(files)}
    kinds: dict[str, Id] = {}
    for found in files.values():
        for name in found.class_names:
            kinds.setdefault(name, len(kinds) + 1)
    other: Id = 1
    if truth is not None:
        known = read_coco(truth)
        images = _numbers(known, truth, files)
        kinds = {known.categories[i].lower(): number for number, i in known.position_of.items()}
        used = Counter(
            identity(a.get("category_id", 0)) for p in known.images for a in p.annotations
        )
        other = used.most_common(1)[0][0] if used else min(kinds.values(), default=1, key=str)
        sizes = {identity(p.record["id"]): p.record for p in known.images}
    mine = {name: found for name, found in files.items() if name in images}
    if not mine:
        raise InputError(
            f"{truth}: lists none of the {len(files)} images of {result}. Check the file."
        )
    for name, found in mine.items() if truth is not None else ():
        record = sizes[images[name]]
        if (found.frame.height, found.frame.width) != (record["height"], record["width"]):
            raise InputError(
                f"{truth}: {name} differs in size from the image in {result}. Segment the images "
                "of the ground truth."
            )
    if truth is not None:
        lower = {
            name: kinds.get(name.lower(), other) for f in mine.values() for name in f.class_names
        }
        head, tail = "[", "]\n"
    else:
        lower = kinds
        start = {
            "info": {"description": "written by nucleate; areas and boxes in pixels"},
            "images": [
                {
                    "id": images[name],
                    "file_name": _source(name, found),
                    "height": found.frame.height,
                    "width": found.frame.width,
                    "mpp": found.frame.mpp,
                }
                for name, found in mine.items()
            ],
            "categories": [{"id": number, "name": name} for name, number in kinds.items()],
        }
        head, tail = json.dumps(start, ensure_ascii=False)[:-1] + ', "annotations": [', "]}\n"
    count = 0
    with atomic(out) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(head)
        for name, found in mine.items():
            for one in _detections(found, images[name], lower):
                count += 1
                extra = {} if truth is not None else {"id": count, "iscrowd": 0}
                text = json.dumps(extra | one, allow_nan=False)
                file.write(("\n" if count == 1 else ",\n") + text)
        file.write(tail)
    return Exported(len(mine), count, len(files) - len(mine), len(images) - len(mine))


def _detections(found: NucleiFile, number: Id, kinds: dict[str, Id]) -> Iterator[dict[str, Any]]:
    shape = found.frame.height, found.frame.width
    for nuclei in found.groups():
        for i in range(len(nuclei)):
            category = kinds[found.class_names[int(nuclei.classes[i])]]
            try:
                yield detection(nuclei.outline(i), float(nuclei.scores[i]), number, category, shape)
            except ValueError as error:
                raise InputError(
                    f"{found.path}: nucleus {nuclei.ids[i]} is invalid ({error}). Segment again."
                ) from error


def _source(name: str, found: NucleiFile) -> str:
    """Return the file name of an image, with the folder of its result."""
    return (PurePosixPath(name).parent / str(found.facts.get("source"))).as_posix()


def _files(result: Path) -> dict[str, NucleiFile]:
    """Return name without ending -> nuclei for every image of a result."""
    if result.is_file():
        return {result.name.removesuffix(PARQUET): open_nuclei(result)}
    return {name.removesuffix(PARQUET): open_nuclei(result / name) for name in _sources(result)}


def _numbers(known: CocoFile, truth: Path, files: Iterable[str]) -> dict[str, Id]:
    """Return name without ending -> id for the images of a COCO file.

    Args:
        known: content of the file.
        truth: path of the file.
        files: names of the results; if any contains a folder, folders below `images/` are part of
            the names.
    """
    names = [image_name(image.record["file_name"]) for image in known.images]
    if not any("/" in name for name in files):
        names = [PurePosixPath(name).name for name in names]
    short = [re.sub(r"^[0-9a-f]{8}-", "", name) for name in names]  # prefix of Label Studio
    both = zip(names, short, strict=True)
    names = [bare if bare in files and name not in files else name for name, bare in both]
    twice = next((stem for stem, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"{truth}: two images have the name {twice!r}. Rename one of them.")
    ids = [identity(image.record["id"]) for image in known.images]
    return renamed(dict(zip(names, ids, strict=True)), files)


def _sources(folder: Path) -> list[str]:
    """Return the names of the Parquet files of segmented sources, from summary.json."""
    if not (folder / SUMMARY).is_file():
        raise InputError(f"{folder}: contains no summary.json. Pass a folder of nucleate segment.")
    rows = read_summary(folder)["sources"]
    names: list[str] = [row["files"]["parquet"] for row in rows if row["status"] != "failed"]
    if not names:
        raise InputError(f"{folder / SUMMARY}: no image was segmented. Segment again.")
    return names

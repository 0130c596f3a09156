"""Data set → folder of images and labels, COCO JSON, or shards; label images stay exact."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nucleate.annotations.coco import OURS
from nucleate.annotations.coco_masks import outlines, recorded, run_lengths
from nucleate.datasets.base import Entry, check_name, sample_doubts
from nucleate.datasets.folder import FACTS, MANIFEST
from nucleate.datasets.folder import FORMAT as FOLDER_FORMAT
from nucleate.datasets.shards import write_shards
from nucleate.errors import InputError, pick
from nucleate.files import atomic_folder
from nucleate.folders import folded
from nucleate.results.images import write_labels, write_png
from nucleate.types import Bool, Sample


@dataclass(slots=True)
class Tally:
    """Counts of a conversion.

    Attributes:
        images: images written.
        nuclei: labels written.
        contested_px: pixels in more than one annotation; the data set's card states how they are
            assigned.
        hidden: annotations that got no pixel.
        problems: sentences about annotations that were omitted or are doubtful.
    """

    images: int = 0
    nuclei: int = 0
    contested_px: int = 0
    hidden: int = 0
    problems: list[str] = field(default_factory=list)


def convert(entries: list[Entry], out: Path, to: str) -> Tally:
    """Convert a data set to another format.

    Args:
        entries: entries of the data set.
        out: folder to create; it appears only when it is complete.
        to: key of `TARGETS`.

    Raises:
        ConfigError: unknown format.
        InputError: an image cannot be read, or two have one name.
        OutputError: the folder exists already, or cannot be written.
    """
    write = pick(TARGETS, to, "form")
    tally = Tally()
    with atomic_folder(out) as folder:
        write(_counted(entries, tally), folder)
    return tally


def _counted(entries: list[Entry], tally: Tally) -> Iterable[Sample]:
    seen: set[str] = set()
    for entry in entries:
        sample = entry.read()
        check_name(sample.name)
        flat = folded(sample.name.replace("/", "_"))  # file systems may ignore case
        if flat in seen:
            raise InputError(
                f"{sample.name}: another image has this name except for case, Unicode form or "
                "folders. Rename one of them."
            )
        seen.add(flat)
        tally.images += 1
        tally.problems += [f"{sample.name}: {doubt}" for doubt in sample_doubts(sample)]
        if sample.labels is not None:
            tally.nuclei += len(np.unique(sample.labels[sample.labels > 0]))
        if sample.drawn is not None:
            tally.contested_px += sample.drawn.contested_px
            tally.hidden += sample.drawn.hidden
        yield sample


def write_folder(samples: Iterable[Sample], out: Path) -> None:
    """Write `images/NAME.png`, `labels/NAME.tif`, `ignore/NAME.png` and the manifest."""
    images: dict[str, Any] = {}
    for sample in samples:
        write_png(out / "images" / f"{sample.name}.png", sample.image)
        if sample.labels is not None:
            write_labels(out / "labels" / f"{sample.name}.tif", sample.labels, sample.mpp)
        if sample.ignore is not None:
            _write_mask(out / "ignore" / f"{sample.name}.png", sample.ignore)
        facts = {key: getattr(sample, key) for key in FACTS}
        classes = None if sample.classes is None else sample.classes.tolist()
        images[sample.name] = facts | {"classes": classes}
    content = {"format": FOLDER_FORMAT, "images": images}
    (out / MANIFEST).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def write_coco(samples: Iterable[Sample], out: Path, polygons: bool = False) -> None:
    """Write `images/NAME.png` and `annotations.json`: one annotation per nucleus.

    Masks are run lengths, which are exact, or polygons, one per piece, for programs that require
    them. Polygons give the same pixels under the pixel-centre rule of nucleate and pycocotools.
    Masks with holes, which polygons cannot represent, and crowds stay run lengths.

    Images and annotations are numbered in order, so ids with gaps become contiguous. The ignored
    area of an image becomes one crowd region. Facts without a COCO field (group, organ, species,
    centre, mpp) are stored in the image's record.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    names: list[str] = []
    for sample in samples:
        if sample.labels is None:
            raise InputError(
                f"{sample.name}: has no labels, which COCO cannot distinguish from an image "
                "without nuclei. Convert to folder or shards."
            )
        own = sample.class_names if sample.classes is not None else ("nucleus",)
        names += [name for name in own if name not in names]
        height, width = sample.image.shape[:2]
        write_png(out / "images" / f"{sample.name}.png", sample.image)
        number = len(images) + 1
        facts = {
            key: getattr(sample, key) for key in ("group", "organ", "species", "centre", "mpp")
        }
        images.append(
            {"id": number, "file_name": f"{sample.name}.png", "height": height, "width": width}
            | {key: value for key, value in facts.items() if value is not None}
        )
        annotations += _annotations(sample, number, len(annotations) + 1, names, polygons)
    content = {
        "info": {"description": f"{OURS}; areas and boxes in pixels"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(names)],
    }
    (out / "annotations.json").write_text(json.dumps(content, ensure_ascii=False), "utf-8")


def _annotations(
    sample: Sample, image: int, first: int, names: list[str], polygons: bool
) -> list[dict[str, Any]]:
    """Return the annotations of an image; `names` are the category names so far."""
    if sample.labels is None:
        return []
    outlined = outlines(sample.labels) if polygons else {}
    masks = [(value, counts, 0) for value, counts in run_lengths(sample.labels).items()]
    if sample.ignore is not None and sample.ignore.any():
        masks.append((0, run_lengths(sample.ignore.astype(np.int32))[1], 1))
    found = []
    for i, (value, counts, crowd) in enumerate(masks):
        kind = 0
        if sample.classes is not None and not crowd:
            kind = names.index(sample.class_names[sample.classes[value - 1]])
        elif not crowd:
            kind = names.index("nucleus")
        about = recorded(counts, sample.labels.shape)
        if value in outlined and not crowd:
            about["segmentation"] = outlined[value]
        found.append(
            {
                "id": first + i, "image_id": image, "category_id": kind + 1, "iscrowd": crowd,
                **about,
            }
        )  # fmt: skip
    return found


def _write_mask(path: Path, mask: Bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)


def _write_polygons(samples: Iterable[Sample], out: Path) -> None:
    write_coco(samples, out, polygons=True)


def _write_shards(samples: Iterable[Sample], out: Path) -> None:
    write_shards(samples, out)


TARGETS: dict[str, Callable[[Iterable[Sample], Path], None]] = {
    "folder": write_folder,
    "coco": write_coco,
    "coco-polygons": _write_polygons,
    "shards": _write_shards,
}

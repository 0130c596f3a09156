"""Common parts of all data sets: entries that can be listed and read, and cards."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nucleate.annotations.doubts import doubtful_labels
from nucleate.errors import InputError
from nucleate.files import PathLike
from nucleate.folders import renamed, walk
from nucleate.types import Int32, Sample, UInt8

# suffixes of annotation files, longer ones first
_ANNOTATIONS = (
    ".geojson", ".geojson.gz", ".json", ".json.gz", ".xml", ".ndpa", ".csv", ".txt", ".zip", ".roi",
    ".qpdata",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a data set, before it is read.

    Attributes:
        name: unique in its data set.
        group: patient or slide; a split never divides a group.
        read: reads the image and its annotation.
        organ: organ, None if the data set does not state it.
        test_only: an official test image, which must not be used for training or selection.
    """

    name: str
    group: str
    read: Callable[[], Sample]
    organ: str | None = None
    test_only: bool = False


@dataclass(frozen=True, slots=True)
class DatasetCard:
    """Description, origin and licence of a data set.

    Attributes:
        title: full name.
        contents: contents, in a sentence.
        licence: SPDX expression or a sentence.
        citation: reference with DOI.
        where: how to get it.
        overlaps: how a pixel of two annotations is assigned.
        mpp: micrometres per pixel of all images, None if it differs or is not stated.
        size: (height, width) of all images, None if it differs.
        classes: names of the nucleus classes, which `Sample.classes` indexes.
        organs: organs in the data set.
        parts: name of a published part -> number of images and annotated nuclei; None if not
            published.
    """

    title: str
    contents: str
    licence: str
    citation: str
    where: str
    overlaps: str = "label images have one label per pixel"
    mpp: float | None = None
    size: tuple[int, int] | None = None
    classes: tuple[str, ...] = ("nucleus",)
    organs: tuple[str, ...] = ()
    parts: dict[str, tuple[int, int | None]] = field(default_factory=dict)


def open_root(path: Path) -> PathLike:
    """Return the path of a folder, or of the inside of a zip file.

    Raises:
        InputError: no such folder or zip file, or the zip file is damaged.
    """
    if path.is_dir():
        return path
    if not path.exists():
        raise InputError(
            f"{path}: there is no such folder or zip file. Check the path, or set data.root."
        )
    try:
        with zipfile.ZipFile(path) as archive:  # zipfile.Path would loop forever on some names
            names = archive.namelist()
        bad = next((name for name in names if name.startswith("/") or "//" in name), None)
        if bad is not None:
            raise InputError(
                f"{path}: contains an unsafe file name: {bad!r}. Create the zip file again."
            )
        return zipfile.Path(path)
    except zipfile.BadZipFile as error:
        raise InputError(
            f"{path}: neither a folder nor a valid zip file ({error}). Download it again."
        ) from error


def pair(
    root: Path,
    images: dict[str, PathLike],
    annotations: dict[str, PathLike],
    where: str,
    endings: tuple[str, ...] = (),
) -> list[tuple[str, PathLike, PathLike]]:
    """Pair images with annotations by name; return (name, image, annotation), sorted.

    Names that differ only in case or Unicode form match if the match is unique.

    Args:
        root: subject of error messages.
        images: name -> file.
        annotations: name -> file.
        where: how to get the data.
        endings: suffixes of annotations, for error messages.

    Raises:
        InputError: no images, an image without annotation, or the reverse.
    """
    if not images:
        raise InputError(f"{root}: contains no image of this data set. {where}")
    annotations = renamed(annotations, images)
    alone = sorted(images.keys() ^ annotations.keys())
    if alone:
        what = "annotation" if alone[0] in images else "image"
        more = f" (and {len(alone) - 1} more orphans)" if len(alone) > 1 else ""
        names = [name for name, _ in walk(open_root(root))]
        seen = endings_seen(names, endings) if endings and what == "annotation" else ""
        raise InputError(
            f"{root}: {alone[0]} has no {what}{more}. {seen}Unpack the data set again, or remove "
            "it."
        )
    return [(name, images[name], annotations[name]) for name in sorted(images)]


def endings_seen(names: list[str], wanted: tuple[str, ...]) -> str:
    """Return a sentence on the expected suffixes and those of other annotations, or "".

    Example:
        >>> endings_seen(["a.json", "b.json", "a.png"], (".geojson",))
        'nucleate looks for .geojson; there are 2 .json files. '
    """
    counts = Counter(end for name in names for end in _ANNOTATIONS if name.lower().endswith(end))
    others = [f"{n} {end} file{'s' * (n > 1)}" for end, n in counts.items() if end not in wanted]
    are = "is" if others and others[0].startswith("1 ") else "are"
    there = f"; there {are} {', '.join(others)}" if others else ""
    return f"nucleate looks for {' '.join(wanted)}{there}. "


def sample_doubts(sample: Sample) -> list[str]:
    """Return sentences about problems that affect results, without the image's name."""
    found = [] if sample.drawn is None else list(sample.drawn.problems)
    return found + ([] if sample.labels is None else doubtful_labels(sample.labels))


def check_size(annotation: object, labels: Int32, image: UInt8) -> None:
    """Raise an `InputError` unless labels and image have the same size."""
    if labels.shape != image.shape[:2]:
        raise InputError(
            f"{annotation}: the labels are {labels.shape[1]} × {labels.shape[0]} pixels, the "
            f"image is {image.shape[1]} × {image.shape[0]}. Export them at the image's size."
        )


def check_name(name: str) -> None:
    """Raise an `InputError` for an image name that would be written outside its folder."""
    parts = name.split("/")
    if not name or any(part in ("", ".", "..") for part in parts) or {"\\", "\0"} & set(name):
        raise InputError(f"{name[:80]!r}: not a valid file name. Rename the image.")

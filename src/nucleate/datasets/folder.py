"""Your own data: images below `images/`, label images of the same name below `labels/`.

The two folders may be at any depth and nested: `a/images/b/x.png` pairs with `a/labels/b/x.tif`.
Labels are integers, 0 is background, each nucleus has a separate number. Masks below `ignore/` mark
ignored areas. Images below `types/` give the type of each pixel of a nucleus, from 1. A
`nucleate.json` beside the folders may state groups, organs, resolution and classes; `nucleate data
convert --to folder` writes it. A CSV file may state resolutions.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from nucleate.annotations.label_images import LABEL_IMAGES, read_labels
from nucleate.datasets.base import DatasetCard, Entry, check_size, endings_seen, open_root
from nucleate.datasets.grouping import grouping
from nucleate.datasets.test_sets import is_official_test
from nucleate.errors import ConfigError, InputError, nearest
from nucleate.files import PathLike, read_bytes
from nucleate.folders import renamed, walk
from nucleate.geometry.labels import compact
from nucleate.readers.images import IMAGES, read_image
from nucleate.resolution import check_mpp, plausible_mpp, resolve_mpp
from nucleate.types import Int16, Int32, Sample

CARD = DatasetCard(
    title="Your own folder",
    contents="Images in images/ and label images (PNG, TIFF, NPY, MAT) in labels/ or masks/.",
    licence="yours",
    citation="yours",
    where="Put images below images/ and label images of the same name below labels/.",
)

_IMAGE_FOLDERS = ("images",)
_LABEL_FOLDERS = ("labels", "masks")
MANIFEST, FORMAT = "nucleate.json", "nucleate-folder-1"
FACTS = ("group", "mpp", "organ", "species", "centre", "class_names")


def entries(
    root: Path,
    mpp: float | None = None,
    group: str | None = None,
    override_mpp: bool = False,
    mpp_table: str | None = None,
    only: list[str] | None = None,
    classes: list[str] | None = None,
    channels: str = "rgb",
) -> list[Entry]:
    """List the images of a folder of images and labels.

    Args:
        root: folder or zip file that contains `images/` and, unless nothing is annotated,
            `labels/` or `masks/`, at any depth.
        mpp: micrometres per pixel of images that state none; None uses what each file states.
        group: regular expression whose first group, searched in the name, is the patient;
            None uses the group in `nucleate.json`, else each image is its own group.
        override_mpp: let `mpp` replace a different value of an image.
        mpp_table: CSV file in the folder, with the columns `name` (of an image, without suffix)
            and `mpp` (or one that starts with it, such as `mpp_guess`), and optionally `group`. Its
            values take precedence over `mpp` and the image.
        only: values of the table's column `group`; other images are omitted. None keeps all.
        classes: names of the types 1, 2, … in the images below `types/`; None reads no types.
        channels: rgb, or bgr for files with red and blue swapped, in which nuclei look brown and
            red blood cells blue.

    Returns:
        One entry per image, sorted by name.

    Raises:
        InputError: no images, an image without labels, labels without an image, or a missing or
            invalid table.
        ConfigError: `only` without a table or not in it; unknown `channels`; `group` is not a
            regular expression with one group, or does not match a name.
    """
    if channels not in ("rgb", "bgr"):
        raise ConfigError(f"channels = {channels!r}: unknown value. Use rgb or bgr.")
    if only is not None and mpp_table is None:
        raise ConfigError("only: needs a table of images. Name it with mpp_table.")
    there = _find(root, classes is not None, mpp_table)
    images, labels = there.images, _paired(root, there)
    find_group = grouping(group)
    rows = {} if mpp_table is None else _read_table(root, mpp_table, there.table)
    chosen = sorted(images) if only is None else _chosen(root, sorted(images), rows, only)
    found = []
    for key in chosen:
        known = there.facts.get(key, {})
        owner = find_group(key) if group is not None else str(known.get("group") or find_group(key))
        files = (images[key], labels.get(key), there.ignored.get(key), there.typed.get(key))
        row = _row(rows, key)
        settle = partial(resolve_mpp, given=mpp, override=override_mpp)
        if row is not None:
            settle = partial(resolve_mpp, given=row[0], override=True)
        if classes is not None:
            known = {**known, "class_names": tuple(classes)}
        read = _reader(key, owner, files, settle, known, channels == "bgr")
        found.append(Entry(key, owner, read, known.get("organ"), is_official_test(key)))
    return found


@dataclass(slots=True)
class _Files:
    """The files of a folder, by the name that images and labels share.

    Attributes:
        images: files below `images/`.
        labels: label images below `labels/` or `masks/`.
        ignored: masks below `ignore/`.
        typed: images below `types/`, if requested.
        strange: names of files below `labels/` that are not label images.
        facts: contents of `nucleate.json`.
        table: the CSV file, if requested.
    """

    images: dict[str, PathLike] = field(default_factory=dict)
    labels: dict[str, PathLike] = field(default_factory=dict)
    ignored: dict[str, PathLike] = field(default_factory=dict)
    typed: dict[str, PathLike] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    table: PathLike | None = None


def _find(root: Path, with_types: bool, mpp_table: str | None) -> _Files:
    """Find the files of a folder or zip file.

    Raises:
        InputError: two files have one name, or a `nucleate.json` is damaged.
    """
    found = _Files()
    tables = {
        **dict.fromkeys(_IMAGE_FOLDERS, (found.images, IMAGES)),
        **dict.fromkeys(_LABEL_FOLDERS, (found.labels, LABEL_IMAGES)),
        "ignore": (found.ignored, (".png",)),
        **({"types": (found.typed, (".png",))} if with_types else {}),
    }
    for name, file in walk(open_root(root)):
        if mpp_table is not None and f"/{name}".endswith(f"/{mpp_table}"):
            found.table = file
        if file.name == MANIFEST:  # its names are relative to its folder
            above = name.removesuffix(MANIFEST)
            found.facts |= {above + key: known for key, known in _read_facts(file).items()}
        path = PurePosixPath(name)
        kinds = [part.lower() for part in path.parts[:-1]]
        depth = next((i for i, part in enumerate(kinds) if part in tables), None)  # the outermost
        if depth is None:
            continue
        table, suffixes = tables[kinds[depth]]
        if path.suffix.lower() in suffixes:
            key = "/".join([*path.parts[:depth], *path.parts[depth + 1 : -1], path.stem])
            if key in table:
                raise InputError(
                    f"{root}: {table[key].name} and {file.name} are both named {key!r}. Remove one "
                    "of them."
                )
            table[key] = file
        elif table is found.labels:
            found.strange.append(name)
    return found


def _paired(root: Path, there: _Files) -> dict[str, PathLike]:
    """Return the label images by image name; none if nothing is labelled.

    Raises:
        InputError: no images, no label images among other files, or an orphan.
    """
    images = there.images
    if not images:
        raise InputError(f"{root}: contains no image below a folder images/. {CARD.where}")
    labels = renamed(there.labels, images)
    if there.strange and not labels:
        seen = endings_seen(there.strange, LABEL_IMAGES)
        raise InputError(
            f"{root}: no label image below labels/ or masks/. {seen}Convert them to label images, "
            "or use the data set type coco or qupath."
        )
    if labels and images.keys() != labels.keys():
        alone = sorted(images.keys() - labels.keys())
        orphan = sorted(labels.keys() - images.keys())
        said = (
            f"image {alone[0]!r} has no labels"
            if alone
            else (f"label image {orphan[0]!r} has no image")
        )
        more = len(alone) + len(orphan) - 1
        raise InputError(
            f"{root}: {said}{(f' (and {more} more without a partner)' if more else '')}. Give "
            "image and labels the same name, or remove the file."
        )
    return labels


def _reader(
    name: str,
    group: str,
    files: tuple[PathLike, PathLike | None, PathLike | None, PathLike | None],
    settle: Callable[[str, float | None], float | None],
    facts: dict[str, Any],
    is_bgr: bool,
) -> Callable[[], Sample]:
    image, labels, ignored, types = files

    def read() -> Sample:
        pixels, stated = read_image(image)
        if is_bgr:
            pixels = np.ascontiguousarray(pixels[..., ::-1])
        truth = None if labels is None else read_labels(labels)
        vague = None if ignored is None else read_labels(ignored)
        kinds = None if types is None else read_labels(types)
        for file, values in ((labels, truth), (ignored, vague), (types, kinds)):
            if values is not None:
                check_size(file, values, pixels)
        classes = facts.get("classes")
        if kinds is not None and truth is not None:
            truth, classes = _typed(name, truth, kinds, len(facts["class_names"]))
        written = plausible_mpp(facts.get("mpp"))
        return Sample(
            image=pixels,
            labels=truth,
            name=name,
            group=group,
            mpp=settle(name, stated if written is None else written),
            classes=None if classes is None else np.array(classes, np.int16).reshape(-1),
            class_names=tuple(facts.get("class_names", ())),
            ignore=None if vague is None else vague > 0,
            organ=facts.get("organ"),
            species=facts.get("species"),
            centre=facts.get("centre"),
        )

    return read


def _typed(name: str, labels: Int32, kinds: Int32, count: int) -> tuple[Int32, Int16]:
    """Return labels 1..n, and int16 (n,) the most common type of their pixels, from 0.

    Raises:
        InputError: a nucleus has no type, or one beyond `count`.

    Example:
        >>> labels, kinds = np.array([[7, 7, 9]], np.int32), np.array([[2, 2, 1]], np.int32)
        >>> [part.tolist() for part in _typed("a", labels, kinds, 2)]
        [[[1, 1, 2]], [1, 0]]
    """
    numbers, old = compact(labels)
    on = (numbers > 0) & (kinds > 0)
    if kinds.max(initial=0) > count:
        raise InputError(
            f"{name}: contains type {kinds.max()}, but classes names {count}. Name every type."
        )
    votes = np.zeros((len(old) + 1, count + 1), np.int64)
    np.add.at(votes, (numbers[on], kinds[on]), 1)
    bare = np.flatnonzero(votes[1:].sum(1) == 0)
    if len(bare):
        raise InputError(
            f"{name}: the nucleus {old[bare[0]]} has no type in types/. Add the type, or omit the "
            "option classes."
        )
    return numbers, (votes[1:].argmax(1) - 1).astype(np.int16)


def _read_table(
    root: Path, wanted: str, file: PathLike | None
) -> dict[str, tuple[float, str | None]]:
    """Read a table of images: name -> um/px and group.

    Raises:
        InputError: no such file, a column is missing, or a value is not a resolution.
    """
    if file is None:
        raise InputError(f"{root}: contains no table {wanted!r}. Check the option mpp_table.")
    try:
        rows = list(csv.DictReader(read_bytes(file, 1 << 28).decode("utf-8-sig").splitlines()))
        column = next(c for c in (rows[0] if rows else {}) if str(c).startswith("mpp"))
        return {row["name"]: (check_mpp(float(row[column])), row.get("group")) for row in rows}
    except (ValueError, LookupError, StopIteration, TypeError, csv.Error) as error:
        raise InputError(
            f"{file}: not a table with the columns name and mpp and a number in each row. Correct "
            "it, or omit mpp_table."
        ) from error


def _row(rows: dict[str, tuple[float, str | None]], key: str) -> tuple[float, str | None] | None:
    """Return the row of an image, which the table may name with or without its folders."""
    return rows.get(key, rows.get(PurePosixPath(key).name))


def _chosen(
    root: Path, keys: list[str], rows: dict[str, tuple[float, str | None]], only: list[str]
) -> list[str]:
    """Select the images whose group in the table is one of `only`.

    Raises:
        ConfigError: the table has no such group.
    """
    groups = {key: (_row(rows, key) or (0.0, None))[1] for key in keys}
    known = sorted({group for group in groups.values() if group})
    for group in only:
        if group not in known:
            raise ConfigError(
                f"{root}: only: unknown group {group!r} in the table. {nearest(str(group), known)}"
            )
    return [key for key in keys if groups[key] in only]


def _read_facts(file: PathLike) -> dict[str, dict[str, Any]]:
    """Read a `nucleate.json`: name -> facts.

    Raises:
        InputError: not JSON, or not of this format.
    """
    try:
        content = json.loads(read_bytes(file, 1 << 28))
        if content["format"] != FORMAT:
            raise ValueError(f"the format {str(content['format'])[:40]!r}")
        images = {str(name): dict(facts) for name, facts in content["images"].items()}
        for facts in images.values():
            np.array(facts.get("classes") or [], np.int16)
            if not all(isinstance(n, str) for n in facts.get("class_names", ())):
                raise TypeError("a class name that is not text")
            for key in ("group", "organ", "species", "centre"):
                if not isinstance(facts.get(key), str | None):
                    raise TypeError(f"a {key} that is not text")
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError,
            RecursionError) as error:  # fmt: skip
        said = f"{type(error).__name__}: {error}"[:160].rstrip(".")
        raise InputError(
            f"{file}: not an index of images ({said}). Remove it, or convert the data again."
        ) from error
    return images

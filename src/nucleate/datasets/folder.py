"""A user's own data: pictures below `images/`, label images of the same name below `labels/`.

The two folders may lie at any depth and be nested at will: `a/images/b/x.png` belongs to
`a/labels/b/x.tif`. Labels are integers, 0 is background, each nucleus has a number of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from nucleate.datasets.entry import DatasetCard, Entry, open_root, walk
from nucleate.datasets.monuseg import is_official_test
from nucleate.errors import ConfigError, InputError
from nucleate.io.images import LABEL_IMAGES, PICTURES, PathLike, read_image, read_labels
from nucleate.types import Sample

CARD = DatasetCard(
    title="Your own folder",
    contents="Pictures in images/ and label images (PNG, TIFF, NPY, MAT) in labels/ or masks/.",
    licence="yours",
    citation="yours",
    where="Put pictures below images/ and label images of the same name below labels/.",
)

_IMAGE_FOLDERS = ("images",)
_LABEL_FOLDERS = ("labels", "masks")


def entries(root: Path, mpp: float | None = None, group: str | None = None) -> list[Entry]:
    """Return the pictures of a folder of images and labels.

    Args:
        root: folder or zip file that holds `images/` and, unless there are no annotations at all,
            `labels/` or `masks/`, at any depth.
        mpp: micrometres per pixel of all pictures; None takes what each file states.
        group: regular expression whose first group, searched in the name, is the patient;
            None makes every picture its own group.

    Returns:
        One entry per picture, sorted by name.

    Raises:
        InputError: no pictures, a picture without labels, or labels without a picture.
        ConfigError: `group` is no regular expression with one group, or does not match a name.
    """
    images: dict[str, PathLike] = {}
    labels: dict[str, PathLike] = {}
    for name, file in walk(open_root(root)):
        path = PurePosixPath(name)
        suffix = path.suffix.lower()
        kinds = [part.lower() for part in path.parts[:-1]]
        for table, folders, suffixes in (
            (images, _IMAGE_FOLDERS, PICTURES),
            (labels, _LABEL_FOLDERS, LABEL_IMAGES),
        ):
            depth = next((i for i, part in enumerate(kinds) if part in folders), None)
            if depth is not None and suffix in suffixes:
                key = "/".join([*path.parts[:depth], *path.parts[depth + 1 : -1], path.stem])
                if key in table:
                    raise InputError(
                        f"{root}: {table[key].name} and {file.name} both stand for {key!r}. "
                        "Remove one of them."
                    )
                table[key] = file
                break
    if not images:
        raise InputError(f"{root}: holds no picture below a folder images/. {CARD.where}")
    if labels and images.keys() != labels.keys():
        alone = sorted(images.keys() - labels.keys())
        orphan = sorted(labels.keys() - images.keys())
        said = (
            f"picture {alone[0]!r} has no labels"
            if alone
            else (f"label image {orphan[0]!r} has no picture")
        )
        more = len(alone) + len(orphan) - 1
        raise InputError(
            f"{root}: {said}{f' (and {more} more orphans)' if more else ''}. "
            "Give both the same name, or remove it."
        )
    find_group = _grouping(group)
    return [
        Entry(
            name=key,
            test_only=is_official_test(key),
            group=find_group(key),
            read=_reader(key, find_group(key), images[key], labels.get(key), mpp),
        )
        for key in sorted(images)
    ]


def _reader(
    name: str, group: str, image: PathLike, labels: PathLike | None, mpp: float | None
) -> Callable[[], Sample]:
    def read() -> Sample:
        pixels, stated = read_image(image)
        truth = None if labels is None else read_labels(labels)
        if truth is not None and truth.shape != pixels.shape[:2]:
            raise InputError(
                f"{labels}: the labels are {truth.shape[1]} × {truth.shape[0]} pixels, the picture "
                f"is {pixels.shape[1]} × {pixels.shape[0]}. Export them at the size of the picture."
            )
        return Sample(
            image=pixels, labels=truth, name=name, group=group, mpp=stated if mpp is None else mpp
        )

    return read


def _grouping(pattern: str | None) -> Callable[[str], str]:
    if pattern is None:
        return lambda name: name
    if not isinstance(pattern, str):
        raise ConfigError(f"group: {pattern!r} must be a regular expression, in quotes.")
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"group: {pattern!r} is no regular expression ({error}).") from error
    if compiled.groups != 1:
        raise ConfigError(f"group: {pattern!r} must have exactly one group in parentheses.")

    def find(name: str) -> str:
        match = compiled.search(name)
        if match is None:
            raise ConfigError(f"group: {pattern!r} does not match {name!r}. Widen the pattern.")
        return match.group(1)

    return find

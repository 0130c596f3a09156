"""A user's own data: pictures below `images/`, label images of the same name below `labels/`.

The two folders may lie at any depth and be nested at will: `a/images/b/x.png` belongs to
`a/labels/b/x.tif`. Labels are integers, 0 is background, each nucleus has a number of its own.
Masks below `ignore/` mark areas that count for nobody. A `nucleate.json` beside the folders may
state groups, organs, resolution and classes; `nucleate data convert --to folder` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from nucleate.annotations.label_images import LABEL_IMAGES, read_labels
from nucleate.datasets.base import DatasetCard, Entry, check_size, open_root
from nucleate.datasets.grouping import grouping
from nucleate.datasets.test_sets import is_official_test
from nucleate.errors import InputError
from nucleate.files import PathLike, read_bytes, walk
from nucleate.readers.images import PICTURES, read_image
from nucleate.readers.metadata import plausible_mpp
from nucleate.resolution import resolve_mpp
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
MANIFEST, FORMAT = "nucleate.json", "nucleate-folder-1"
FACTS = ("group", "mpp", "organ", "species", "centre", "class_names")


def entries(
    root: Path,
    mpp: float | None = None,
    group: str | None = None,
    override_mpp: bool = False,
) -> list[Entry]:
    """Return the pictures of a folder of images and labels.

    Args:
        root: folder or zip file that holds `images/` and, unless there are no annotations at all,
            `labels/` or `masks/`, at any depth.
        mpp: micrometres per pixel of pictures that state none; None takes what each file states.
        group: regular expression whose first group, searched in the name, is the patient;
            None takes the group in `nucleate.json`, else makes every picture its own group.
        override_mpp: whether `mpp` counts although a picture states another value.

    Returns:
        One entry per picture, sorted by name.

    Raises:
        InputError: no pictures, a picture without labels, or labels without a picture.
        ConfigError: `group` is no regular expression with one group, or does not match a name.
    """
    images: dict[str, PathLike] = {}
    labels: dict[str, PathLike] = {}
    ignored: dict[str, PathLike] = {}
    facts: dict[str, dict[str, Any]] = {}
    for name, file in walk(open_root(root)):
        if file.name == MANIFEST:  # its names count from where it lies
            above = name.removesuffix(MANIFEST)
            facts |= {above + key: known for key, known in _read_facts(file).items()}
        path = PurePosixPath(name)
        suffix = path.suffix.lower()
        kinds = [part.lower() for part in path.parts[:-1]]
        tables = {
            **dict.fromkeys(_IMAGE_FOLDERS, (images, PICTURES)),
            **dict.fromkeys(_LABEL_FOLDERS, (labels, LABEL_IMAGES)),
            "ignore": (ignored, (".png",)),
        }
        depth = next((i for i, part in enumerate(kinds) if part in tables), None)  # the outermost
        if depth is None:
            continue
        table, suffixes = tables[kinds[depth]]
        if suffix in suffixes:
            key = "/".join([*path.parts[:depth], *path.parts[depth + 1 : -1], path.stem])
            if key in table:
                raise InputError(
                    f"{root}: {table[key].name} and {file.name} both stand for {key!r}. "
                    "Remove one of them."
                )
            table[key] = file
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
    find_group = grouping(group)
    found = []
    for key in sorted(images):
        known = facts.get(key, {})
        owner = find_group(key) if group is not None else str(known.get("group") or find_group(key))
        files = (images[key], labels.get(key), ignored.get(key))
        settle = partial(resolve_mpp, given=mpp, override=override_mpp)
        read = _reader(key, owner, files, settle, known)
        found.append(Entry(key, owner, read, known.get("organ"), is_official_test(key)))
    return found


def _reader(
    name: str,
    group: str,
    files: tuple[PathLike, PathLike | None, PathLike | None],
    settle: Callable[[str, float | None], float | None],
    facts: dict[str, Any],
) -> Callable[[], Sample]:
    image, labels, ignored = files

    def read() -> Sample:
        pixels, stated = read_image(image)
        truth = None if labels is None else read_labels(labels)
        vague = None if ignored is None else read_labels(ignored)
        for file, values in ((labels, truth), (ignored, vague)):
            if values is not None:
                check_size(file, values, pixels)
        classes = facts.get("classes")
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


def _read_facts(file: PathLike) -> dict[str, dict[str, Any]]:
    """Return name -> facts of a `nucleate.json`.

    Raises:
        InputError: not JSON, or of another kind.
    """
    try:
        content = json.loads(read_bytes(file, 1 << 28))
        if content["format"] != FORMAT:
            raise ValueError(f"the format {str(content['format'])[:40]!r}")
        pictures = {str(name): dict(facts) for name, facts in content["pictures"].items()}
        for facts in pictures.values():
            np.array(facts.get("classes") or [], np.int16)
            if not all(isinstance(n, str) for n in facts.get("class_names", ())):
                raise TypeError("a class name that is no text")
            for key in ("group", "organ", "species", "centre"):
                if not isinstance(facts.get(key), str | None):
                    raise TypeError(f"a {key} that is no text")
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError,
            RecursionError) as error:  # fmt: skip
        said = f"{type(error).__name__}: {error}"[:160].rstrip(".")
        raise InputError(
            f"{file}: not a description of pictures ({said}). Remove it, or convert the data again."
        ) from error
    return pictures

"""The layout of HoVer-Net's authors: `Images/NAME.png` and `Labels/NAME.mat`.

CoNSeP is published in it; Kumar and CPM-17 are widely distributed in it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np

from nucleate.annotations.label_images import as_labels
from nucleate.annotations.matlab import read_mat
from nucleate.datasets.base import DatasetCard, Entry, check_size, open_root, pair
from nucleate.datasets.test_sets import is_official_test
from nucleate.errors import InputError
from nucleate.files import PathLike
from nucleate.folders import walk
from nucleate.geometry.labels import compact
from nucleate.readers.images import read_image
from nucleate.types import Int16, Int32, Sample

_IMAGES = (".png", ".tif", ".jpg")


def find(
    root: Path,
    card: DatasetCard,
    describe: Callable[[str], tuple[str, str | None]],
    mpp: float,
    names: tuple[str, ...],
) -> list[Entry]:
    """List the images of a tree of `Images/` and `Labels/`.

    Images below a folder whose name starts with `test` are the official test part.

    Args:
        root: folder or zip file; the two folders may be at any depth, and occur several times.
        card: the data set's card.
        describe: path of an image below `root`, without its suffix -> group and organ.
        mpp: micrometres per pixel.
        names: class names in the label files; none reads no classes.

    Raises:
        InputError: no images, an image without labels, or the reverse.
    """
    images: dict[str, PathLike] = {}
    labels: dict[str, PathLike] = {}
    for name, file in walk(open_root(root)):
        path = PurePosixPath(name)
        above = path.parent.name.lower()
        key = str(path.parent.parent / path.stem)
        if above == "images" and path.suffix.lower() in _IMAGES:
            images[key] = file
        elif above == "labels" and path.suffix.lower() == ".mat":
            labels[key] = file
    result = []
    for name, image, truth in pair(root, images, labels, card.where):
        group, organ = describe(name)
        read = _reader(name, group, organ, (image, truth), mpp, names)
        test = name.lower().startswith("test") or is_official_test(name)
        result.append(Entry(name, group, read, organ, test))
    return result


def _reader(
    name: str,
    group: str,
    organ: str | None,
    files: tuple[PathLike, PathLike],
    mpp: float,
    names: tuple[str, ...],
) -> Callable[[], Sample]:
    image, truth = files

    def read() -> Sample:
        pixels, _ = read_image(image)
        labels, classes = read_typed(truth, len(names))
        check_size(truth, labels, pixels)
        return Sample(
            image=pixels,
            labels=labels,
            name=name,
            group=group,
            mpp=mpp,
            classes=classes,
            class_names=names if classes is not None else (),
            organ=organ,
            species="human",
        )

    return read


def read_typed(path: PathLike, types: int) -> tuple[Int32, Int16 | None]:
    """Read labels 1..n and their classes 0..types - 1 from a `.mat` file.

    `inst_type` lists the types in ascending order of the ids; if it is missing or of another
    length, each nucleus gets the most common type of its pixels in `type_map`.

    Raises:
        InputError: the file cannot be read, contains no `inst_map`, or an unknown type.
    """
    found = read_mat(path, ("inst_map",), ("inst_type", "type_map"))
    labels, old = compact(as_labels(path, found["inst_map"]))
    if not types or not found.keys() & {"inst_type", "type_map"}:
        return labels, None
    if not len(old):
        return labels, np.zeros(0, np.int16)
    kinds = found.get("inst_type", np.zeros(0)).reshape(-1)
    if len(kinds) != len(old):
        kinds = _commonest(path, labels, found.get("type_map"), len(old))
    if kinds.dtype.kind not in "iu" or ((kinds < 1) | (kinds > types)).any():
        raise InputError(
            f"{path}: contains nucleus types other than 1 to {types}. Check the option types, or "
            "download the file again."
        )
    return labels, (kinds - 1).astype(np.int16)


def _commonest(
    path: PathLike, labels: Int32, type_map: np.ndarray | None, count: int
) -> np.ndarray:
    if type_map is None or type_map.shape != labels.shape or type_map.dtype.kind not in "iu":
        raise InputError(
            f"{path}: 'inst_type' does not list one type per nucleus, and there is no 'type_map'. "
            "Download the file again."
        )
    inside = (labels > 0) & (type_map > 0) & (type_map < 64)
    votes = np.zeros((count + 1, 64), np.int64)
    np.add.at(votes, (labels[inside], type_map[inside].astype(np.int64)), 1)
    return np.asarray(votes[1:].argmax(axis=1))

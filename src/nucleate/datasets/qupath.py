"""QuPath: images with a GeoJSON file of the same name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from nucleate.annotations.geojson import read_objects
from nucleate.annotations.outline_file import draw_file
from nucleate.datasets.base import DatasetCard, Entry, open_root, pair
from nucleate.datasets.grouping import grouping
from nucleate.datasets.test_sets import is_official_test
from nucleate.errors import ConfigError, InputError
from nucleate.files import PathLike
from nucleate.folders import walk
from nucleate.readers.images import IMAGES, read_image
from nucleate.resolution import resolve_mpp
from nucleate.types import Int16, Int64, Sample

CARD = DatasetCard(
    title="QuPath GeoJSON",
    contents="Images, and for each a .geojson (or .geojson.gz) of the same name with one polygon "
    "per nucleus; classifications become classes.",
    licence="yours",
    citation="Bankhead et al. 2017, QuPath, doi:10.1038/s41598-017-17204-5 (the software)",
    where="In QuPath: File > Export objects as GeoJSON, as a FeatureCollection, under the name of "
    "the image.",
    overlaps="the earlier polygon keeps the pixel",
)

_ENDINGS = (".geojson", ".geojson.gz")


def entries(
    root: Path,
    mpp: float | None = None,
    group: str | None = None,
    classes: list[str] | None = None,
    override_mpp: bool = False,
) -> list[Entry]:
    """List the images that have a GeoJSON file.

    Args:
        root: folder or zip file; image and GeoJSON may be in different folders.
        mpp: micrometres per pixel; None uses what each image states.
        group: regular expression whose first group, searched in the name, is the patient; None
            makes each image its own group.
        classes: names of QuPath's classes, in the wanted order; None reads none.
        override_mpp: let `mpp` replace a different value of an image.

    Raises:
        InputError: no images, an image without GeoJSON, or the reverse.
        ConfigError: `group` is not a regular expression with one group, or does not match a name.
    """
    if classes is not None and (
        not isinstance(classes, list) or not all(isinstance(c, str) for c in classes)
    ):
        raise ConfigError(f"classes = {classes!r}: must be a list of names.")
    images: dict[str, PathLike] = {}
    outlines: dict[str, PathLike] = {}
    for name, file in walk(open_root(root)):
        lower = name.lower()
        if lower.endswith(_ENDINGS):
            table, stem = outlines, PurePosixPath(name[: lower.rindex(".geojson")]).name
        elif lower.endswith(IMAGES):
            table, stem = images, PurePosixPath(name).stem
        else:
            continue
        if stem in table:
            raise InputError(f"{root}: two files are named {stem!r}. Remove one of them.")
        table[stem] = file
    find = grouping(group)
    settle = partial(resolve_mpp, given=mpp, override=override_mpp)
    return [
        Entry(
            name=name,
            group=find(name),
            read=_reader(name, find(name), (image, truth), settle, classes),
            test_only=is_official_test(name),
        )
        for name, image, truth in pair(root, images, outlines, CARD.where, _ENDINGS)
    ]


def _reader(
    name: str,
    group: str,
    files: tuple[PathLike, PathLike],
    settle: Callable[[str, float | None], float | None],
    classes: list[str] | None,
) -> Callable[[], Sample]:
    image, truth = files

    def read() -> Sample:
        pixels, stated = read_image(image)
        file = read_objects(truth)
        labels, owners, drawn = draw_file(truth, file, pixels.shape[:2])
        return Sample(
            image=pixels,
            labels=labels,
            name=name,
            group=group,
            mpp=settle(name, stated),
            classes=None if classes is None else _classes(truth, file.names, owners, classes),
            class_names=tuple(classes or ()),
            drawn=drawn,
        )

    return read


def _classes(path: PathLike, names: list[str], owners: Int64, known: list[str]) -> Int16:
    """Return the class of each label.

    Raises:
        InputError: a nucleus has a class that is not in the list.
    """
    found = [names[i] for i in owners]
    strange = next((name for name in found if name not in known), None)
    if strange is not None:
        raise InputError(
            f"{path}: a nucleus has the class {strange!r}, which is not in classes "
            f"({', '.join(known)}). Add the class to classes, or classify the nucleus again."
        )
    return np.array([known.index(name) for name in found], np.int16)

"""Annotation files (label images, outlines or results) → labels, and their resolution."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nucleate.annotations.aperio_xml import read_aperio_regions
from nucleate.annotations.doubts import doubtful_labels
from nucleate.annotations.geojson import read_objects
from nucleate.annotations.label_images import LABEL_IMAGES, read_labels
from nucleate.annotations.outline_file import OutlineFile, draw_file, kind_of_json_bytes
from nucleate.datasets.base import endings_seen
from nucleate.errors import InputError
from nucleate.files import read_bytes
from nucleate.folders import walk
from nucleate.readers.metadata import stated_tiff_mpp
from nucleate.resolution import SAME_MPP, check_mpp, plausible_mpp
from nucleate.results.labels import label_rows
from nucleate.results.names import LABELS, OWN_IMAGES, PARQUET
from nucleate.results.parquet import open_nuclei
from nucleate.types import Int32

_OUTLINES: dict[str, Callable[[Path], OutlineFile]] = {
    ".geojson": read_objects,
    ".geojson.gz": read_objects,
    ".xml": read_aperio_regions,
}
_KNOWN = (*LABEL_IMAGES, *_OUTLINES, PARQUET)
_APERIO_MPP = re.compile(rb"""<Annotations\b[^>]*\bMicronsPerPixel=["']([0-9.]+)["']""")
_MOST_PIXELS = 1 << 30  # limit for drawing a result in memory


def annotation_files(path: Path) -> dict[str, Path]:
    """Return stem -> annotation file, for a folder or a single file.

    If several files share a name, the label image is preferred, then the result, then the outlines.
    The other images that `segment` writes are not annotations.

    Raises:
        InputError: no such file or folder, no annotation in it, or two with the same name.
    """
    if path.is_file():
        return {_stem(path.name): path}
    if not path.is_dir():
        raise InputError(f"{path}: there is no such file or folder. Check the path.")
    names = {Path(str(file)): name for name, file in walk(path, (".zarr",))}
    files = list(names)
    shown = tuple(ending for ending in OWN_IMAGES if ending != LABELS)
    labels = [f for f in files if f.suffix.lower() in LABEL_IMAGES and not f.name.endswith(shown)]
    outlines = [f for f in files if _outline_reader(f)]
    results = [f for f in files if f.name.endswith(PARQUET)]
    stems = [_stem(names[f]) for f in labels]
    twice = next((stem for stem in stems if stems.count(stem) > 1), None)
    if twice is not None:
        raise InputError(f"{path}: two label images have the name {twice!r}. Remove one of them.")
    found = {_stem(names[f]): f for f in [*outlines, *results, *labels]}
    if not found:
        seen = endings_seen(list(names.values()), _KNOWN).rstrip()
        raise InputError(f"{path}: contains no annotation: {seen} Convert or rename them.")
    return found


def read_pair(truth: Path, pred: Path) -> tuple[Int32, Int32, list[str]]:
    """Read the labels of two files; outlines are drawn at the size of the other file.

    Returns:
        The labels of truth and prediction, and sentences about doubtful files.

    Raises:
        InputError: a file cannot be read, or both are outlines.
    """
    readers = {file: _outline_reader(file) for file in (truth, pred)}
    labels = {file: _labels(file) for file, read in readers.items() if read is None}
    if not labels:
        raise InputError(
            f"{truth}: both results are outlines, so the size of the image is unknown. Name a "
            "label image for one of them."
        )
    height, width = next(iter(labels.values())).shape
    doubts = []
    for file, read in readers.items():
        if read is not None:
            labels[file], _, drawn = draw_file(file, read(file), (height, width))
            doubts += [f"{file}: {problem}" for problem in drawn.problems]
        elif not file.name.endswith(PARQUET):
            doubts += [f"{file}: {doubt}" for doubt in doubtful_labels(labels[file])]
    return labels[truth], labels[pred], doubts


def common_mpp(truth: Path, pred: Path, given: float | None) -> float | None:
    """Return the resolution of an image: the given one, else that stated by truth or prediction.

    Returns:
        Micrometres per pixel, or None if unknown.

    Raises:
        InputError: two of the three differ by more than 5 %.
    """
    stated: list[tuple[str, float]] = [] if given is None else [("--mpp", check_mpp(given))]
    for file in dict.fromkeys((truth, pred)):
        mpp = stated_mpp(file)
        stated += [] if mpp is None else [(str(file), mpp)]
    for i, (other, theirs) in enumerate(stated):
        for name, mpp in stated[i + 1 :]:
            if abs(mpp / theirs - 1) > SAME_MPP:
                raise InputError(
                    f"{name}: states {mpp:.4g} um/px, but {other} states {theirs:.4g}. Compare "
                    "images of one resolution, or correct the wrong value."
                )
    return stated[0][1] if stated else None


def stated_mpp(file: Path) -> float | None:
    """Return the micrometres per pixel stated by an annotation, or by the result beside it.

    Raises:
        InputError: the file cannot be read.
    """
    name, mpp = file.name.lower(), None
    if name.endswith(PARQUET):
        return open_nuclei(file).frame.mpp
    if name.endswith((".tif", ".tiff")):
        mpp = stated_tiff_mpp(file)
    elif name.endswith(".xml"):
        found = _APERIO_MPP.search(read_bytes(file)[:4096])
        mpp = plausible_mpp(found.group(1).decode()) if found else None
    beside = result_beside(file)
    return open_nuclei(beside).frame.mpp if mpp is None and beside is not None else mpp


def result_beside(file: Path) -> Path | None:
    """Return the .nuclei.parquet of the same image in the same folder, or None."""
    result = file.with_name(_stem(file.name) + PARQUET)
    return result if result.is_file() else None


def _labels(file: Path) -> Int32:
    if not file.name.endswith(PARQUET):
        if not file.name.lower().endswith(LABEL_IMAGES):
            is_json = file.name.lower().endswith(".json")
            kind = kind_of_json_bytes(read_bytes(file)) if is_json else ""
            remedy = "Rename it to .geojson." if kind == "GeoJSON" else "Convert it to one of them."
            raise InputError(
                f"{file}: {kind or 'not a supported annotation'}; nucleate reads "
                f"{' '.join(_KNOWN)}. {remedy}"
            )
        return read_labels(file)
    found = open_nuclei(file)
    if found.frame.width * found.frame.height > _MOST_PIXELS:
        raise InputError(
            f"{file}: {found.frame.width} × {found.frame.height} pixels are too many to compare in "
            "memory. Export smaller regions."
        )
    return np.concatenate(list(label_rows(found)))


def _stem(name: str) -> str:
    if name.endswith(PARQUET):
        return name.removesuffix(PARQUET)
    name = name.removesuffix(".gz")
    name = name[: name.rfind(".")] if "." in name else name
    return name.removesuffix(".labels")


def _outline_reader(file: Path) -> Callable[[Path], OutlineFile] | None:
    name = file.name.lower()
    return next((read for suffix, read in _OUTLINES.items() if name.endswith(suffix)), None)

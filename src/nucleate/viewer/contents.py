"""Open the images and results to show, which are only those named on the command line."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from nucleate.annotations.label_images import read_labels
from nucleate.errors import ConfigError, InputError
from nucleate.evaluation.metrics.matching import Overlap
from nucleate.evaluation.metrics.nucleus_errors import PRED_OUTCOMES, TRUTH_OUTCOMES, outcomes
from nucleate.folders import walk
from nucleate.geometry.labels import boxes_areas, compact, largest_pieces
from nucleate.geometry.outlines import centroids_xy, trace
from nucleate.readers.opening import open_source
from nucleate.readers.source import Source
from nucleate.results.labels import label_rows
from nucleate.results.names import PARQUET
from nucleate.results.parquet import NucleiFile, open_nuclei, writer
from nucleate.results.summary import SUMMARY, read_summary
from nucleate.slides.find_sources import result_stems
from nucleate.types import Frame, Instances, Int32
from nucleate.viewer.pixels import Pyramid
from nucleate.viewer.table import Table

Tell = Callable[[str], None]
_DEEPEST = 8  # number of parent folders in which the summary of a result is searched


@dataclass(slots=True)
class Content:
    """One image with its results.

    Attributes:
        name: name of the image, or of the result if there is no image.
        frame: frame of level 0.
        pixels: pixels of the image; None if there is no image.
        layers: up to two results, name -> nuclei.
        note: message about it on the page.
    """

    name: str
    frame: Frame
    pixels: Pyramid | None
    layers: dict[str, Table]
    note: str = ""

    def look(self) -> None:
        """Open the image; if that fails, show its nuclei with a note."""
        try:
            _ = self.pixels and self.pixels.source
        except InputError as error:
            self.pixels, self.note = None, str(error)


def open_contents(
    paths: Sequence[Path], truth: Path | None, scratch: Path, tell: Tell
) -> list[Content]:
    """Open images and results, and match them by name.

    Args:
        paths: images, slides, `.nuclei.parquet` files, folders written by `nucleate segment`.
        truth: ground truth of a single result, as label image or `.nuclei.parquet`.
        scratch: folder for temporary files.
        tell: called with messages about slow steps.

    Raises:
        ConfigError: there is nothing to show, or ground truth is given without a single result.
        InputError: a file is missing, damaged or of an unknown kind.
    """
    sources: dict[str, Path] = {}
    results: dict[str, list[Path]] = {}
    images: list[Path | str] = []
    for path in paths:
        for name, found in _expand(path):
            if name.endswith(PARQUET):
                results.setdefault(name.removesuffix(PARQUET), []).append(found)
            else:
                images.append(found)
    for image, stem in result_stems(images).items():
        sources[stem] = Path(image)
    for stem, image in sources.items():
        if stem not in results and PurePath(stem).name in results:
            raise ConfigError(
                f"{image}: another image has the same name, so that their results are ambiguous. "
                "View them one by one, or pass the folder of both results."
            )
    stems = list(dict.fromkeys([*sources, *results]))
    if not stems:
        raise ConfigError("There is nothing to show. Pass an image, a slide or a result.")
    if len(sources) == 1 and len(results) == 1 and stems[0] not in results:
        results = {stems[0]: next(iter(results.values()))}  # one of each: they match
        stems = stems[:1]
    shown = [_one(stem, sources.get(stem), results.get(stem, []), tell) for stem in stems]
    if truth is not None:
        if len(shown) != 1 or len(shown[0].layers) != 1:
            raise ConfigError(
                "--truth requires exactly one result of one image. Pass only that result."
            )
        _judge(shown[0], truth, scratch, tell)
    return shown


def _expand(path: Path) -> list[tuple[str, Path]]:
    """Return name and path of the files of one command-line argument."""
    if not path.is_dir() or path.suffix.lower() == ".zarr":
        return [(path.name, path)]
    files = walk(path, (".zarr",))
    found = [(name, Path(str(file))) for name, file in files if name.endswith(PARQUET)]
    if not found:
        raise InputError(
            f"{path}: the folder contains no *{PARQUET}. Pass a folder written by nucleate segment."
        )
    return found


def _one(stem: str, path: Path | None, results: list[Path], tell: Tell) -> Content:
    files = [open_nuclei(result) for result in results]
    if len(files) > 2:
        raise ConfigError(
            f"{stem}: {len(files)} results; at most two can be compared. Pass two of them."
        )
    note, named = "", path is not None
    if path is None:
        path, note = _image_of(files[0])
        if note:
            tell(note)
    pixels = None if path is None else Pyramid(partial(_open_fitting, path, files))
    if pixels is not None and named:
        _ = pixels.source  # named files must exist; other images are opened on demand
    frame = files[0].frame if files else _frame(pixels)
    layers: dict[str, Table] = {}
    for file in files:
        tell(f"{file.path}: {file.count:,} nuclei")
        name = stem if len(files) == 1 else f"{file.path.parent.name}/{stem}"
        layers[name if name not in layers else f"{name} (2)"] = Table(file)
    return Content(stem, frame, pixels, layers, note)


def _open_fitting(path: Path, files: list[NucleiFile]) -> Source:
    """Open the image of some results.

    Raises:
        InputError: it cannot be read, or its size differs from that in the results.
    """
    source = open_source(path)
    for file in files:
        if (file.frame.width, file.frame.height) != (source.width, source.height):
            raise InputError(
                f"{file.path}: belongs to an image of {file.frame.width} × {file.frame.height} "
                f"pixels, but {source.name} has {source.width} × {source.height}. Pass the image "
                "that was segmented."
            )
    return source


def _image_of(file: NucleiFile) -> tuple[Path | None, str]:
    """Return the path of the image of a result; if not found, None and a message.

    It is searched next to the result, next to its folder, and at the path in `summary.json`.
    """
    name = str(file.facts.get("source", ""))
    if name not in ("", "..") and name == Path(name).name:  # a plain file name
        beside = [folder / name for folder in (file.path.parent, file.path.parent.parent)]
        for found in (*beside, *_stated(file, name)):
            if found.exists():
                return found, ""
    return None, (
        f"{file.path.name}: the image {name or 'of this result'} is neither next to it nor at the "
        "path in summary.json. Start nucleate view with the image and the result."
    )


def _stated(file: NucleiFile, name: str) -> list[Path]:
    """Return the paths of an image called `name` in the summaries of a result's folders."""
    places: list[Path] = []
    for folder in file.path.resolve().parents[:_DEEPEST]:
        if not (folder / SUMMARY).is_file():
            continue
        try:
            rows = read_summary(folder)["sources"]
        except InputError:  # from another program, or damaged
            continue
        below = file.path.resolve().relative_to(folder).as_posix()
        for row in rows:
            source = row["source"]
            if row.get("files", {}).get("parquet") == below and Path(source).name == name:
                places += [Path(source), folder / source, folder.parent / source]
    return places


def _frame(pixels: Pyramid | None) -> Frame:
    if pixels is None:
        raise ConfigError("There is nothing to show. Pass an image, a slide or a result.")
    source = pixels.source
    return Frame(source.width, source.height, source.mpp, source.origin_xy)


def keep(nuclei: Instances, path: Path, source: str) -> NucleiFile:
    """Write nuclei to a file and open it."""
    with writer(path, nuclei, {"source": source}) as file:
        file.write(nuclei)
    return open_nuclei(path)


def _judge(shown: Content, truth: Path, scratch: Path, tell: Tell) -> None:
    """Add the ground truth as a layer, and the outcome of each nucleus as a column."""
    (name, table), *_ = shown.layers.items()
    if truth.name.endswith(PARQUET):
        true = open_nuclei(truth)
        height, width = true.frame.height, true.frame.width
    else:
        labels = read_labels(truth)
        height, width = labels.shape
    if (height, width) != (shown.frame.height, shown.frame.width):
        raise InputError(
            f"{truth}: {width} × {height} pixels, but the image has {shown.frame.width} × "
            f"{shown.frame.height}. Pass the ground truth of this image."
        )
    if not truth.name.endswith(PARQUET):
        true = keep(_traced(labels, shown.frame), scratch / "truth.parquet", "")
    tell("comparing with the ground truth …")
    found = outcomes(_overlap(true, table.file))
    judged = Table(true)
    judged.add("outcome", found.truth, TRUTH_OUTCOMES)
    table.add("outcome", found.pred, PRED_OUTCOMES)
    shown.layers = {name if name != "truth" else "result": table, "truth": judged}


def _traced(labels: Int32, frame: Frame) -> Instances:
    """Convert a label image to nuclei: the largest piece of each label, with its area."""
    small, ids = compact(labels)
    pieces, kept = compact(largest_pieces(small))
    coords, offsets, boxes = trace(pieces)
    n = len(boxes)
    area = boxes_areas(pieces, n)[1] * (frame.mpp or 1.0) ** 2
    nuclei = Instances(
        ids=ids[kept - 1],
        coords_xy=coords,
        offsets=offsets,
        boxes_xyxy=boxes.astype(np.float32),
        scores=np.ones(n, np.float32),
        classes=np.zeros(n, np.int16),
        frame=frame,
        features={"area_um2": area.astype(np.float32)},
    )
    return nuclei.take(np.argsort(centroids_xy(coords, offsets)[:, 1], kind="stable"))


def _overlap(true: NucleiFile, found: NucleiFile) -> Overlap:
    """Return the overlap table of two files, by row, computed from bands of label images."""
    rows = {file.path: _row_of_id(file) for file in (true, found)}
    many = found.count + 1
    shared: dict[int, int] = {}
    areas = np.zeros(true.count + 1, np.int64), np.zeros(many, np.int64)
    for a, b in zip(label_rows(true), label_rows(found), strict=True):
        left, right = rows[true.path][a], rows[found.path][b]
        areas[0][:] += np.bincount(left.ravel(), minlength=true.count + 1)
        areas[1][:] += np.bincount(right.ravel(), minlength=many)
        both = (left > 0) & (right > 0)
        keys, counts = np.unique(left[both] * many + right[both], return_counts=True)
        for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
            shared[key] = shared.get(key, 0) + count
    keys = np.array(sorted(shared), np.int64)
    pairs = np.stack([keys // many - 1, keys % many - 1], axis=1).reshape(-1, 2)
    return Overlap(areas[0][1:], areas[1][1:], pairs, np.array([shared[k] for k in keys], np.int64))


def _row_of_id(file: NucleiFile) -> Any:  # noqa: ANN401
    """Return an array id -> row + 1, with 0 for the background."""
    ids = file.column("id") if file.count else np.zeros(0, np.int64)
    rows = np.zeros(int(ids.max(initial=0)) + 1, np.int64)
    rows[ids] = np.arange(1, len(ids) + 1)
    return rows


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """Create a temporary folder for this process."""
    return tempfile.TemporaryDirectory(prefix="nucleate-view-")

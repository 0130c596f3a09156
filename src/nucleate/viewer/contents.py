"""What is shown: the images and results named on the command line, and nothing else."""

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
_DEEPEST = 8  # folders above a result in which its summary is looked for


@dataclass(slots=True)
class Content:
    """One image and what is drawn on it.

    Attributes:
        name: of the image or, where it is not at hand, of the result.
        frame: level 0.
        pixels: None where the image is not at hand.
        layers: up to two results: name -> nuclei.
        note: what the page states about it.
    """

    name: str
    frame: Frame
    pixels: Pyramid | None
    layers: dict[str, Table]
    note: str = ""

    def look(self) -> None:
        """Open the image; one that cannot be shown becomes a note, and its nuclei stay."""
        try:
            _ = self.pixels and self.pixels.source
        except InputError as error:
            self.pixels, self.note = None, str(error)


def open_contents(
    paths: Sequence[Path], truth: Path | None, scratch: Path, tell: Tell
) -> list[Content]:
    """Open images and results, and put together what belongs together, by name.

    Args:
        paths: images, slides, `.nuclei.parquet` files, folders that `nucleate segment` wrote.
        truth: label image, or `.nuclei.parquet`, that the one result is held against.
        scratch: folder for files that are deleted later.
        tell: is given what takes long.

    Raises:
        ConfigError: nothing to show, or a truth without one result.
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
                f"{image}: another image has the same name, so that the result of each is "
                "unclear. View them one by one, or name the folder of both results."
            )
    stems = list(dict.fromkeys([*sources, *results]))
    if not stems:
        raise ConfigError("There is nothing to show. Name an image, a slide or a result.")
    if len(sources) == 1 and len(results) == 1 and stems[0] not in results:
        results = {stems[0]: next(iter(results.values()))}  # one of each: they belong together
        stems = stems[:1]
    shown = [_one(stem, sources.get(stem), results.get(stem, []), tell) for stem in stems]
    if truth is not None:
        if len(shown) != 1 or len(shown[0].layers) != 1:
            raise ConfigError(
                "--truth requires exactly one result of one image. Name only that result."
            )
        _judge(shown[0], truth, scratch, tell)
    return shown


def _expand(path: Path) -> list[tuple[str, Path]]:
    """Return the files that one word of the command line stands for, with their names in it."""
    if not path.is_dir() or path.suffix.lower() == ".zarr":
        return [(path.name, path)]
    files = walk(path, (".zarr",))
    found = [(name, Path(str(file))) for name, file in files if name.endswith(PARQUET)]
    if not found:
        raise InputError(
            f"{path}: the folder contains no *{PARQUET}. Name a folder that nucleate segment wrote."
        )
    return found


def _one(stem: str, path: Path | None, results: list[Path], tell: Tell) -> Content:
    files = [open_nuclei(result) for result in results]
    if len(files) > 2:
        raise ConfigError(
            f"{stem}: {len(files)} results; at most two can be compared. Name two of them."
        )
    note, named = "", path is not None
    if path is None:
        path, note = _image_of(files[0])
        if note:
            tell(note)
    pixels = None if path is None else Pyramid(partial(_open_fitting, path, files))
    if pixels is not None and named:
        _ = pixels.source  # what was asked for by name must be there; others are opened when seen
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
        InputError: it cannot be read, or has another size than they say.
    """
    source = open_source(path)
    for file in files:
        if (file.frame.width, file.frame.height) != (source.width, source.height):
            raise InputError(
                f"{file.path}: belongs to an image of {file.frame.width} × {file.frame.height} "
                f"pixels, but {source.name} has {source.width} × {source.height}. Name the image "
                "that was segmented."
            )
    return source


def _image_of(file: NucleiFile) -> tuple[Path | None, str]:
    """Return the image of a result; else None, and what to do.

    It is beside the result or beside its folder, or where the `summary.json` of the folder states.
    """
    name = str(file.facts.get("source", ""))
    if name not in ("", "..") and name == Path(name).name:  # no way to other folders
        beside = [folder / name for folder in (file.path.parent, file.path.parent.parent)]
        for found in (*beside, *_stated(file, name)):
            if found.exists():
                return found, ""
    return None, (
        f"{file.path.name}: the image {name or 'of this result'} is neither beside it nor where "
        "summary.json states. Start nucleate view with the image and the result."
    )


def _stated(file: NucleiFile, name: str) -> list[Path]:
    """Return where the summaries of a result's folders state its image, if it has its name."""
    places: list[Path] = []
    for folder in file.path.resolve().parents[:_DEEPEST]:
        if not (folder / SUMMARY).is_file():
            continue
        try:
            rows = read_summary(folder)["sources"]
        except InputError:  # of another program, or damaged: it names no image
            continue
        below = file.path.resolve().relative_to(folder).as_posix()
        for row in rows:
            source = row["source"]
            if row.get("files", {}).get("parquet") == below and Path(source).name == name:
                places += [Path(source), folder / source, folder.parent / source]
    return places


def _frame(pixels: Pyramid | None) -> Frame:
    if pixels is None:
        raise ConfigError("There is nothing to show. Name an image, a slide or a result.")
    source = pixels.source
    return Frame(source.width, source.height, source.mpp, source.origin_xy)


def keep(nuclei: Instances, path: Path, source: str) -> NucleiFile:
    """Write nuclei into a file and open it."""
    with writer(path, nuclei, {"source": source}) as file:
        file.write(nuclei)
    return open_nuclei(path)


def _judge(shown: Content, truth: Path, scratch: Path, tell: Tell) -> None:
    """Put the truth beside a result, each nucleus with the outcome of it."""
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
            f"{shown.frame.height}. Name the ground truth of this image."
        )
    if not truth.name.endswith(PARQUET):
        true = keep(_traced(labels, shown.frame), scratch / "truth.parquet", "")
    tell("comparing with the truth …")
    found = outcomes(_overlap(true, table.file))
    judged = Table(true)
    judged.add("outcome", found.truth, TRUTH_OUTCOMES)
    table.add("outcome", found.pred, PRED_OUTCOMES)
    shown.layers = {name if name != "truth" else "result": table, "truth": judged}


def _traced(labels: Int32, frame: Frame) -> Instances:
    """Return a label image as nuclei, of each its largest piece, with the area as their feature."""
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
    """Return the overlap table of two files, in the order of their rows, drawn band by band."""
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
    """Return id -> row + 1, 0 for the background."""
    ids = file.column("id") if file.count else np.zeros(0, np.int64)
    rows = np.zeros(int(ids.max(initial=0)) + 1, np.int64)
    rows[ids] = np.arange(1, len(ids) + 1)
    return rows


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder of this process's own, gone at its end."""
    return tempfile.TemporaryDirectory(prefix="nucleate-view-")

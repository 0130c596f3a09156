"""Find all nuclei of one image or slide, in memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from numpy.typing import NDArray

from nucleate.errors import DoubtfulImage, InputError
from nucleate.inference.backends import Model, Precision
from nucleate.inference.engine import InMemory, run
from nucleate.inference.inputs import as_reader, frame_of, stain_transform
from nucleate.inference.loading import (
    Device,
    Sensitivity,
    at_sensitivity,
    ready_model,
    with_thresholds,
)
from nucleate.inference.pipeline import Done, EngineOptions
from nucleate.inference.units import plan_units
from nucleate.quality.glimpse import glimpse
from nucleate.quality.plausibility import Doubt, doubts_of
from nucleate.quality.tissue import SLIDE_PIXELS, Survey, survey
from nucleate.readers.array import ArraySource
from nucleate.readers.opening import open_source
from nucleate.readers.reader import Reader
from nucleate.readers.source import Source, notes_of
from nucleate.types import Instances

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class Found:
    """The nuclei of one source, with warnings about how they were found.

    Attributes:
        nuclei: nuclei in level-0 pixels of the source.
        cut: number of nuclei larger than a tile; their outlines end at the edge of the tile.
        stain: why the stain was not normalised although the model requires it, or empty.
        lost: boxes in level-0 pixels that could not be read, and the reasons.
        ink: number of objects left out because they have the colour of ink.
        doubts: reasons to doubt the stated resolution, stain or kind of image.
        read: warnings about how the source was read.
    """

    nuclei: Instances
    cut: int
    stain: str
    lost: list[dict[str, Any]]
    ink: int = 0
    doubts: list[Doubt] = field(default_factory=list)
    read: tuple[str, ...] = ()

    def notes(self) -> list[str]:
        """Return all warnings, one phrase each."""
        return [
            *self.read,
            *notes(self.cut, self.lost, self.stain, self.ink),
            *(doubt.reason for doubt in self.doubts),
        ]


def notes(cut: int, lost: list[dict[str, Any]], stain: str, ink: int) -> list[str]:
    """Return the warnings about how nuclei were found, one phrase each.

    Example:
        >>> notes(2, [], "", 0)
        ['2 objects are larger than a tile sees and end at its edge']
    """
    found = []
    if cut:
        found.append(f"{cut} objects are larger than a tile sees and end at its edge")
    if lost:
        found.append(f"{len(lost)} tiles could not be read: {lost[0]['reason']}")
    if stain:
        found.append(f"stain {stain}")
    if ink:
        found.append(f"objects of the colour of ink, or black, left out: {ink}")
    return found


def segment(
    image: str | Path | NDArray[Any] | Image | Source,
    model: Model | str | Path | None = None,
    mpp: float | None = None,
    *,
    device: Device = "auto",
    precision: Precision | Literal["auto"] = "auto",
    threads: int = 0,
    sensitivity: Sensitivity = "normal",
    thresholds: dict[str, float] | None = None,
    tissue_mask: bool | None = None,
    tile_px: int | None = None,
    progress: bool | Callable[[int, int], None] = False,
    override_mpp: bool = False,
    plane: int | None = None,
) -> Instances:
    """Find all nuclei of an image or slide.

    Args:
        image: path of an image or slide; array (H, W, 3) or (H, W, 4) of uint8 or uint16, RGB
            with or without opacity; PIL image; or an open source.
        model: a loaded model, or a model name or folder; None selects the bundled default.
        mpp: micrometres per pixel, for an image without one; None uses the value in the file.
        device: where to run a model that is not yet loaded, see `load_model`.
        precision: likewise.
        threads: likewise.
        sensitivity: low finds fewer false nuclei, high finds more pale nuclei.
        thresholds: decoder thresholds that replace those of the model card; others are unchanged.
        tissue_mask: whether to skip background, pen marks and folds; None skips them in images of
            at least 100 megapixels, as the command does.
        tile_px: largest edge of a tile, in pixels at the model's resolution; None for the model's.
        progress: True shows a progress bar; a function is called with (tiles done, tiles).
        override_mpp: whether `mpp` overrides a different value in the file.
        plane: focal plane or time point to read from a TIFF that has several, counted from 1.

    Returns:
        The nuclei with features, in level-0 pixels, sorted from top to bottom (block by block in a
        large image).

    Warns:
        UserWarning: how the file had to be interpreted (depth, opacity, profile).
        UserWarning: tiles that cannot be read, nuclei larger than a tile, a stain that cannot be
            normalised, an implausible resolution, channel order, stain or focus.

    Raises:
        InputError: nothing of the image can be read, its mpp is neither stated nor given, or the
            two differ.
        ModelError: the model cannot be loaded.
        ConfigError: an unknown threshold, or a device for a model that is already loaded.

    Example:
        >>> import numpy as np
        >>> blank = np.full((64, 64, 3), 255, np.uint8)
        >>> len(segment(blank, mpp=0.25))
        0
    """
    ready = at_sensitivity(ready_model(model, device, precision, threads), sensitivity)
    if thresholds is not None:
        ready = with_thresholds(ready, thresholds)
    source, options = _opened(image, plane), EngineOptions(tile_px)
    with _progress(progress) as tell:
        found = find_nuclei(source, ready, mpp, options, tell, override_mpp, tissue_mask)
    doubts = {doubt.reason for doubt in found.doubts}
    for note in found.notes():
        kind = DoubtfulImage if note in doubts else UserWarning
        warnings.warn(f"{source.name}: {note}", kind, stacklevel=2)
    return found.nuclei


@contextmanager
def _progress(
    progress: bool | Callable[[int, int], None],
) -> Iterator[Callable[[int, int], None] | None]:
    """Provide the progress callback: None, the caller's function, or a progress bar."""
    if not isinstance(progress, bool):
        yield progress
    elif not progress:
        yield None
    else:
        from rich.progress import Progress

        with Progress(transient=True) as bar:
            task = bar.add_task("tiles", total=None)
            yield lambda done, tiles: bar.update(task, completed=done, total=tiles)


def _opened(source: object, plane: int | None) -> Source:
    """Open any input that `segment` accepts."""
    if isinstance(source, str | Path):
        return open_source(Path(source), plane)
    if plane is not None:
        raise InputError("segment: plane applies to files. Pass the plane itself as an array.")
    if isinstance(source, list | tuple):
        raise InputError(
            f"segment takes one image, not a {type(source).__name__}. Call it for each image, or "
            "use segment_files for many files."
        )
    if all(hasattr(source, name) for name in ("read", "level_sizes", "origin_xy")):
        return cast("Source", source)
    return ArraySource(source)


def find_nuclei(
    source: Source,
    model: Model,
    mpp: float | None,
    options: EngineOptions,
    progress: Callable[[int, int], None] | None = None,
    override_mpp: bool = False,
    tissue_mask: bool | None = None,
) -> Found:
    """Find all nuclei of an open source; `progress` is called with (tiles done, tiles).

    Background, pen marks and folds are skipped if `tissue_mask` is true, or if it is None and the
    source has at least 100 megapixels.

    Raises:
        InputError: nothing of the source can be read, its mpp is neither stated nor given, or the
            two differ.
    """
    reader = as_reader(source, model.card, mpp, override_mpp)
    seen = None
    if source.width * source.height >= SLIDE_PIXELS if tissue_mask is None else tissue_mask:
        seen = survey(reader)
    tissue = None if seen is None else seen.tissue
    units = plan_units(reader, model.card, options, tissue)
    colours, sink = stain_transform(source, model.card), InMemory()
    tiles, done = sum(len(unit.tiles) for unit in units), 0

    def tell(_: Done) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, tiles)

    run(reader, model, options, sink, units, tissue, colours, tell)
    if sink.lost and len(sink.lost) == tiles:
        raise InputError(sink.lost[0]["reason"])
    nuclei, cut = sink.nuclei(frame_of(reader), tuple(model.card.classes))
    doubts = doubts_about(reader, nuclei, seen)
    return Found(nuclei, cut, colours.note, sink.lost, sink.ink, doubts, notes_of(source))


def doubts_about(reader: Reader, nuclei: Instances, seen: Survey | None) -> list[Doubt]:
    """Check the plausibility of an image by its nuclei and a few windows; return the doubts.

    Args:
        reader: the image, at its stated resolution.
        nuclei: the nuclei found in it.
        seen: its tissue survey; None if there was none.
    """
    whole_mm2 = reader.source.width * reader.source.height * reader.mpp**2 / 1e6
    windows = glimpse(reader, None if seen is None else seen.tissue)
    mm2 = whole_mm2 if seen is None else max(seen.mm2, 1e-9)
    return doubts_of(windows, nuclei, reader.mpp, mm2)

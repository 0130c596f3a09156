"""One picture in memory: its tiles through the pipeline, stitched, in level-0 pixels.

Everything inside works on the model's pixel grid (the working grid: the asked grid of
`readers.reader.Grid` at the model's mpp); what comes out is in level-0 pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from nucleate.cards import ModelCard
from nucleate.errors import InputError
from nucleate.features import neighbourhood, no_nuclei
from nucleate.geometry.outlines import centroids_xy
from nucleate.inference.backends import Model, Precision
from nucleate.inference.loading import Device, ready_model
from nucleate.inference.merge import stitch
from nucleate.inference.pipeline import EngineOptions, run_tiles, workers
from nucleate.inference.tiling import plan
from nucleate.postprocess import complete_thresholds
from nucleate.quality.tissue import SLIDE_PIXELS, survey
from nucleate.readers.array import ArraySource
from nucleate.readers.opening import open_source
from nucleate.readers.reader import Reader
from nucleate.readers.source import RegionError, Source
from nucleate.resolution import check_mpp, resolve_mpp
from nucleate.stain.normalise import Normaliser, Transform
from nucleate.types import Frame, Instances, Maps

if TYPE_CHECKING:
    from PIL.Image import Image

_WHOLE_PIXELS = 1 << 24  # a picture up to this size is read whole to estimate its stain
_MOST_PIXELS = 1 << 38  # half a million squared


@dataclass(frozen=True, slots=True)
class Found:
    """The nuclei of one source, and what has to be said about how they were found.

    Attributes:
        nuclei: in level-0 pixels of the source.
        cut: nuclei larger than a tile can see whole; their outlines end where the tile ends.
        stain: why the stain was not normalised though the model asks for it; else empty.
    """

    nuclei: Instances
    cut: int
    stain: str = ""


def segment(
    image: str | Path | NDArray[Any] | Image | Source,
    model: Model | str | Path | None = None,
    mpp: float | None = None,
    *,
    device: Device = "auto",
    precision: Precision | Literal["auto"] = "auto",
    threads: int = 0,
    thresholds: dict[str, float] | None = None,
    tissue_mask: bool | None = None,
    tile_px: int = 1536,
    progress: bool | Callable[[int, int], None] = False,
    override_mpp: bool = False,
) -> Instances:
    """Find all nuclei of an image or slide.

    Args:
        image: path of an image or slide; array (H, W, 3) or (H, W, 4) of uint8 or uint16, RGB
            with or without opacity; PIL image; or an open source.
        model: a loaded model, or the name or folder of one; None takes the bundled default.
        mpp: micrometres per pixel of an image that states none; None takes what it states.
        device: where a model that is not loaded yet runs, see `load_model`.
        precision: likewise.
        threads: likewise.
        thresholds: of the decoder, in place of those of the model's card; others stay.
        tissue_mask: whether to skip background, pen marks and folds; None skips them from 100
            megapixels on, as the command does.
        tile_px: largest edge of a tile, in pixels at the model's resolution.
        progress: True shows a bar on the terminal; a function is given (tiles done, tiles).
        override_mpp: whether `mpp` counts although the image states another value.

    Returns:
        The nuclei, in level-0 pixels, sorted from top to bottom, with features.

    Raises:
        InputError: the image cannot be read, states no mpp and none is given, or states another.
        ModelError: the model cannot be loaded.
        ConfigError: an unknown threshold, or where to run a model that is loaded already.

    Example:
        >>> blank = np.full((64, 64, 3), 255, np.uint8)
        >>> len(segment(blank, mpp=0.25))
        0
    """
    ready = ready_model(model, device, precision, threads)
    if thresholds is not None:
        card = ready.card
        chosen = complete_thresholds(card.decoder, {**card.thresholds, **thresholds})
        ready = Model(replace(card, thresholds=chosen), ready.backend)
    source, options = _opened(image), EngineOptions(tile_px)
    with _told(progress) as tell:
        found = find_nuclei(source, ready, mpp, options, tell, override_mpp, tissue_mask)
    return found.nuclei


@contextmanager
def _told(
    progress: bool | Callable[[int, int], None],
) -> Iterator[Callable[[int, int], None] | None]:
    """Give what is told of the tiles: nothing, the caller's function, or a bar."""
    if not isinstance(progress, bool):
        yield progress
    elif not progress:
        yield None
    else:
        from rich.progress import Progress

        with Progress(transient=True) as bar:
            task = bar.add_task("tiles", total=None)
            yield lambda done, tiles: bar.update(task, completed=done, total=tiles)


def _opened(source: object) -> Source:
    """Return what `segment` takes as an open source."""
    if isinstance(source, str | Path):
        return open_source(Path(source))
    if isinstance(source, list | tuple):
        raise InputError(
            f"segment: takes one image, not a {type(source).__name__}. Call it for each image, or "
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
    """Find all nuclei of an open source; `progress` is given (tiles done, tiles in all).

    Without tissue, the parts of a slide that are background, pen or fold are skipped, if
    `tissue_mask` says so; None says so from 100 megapixels on.

    Raises:
        InputError: the source cannot be read, states no mpp and none is given, or states another.
    """
    card = model.card
    reader = as_reader(source, card, mpp, override_mpp)
    grid = reader.grid(card.mpp)
    tiles = plan(grid.width, grid.height, options.tile_px, card.halo_px, card.align_px)
    tissue = None
    if source.width * source.height >= SLIDE_PIXELS if tissue_mask is None else tissue_mask:
        tissue = survey(reader).tissue
        level0_per_px = 1 / grid.asked_per_level0
        tiles = [tile for tile in tiles if tissue.touches(tile.core, level0_per_px)]
    colours = stain_transform(source, card)
    parts = []
    with workers(options) as pools:
        for done in run_tiles(reader, model, tiles, options, colours, pools):
            if done.part is None:
                raise InputError(done.error)
            parts.append(done.part)
            if progress is not None:
                progress(len(parts), len(tiles))
    joined, cut = stitch(parts, Frame(grid.width, grid.height, card.mpp))
    if not len(joined):
        return Found(no_nuclei(frame_of(reader), tuple(card.classes)), cut, colours.note)
    nuclei = to_level0(joined, frame_of(reader), grid.asked_per_level0)
    if tissue is not None:
        nuclei = nuclei.take(tissue.holds(centroids_xy(nuclei.coords_xy, nuclei.offsets)))
        nuclei = replace(nuclei, ids=np.arange(1, len(nuclei) + 1, dtype=np.int64))
    return Found(with_neighbourhood(nuclei), cut, colours.note)


def as_reader(
    source: Source, card: ModelCard, mpp: float | None, override_mpp: bool = False
) -> Reader:
    """Return a source with its resolution, see `resolve_mpp`.

    Raises:
        InputError: neither the file nor the caller states an mpp, or they contradict each other,
            or it is none that a microscope has; or a size that no scanner makes.
    """
    resolution = resolve_mpp(source.name, source.mpp, mpp, override_mpp)
    if resolution is None:
        raise InputError(
            f"{source.name}: the file carries no resolution (mpp), and model {card.name!r} works "
            f"at {card.mpp:g} um/px. Pass mpp=… (0.25 for a 40x scan, 0.5 for 20x), or --mpp on "
            "the command line."
        )
    if source.width * source.height > _MOST_PIXELS:
        raise InputError(
            f"{source.name}: states {source.width} × {source.height} pixels, more than any scanner "
            "makes. The file is damaged: copy it again."
        )
    return Reader(source, check_mpp(resolution))


def frame_of(reader: Reader) -> Frame:
    """Return level 0 of a slide."""
    source = reader.source
    return Frame(source.width, source.height, reader.mpp, source.origin_xy)


def stain_transform(source: Source, card: ModelCard) -> Transform:
    """Return the change of colours that all tiles of a source share, as the model asks for it.

    It is estimated on the whole picture, or on 64 windows spread evenly over a slide.
    """
    if card.stain is None:
        return Transform(None)
    normaliser = Normaliser.from_dict(card.stain, f"model {card.name!r}")
    if source.width * source.height <= _WHOLE_PIXELS:
        return normaliser.adapt(source.read(0, 0, source.width, source.height))
    edge = min(256, source.width, source.height)
    lefts = np.linspace(0, source.width - edge, 8).astype(int)
    tops = np.linspace(0, source.height - edge, 8).astype(int)
    windows, damage = [], None
    for y in tops:
        for x in lefts:
            try:
                windows.append(source.read(x, y, x + edge, y + edge)[::4, ::4])
            except RegionError as error:
                damage = error
    if not windows and damage is not None:
        raise damage
    return normaliser.adapt(np.concatenate([window.reshape(-1, 3) for window in windows]))


def predict_maps(source: Source, model: Model, mpp: float | None = None) -> Maps:
    """Return what the network says of a whole source in one tile: for tuning and validation.

    Maps may be larger than the source; the decoder cuts them.
    """
    card = model.card
    reader = as_reader(source, card, mpp)
    grid = reader.grid(card.mpp)
    tile = plan(grid.width, grid.height, max(grid.width, grid.height) + card.align_px, 0,
                card.align_px)[0]  # fmt: skip
    maps = model.backend(reader.read(tile.read, card.mpp)[None])
    return {head: m[0] for head, m in maps.items()}


def to_level0(nuclei: Instances, frame: Frame, scale: float) -> Instances:
    """Return nuclei in level-0 pixels; what sticks out by rounding is clipped to the picture.

    Args:
        nuclei: in working pixels.
        frame: level 0.
        scale: working pixels per level-0 pixel.
    """
    limit = np.array([frame.width, frame.height], np.float32)
    factor = np.float32(1 / scale)
    return replace(
        nuclei,
        coords_xy=np.clip(nuclei.coords_xy * factor, 0, limit),
        boxes_xyxy=np.clip(nuclei.boxes_xyxy * factor, 0, np.tile(limit, 2)),
        frame=frame,
    )


def with_neighbourhood(nuclei: Instances) -> Instances:
    """Return nuclei with the features that need the others: how many are near, and how near."""
    centres = centroids_xy(nuclei.coords_xy, nuclei.offsets)
    near = neighbourhood(centres, centres, check_mpp(nuclei.frame.mpp))
    return replace(nuclei, features={**nuclei.features, **near})

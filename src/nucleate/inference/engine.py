"""read (with halo) → batch → backend → decode → own → stitch: one tile after another.

Everything inside works on the model's pixel grid (the working grid: the level-0 grid scaled by
source mpp / model mpp); what comes out is in level-0 pixels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np

from nucleate.errors import InputError, pick
from nucleate.features import measure
from nucleate.inference.backends import Model
from nucleate.inference.load import load_model
from nucleate.inference.stitch import MARGIN_PX, Part, depth, reaches_out, stitch
from nucleate.inference.tiling import Tile, plan
from nucleate.io.slides import ArraySource, Source, open_source
from nucleate.labels import trace
from nucleate.postprocess import DECODERS, complete_thresholds
from nucleate.stain.normalise import Normaliser, Transform
from nucleate.types import Frame, Instances, Int64, Layer, Maps, ModelCard, UInt8, grid_ratio

_WHOLE_PIXELS = 1 << 24  # a picture up to this size is read whole to estimate its stain


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How to tile.

    Attributes:
        tile_px: largest edge of what a tile reads, in working pixels.
        batch: tiles per call of the network.
    """

    tile_px: int = 1536
    batch: int = 1


@dataclass(frozen=True, slots=True)
class Found:
    """The nuclei of one source, and what has to be said about how they were found.

    Attributes:
        nuclei: in level-0 pixels of the source.
        cut: nuclei larger than a tile can see whole; their outlines end where the tile ends.
        scale: working pixels per level-0 pixel; 1 where nothing was resampled.
        stain: why the stain was not normalised though the model asks for it; else empty.
    """

    nuclei: Instances
    cut: int
    scale: float
    stain: str = ""


def segment(
    source: str | Path | UInt8 | Source,
    model: Model | str | Path | None = None,
    mpp: float | None = None,
    options: EngineOptions | None = None,
) -> Instances:
    """Find all nuclei of a picture or slide.

    Args:
        source: path of a picture or slide, uint8 (H, W, 3) RGB, or an open source.
        model: a loaded model, or the name or folder of one; None takes the bundled default.
        mpp: micrometres per pixel of the source; None takes what the file states.
        options: tile size and batch.

    Returns:
        The nuclei, in level-0 pixels, sorted from top to bottom, with features.

    Raises:
        InputError: the source cannot be read, or states no mpp and none is given.
        ModelError: the model cannot be loaded.

    Example:
        >>> blank = np.full((64, 64, 3), 255, np.uint8)
        >>> len(segment(blank, mpp=0.25))
        0
    """
    ready = (
        model
        if isinstance(model, Model)
        else (load_model() if model is None else load_model(model))
    )
    if isinstance(source, np.ndarray):
        opened: Source = ArraySource(source)
    elif isinstance(source, str | Path):
        opened = open_source(Path(source))
    else:
        opened = source
    return find_nuclei(opened, ready, mpp, options or EngineOptions()).nuclei


def find_nuclei(
    source: Source,
    model: Model,
    mpp: float | None,
    options: EngineOptions,
    progress: Callable[[int, int], None] | None = None,
) -> Found:
    """Find all nuclei of an open source; `progress` is told (tiles done, tiles in all).

    Raises:
        InputError: the source cannot be read, or states no mpp and none is given.
    """
    card = model.card
    scale = working_scale(source, card, mpp)
    resolution = source.mpp if mpp is None else mpp
    frame = Frame(source.width, source.height, resolution, source.origin_xy)
    width, height = _working_size(source, scale)
    working = Frame(width, height, card.mpp)
    tiles = plan(width, height, options.tile_px, card.halo_px, card.align_px)
    real_mpp = (resolution or card.mpp) / scale  # exact, also where nothing is resampled
    colours = stain_transform(source, card)
    parts: list[Part] = []
    pending: deque[Future[Part]] = deque()
    with ThreadPoolExecutor(1) as decoder:  # decodes one tile while the network runs on the next
        for done, (tile, image, maps) in enumerate(
            _predict(source, model, tiles, scale, options, colours)
        ):
            pending.append(decoder.submit(_emit, tile, image, maps, card, working, real_mpp))
            while len(pending) > 2 or (pending and pending[0].done()):
                parts.append(pending.popleft().result())
            if progress is not None:
                progress(done + 1, len(tiles))
        parts += [future.result() for future in pending]
    joined, cut = stitch(parts, working)
    return Found(_to_level0(joined, frame, scale), cut, scale, colours.note)


def working_scale(source: Source, card: ModelCard, mpp: float | None) -> float:
    """Return working pixels per level-0 pixel: source mpp over model mpp; 1 within 5 %.

    Raises:
        InputError: neither the file nor the caller states an mpp, or it is none that a
            microscope has.
    """
    resolution = source.mpp if mpp is None else mpp
    if resolution is None:
        raise InputError(
            f"{source.name}: the file carries no resolution (mpp), and model {card.name!r} works "
            f"at {card.mpp:g} um/px. Pass mpp=… (0.25 for a 40x scan, 0.5 for 20x), or --mpp on "
            "the command line."
        )
    return grid_ratio(resolution, card.mpp)


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
    windows = [source.read(x, y, x + edge, y + edge)[::4, ::4] for y in tops for x in lefts]
    return normaliser.adapt(np.concatenate([window.reshape(-1, 3) for window in windows]))


def predict_maps(source: Source, model: Model, scale: float) -> Maps:
    """Return what the network says of a whole source in one tile: for tuning and validation.

    Maps may be larger than the source; the decoder cuts them.
    """
    width, height = _working_size(source, scale)
    align = model.card.align_px
    tile = plan(width, height, max(width, height) + align, 0, align)[0]
    maps = model.backend(read_tile(source, tile, scale)[None])
    return {head: m[0] for head, m in maps.items()}


def read_tile(source: Source, tile: Tile, scale: float) -> UInt8:
    """Return the pixels that a tile reads, on the working grid; mirrored beyond the picture.

    The value of a working pixel does not depend on the tile that reads it.

    Args:
        source: where to read.
        tile: in working pixels.
        scale: working pixels per level-0 pixel.

    Returns:
        uint8 (H, W, 3) of the size of `tile.read`.
    """
    x0, y0, x1, y1 = tile.read
    if scale == 1.0:
        return _read_mirrored(source, x0, y0, x1, y1)
    blur = 0.5 * np.sqrt(max(1 / scale**2 - 1, 0.0))  # keeps a smaller grid free of aliasing
    margin = 2 + int(np.ceil(4 * blur))
    left, top = int(np.floor(x0 / scale)) - margin, int(np.floor(y0 / scale)) - margin
    right, bottom = int(np.ceil(x1 / scale)) + margin, int(np.ceil(y1 / scale)) + margin
    region = _read_mirrored(source, left, top, right, bottom)
    if blur > 0.1:
        region = cv2.GaussianBlur(region, (0, 0), blur)
    # working pixel i has its centre at (i + 0.5) / scale on level 0
    shift_x = (x0 + 0.5) / scale - 0.5 - left
    shift_y = (y0 + 0.5) / scale - 0.5 - top
    matrix = np.array([[1 / scale, 0, shift_x], [0, 1 / scale, shift_y]], np.float64)
    return cv2.warpAffine(  # type: ignore[no-any-return]
        region,
        matrix,
        (x1 - x0, y1 - y0),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _read_mirrored(source: Source, x0: int, y0: int, x1: int, y1: int) -> UInt8:
    """Return a region that may reach beyond the picture, which is mirrored there."""
    columns = _mirror(np.arange(x0, x1), source.width)
    rows = _mirror(np.arange(y0, y1), source.height)
    left, top = int(columns.min()), int(rows.min())
    region = source.read(left, top, int(columns.max()) + 1, int(rows.max()) + 1)
    if region.shape[:2] == (y1 - y0, x1 - x0):
        return np.ascontiguousarray(region)
    return np.ascontiguousarray(region[rows - top][:, columns - left])


def _mirror(index: Int64, length: int) -> Int64:
    """Return indices folded into 0..length - 1, as mirrors at both ends do.

    Example:
        >>> _mirror(np.arange(-2, 5), 3).tolist()
        [1, 0, 0, 1, 2, 2, 1]
    """
    folded = index % (2 * length)
    return np.where(folded < length, folded, 2 * length - 1 - folded)


def _predict(
    source: Source,
    model: Model,
    tiles: list[Tile],
    scale: float,
    options: EngineOptions,
    colours: Transform,
) -> Iterator[tuple[Tile, UInt8, Maps]]:
    """Yield every tile with its pixels and its maps; tiles of one size run in one batch."""
    for _, run in groupby(tiles, lambda t: (t.read[2] - t.read[0], t.read[3] - t.read[1])):
        same = list(run)
        for start in range(0, len(same), options.batch):
            chunk = same[start : start + options.batch]
            images = [read_tile(source, tile, scale) for tile in chunk]
            maps = model.backend(np.stack([colours.apply(image) for image in images]))
            for i, tile in enumerate(chunk):
                yield tile, images[i], {head: m[i] for head, m in maps.items()}


def _emit(
    tile: Tile, image: UInt8, maps: Maps, card: ModelCard, working: Frame, mpp: float
) -> Part:
    """Decode one tile and keep the nuclei that it may own."""
    x0, y0, _, _ = tile.read
    high, wide = min(image.shape[0], working.height - y0), min(image.shape[1], working.width - x0)
    image = np.ascontiguousarray(image[:high, :wide])
    thresholds = complete_thresholds(card.decoder, card.thresholds)
    layers = pick(DECODERS, card.decoder, "decoder").decode(maps, thresholds, (high, wide))
    nuclei = Instances.concatenate(
        [_table(layer, image, (x0, y0), card, working, mpp) for layer in layers], working
    )
    box, size = nuclei.boxes_xyxy, (working.width, working.height)
    inside = depth(box, tile.core, *size)
    end = (x0, y0, x0 + wide, y0 + high)  # where this tile's pixels end
    wider = box + np.array([-1, -1, 1, 1], np.float32)
    mine = inside >= -MARGIN_PX
    return Part(
        nuclei=nuclei.take(mine),
        depth=inside[mine],
        reaches=reaches_out(box, tile.core, *size)[mine],
        cut=reaches_out(wider, end, *size)[mine],
    )


def _table(
    layer: Layer,
    image: UInt8,
    corner_xy: tuple[int, int],
    card: ModelCard,
    working: Frame,
    mpp: float,
) -> Instances:
    """Return the nuclei of one layer of a tile, measured, in working pixels."""
    coords, offsets, boxes = trace(layer.labels)
    return Instances(
        ids=np.arange(1, len(offsets), dtype=np.int64),
        coords_xy=coords + np.array(corner_xy, np.float32),
        offsets=offsets,
        boxes_xyxy=(boxes + np.array(corner_xy * 2)).astype(np.float32),
        scores=layer.scores,
        classes=layer.classes,
        frame=working,
        features=measure(layer.labels, image, coords, offsets, mpp),
        class_names=tuple(card.classes),
    )


def _working_size(source: Source, scale: float) -> tuple[int, int]:
    return max(1, round(source.width * scale)), max(1, round(source.height * scale))


def _to_level0(nuclei: Instances, frame: Frame, scale: float) -> Instances:
    """Return nuclei in level-0 pixels; what sticks out by rounding is clipped to the picture."""
    limit = np.array([frame.width, frame.height], np.float32)
    factor = np.float32(1 / scale)
    return replace(
        nuclei,
        coords_xy=np.clip(nuclei.coords_xy * factor, 0, limit),
        boxes_xyxy=np.clip(nuclei.boxes_xyxy * factor, 0, np.tile(limit, 2)),
        frame=frame,
    )

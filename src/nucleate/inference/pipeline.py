"""read → network → decode, concurrently on different tiles, with a bounded number in flight.

Threads read ahead (the reading libraries release the GIL), the network runs in the calling thread,
and threads or processes decode its maps.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from nucleate.cards import ModelCard
from nucleate.errors import NucleateError, pick
from nucleate.features import is_ink, nucleus_features
from nucleate.geometry.outlines import trace
from nucleate.inference.backends import Model
from nucleate.inference.ownership import MARGIN_PX, Part, depth, reaches_out
from nucleate.inference.tiling import Tile
from nucleate.mask_nms import Layer
from nucleate.postprocess import DECODERS, complete_thresholds
from nucleate.readers.reader import Grid, Reader
from nucleate.readers.source import RegionError
from nucleate.stain.normalise import Transform
from nucleate.types import Frame, Instances, Maps, UInt8

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Tile size, and numbers of threads and processes.

    Attributes:
        tile_px: largest edge of a tile including its halo, in working pixels; None for the model's.
        batch: tiles per call of the network.
        readers: threads that read ahead.
        decoders: processes that decode; 0 decodes in a thread of this process, which is enough
            if the network runs on the same cores.
    """

    tile_px: int | None = None
    batch: int = 1
    readers: int = 2
    decoders: int = 0

    def tile_of(self, card: ModelCard) -> int:
        """Return the largest edge of a tile for a model."""
        most: int = pick(DECODERS, card.decoder, "decoder").most_tile_px
        return min(card.tile_px if self.tile_px is None else self.tile_px, most)


@dataclass(frozen=True, slots=True)
class Done:
    """The outcome of one tile.

    Attributes:
        tile: the tile.
        part: the nuclei it emits, in working pixels; None if it could not be read.
        error: why it could not be read, or empty.
        seconds: time for reading, the network, and decoding.
    """

    tile: Tile
    part: Part | None
    error: str
    seconds: tuple[float, float, float]


@contextmanager
def workers(options: EngineOptions) -> Iterator[tuple[Executor, Executor]]:
    """Create the pools that read and decode; tasks not yet started are cancelled at the end.

    Processes are spawned, because a forked copy of a running engine may not work.
    """
    readers = ThreadPoolExecutor(options.readers, "read")
    decoders: Executor = (
        ProcessPoolExecutor(options.decoders, multiprocessing.get_context("spawn"))
        if options.decoders
        else ThreadPoolExecutor(1, "decode")
    )
    try:
        yield readers, decoders
    except BrokenExecutor as error:
        raise NucleateError(
            "A decoder process died, perhaps for lack of memory. Lower --decoders or --tile-px, "
            "and continue with --resume."
        ) from error
    finally:
        readers.shutdown(wait=True, cancel_futures=True)
        decoders.shutdown(wait=True, cancel_futures=True)


def ahead(
    pool: Executor, function: Callable[[In], Out], items: Iterable[In], most: int
) -> Iterator[Out]:
    """Yield function(item) for each item in order, with at most `most` running or waiting.

    Example:
        >>> with ThreadPoolExecutor(2) as pool:
        ...     list(ahead(pool, abs, [-1, 2, -3], 2))
        [1, 2, 3]
    """
    waiting: deque[Future[Out]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        while len(waiting) >= most or (waiting and waiting[0].done()):
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def run_tiles(
    reader: Reader,
    model: Model,
    tiles: Iterable[Tile],
    options: EngineOptions,
    colours: Transform,
    pools: tuple[Executor, Executor],
) -> Iterator[Done]:
    """Yield the outcome of each tile, in the order of the tiles."""
    card = model.card
    grid = reader.grid(card.mpp)
    job = _Decoding(card, grid)
    readers, decoders = pools
    read = ahead(readers, _Reading(reader, card.mpp), tiles, options.readers + options.batch)
    inferred = _infer(read, model, options.batch, colours)
    return ahead(decoders, job, inferred, max(options.decoders, 1) + 2)


@dataclass(frozen=True, slots=True)
class _Pixels:
    """The pixels of a tile, or the error of reading it."""

    tile: Tile
    image: UInt8 | None
    error: str
    seconds: float


@dataclass(frozen=True, slots=True)
class _Said:
    """The maps that the network computed for a tile."""

    pixels: _Pixels
    maps: Maps | None
    seconds: float


@dataclass(frozen=True, slots=True)
class _Reading:
    reader: Reader
    mpp: float

    def __call__(self, tile: Tile) -> _Pixels:
        """Read a tile."""
        started = time.perf_counter()
        image, error = None, ""
        try:
            image = self.reader.read(tile.read, self.mpp)
        except RegionError as damage:
            error = str(damage)
        return _Pixels(tile, image, error, time.perf_counter() - started)


def _infer(
    read: Iterable[_Pixels], model: Model, batch: int, colours: Transform
) -> Iterator[_Said]:
    """Run the network; consecutive tiles of the same size form a batch."""
    same: list[_Pixels] = []
    for pixels in read:
        if same and (
            pixels.image is None
            or len(same) == batch
            or same[0].image is None
            or same[0].image.shape != pixels.image.shape
        ):
            yield from _said(same, model, colours)
            same = []
        same.append(pixels)
    if same:
        yield from _said(same, model, colours)


def _said(same: list[_Pixels], model: Model, colours: Transform) -> Iterator[_Said]:
    images = [pixels.image for pixels in same if pixels.image is not None]
    if not images:
        yield from (_Said(pixels, None, 0.0) for pixels in same)
        return
    started = time.perf_counter()
    maps = model.backend(np.stack([colours.apply(image) for image in images]))
    seconds = (time.perf_counter() - started) / len(images)
    for i, pixels in enumerate(same):
        yield _Said(pixels, {head: m[i] for head, m in maps.items()}, seconds)


@dataclass(frozen=True, slots=True)
class _Decoding:
    """Decoder of tiles.

    Attributes:
        card: model card.
        grid: the working grid.
    """

    card: ModelCard
    grid: Grid

    def __call__(self, said: _Said) -> Done:
        """Decode one tile and keep the nuclei that it may own."""
        started = time.perf_counter()
        pixels = said.pixels
        part = None
        if pixels.image is not None and said.maps is not None:
            part = self._emit(pixels.tile, pixels.image, said.maps)
        spent = pixels.seconds, said.seconds, time.perf_counter() - started
        return Done(pixels.tile, part, pixels.error, spent)

    def _emit(self, tile: Tile, image: UInt8, maps: Maps) -> Part:
        x0, y0, _, _ = tile.read
        width, height = self.grid.width, self.grid.height
        high, wide = min(image.shape[0], height - y0), min(image.shape[1], width - x0)
        image = np.ascontiguousarray(image[:high, :wide])
        decoder, card = pick(DECODERS, self.card.decoder, "decoder"), self.card
        thresholds = complete_thresholds(card.decoder, card.thresholds)
        layers = decoder.decode(maps, thresholds, (high, wide))
        working = Frame(width, height, card.mpp)
        nuclei = Instances.concatenate(
            [self._table(layer, image, (x0, y0), working) for layer in layers], working
        )
        ink = [is_ink(layer.labels, image, thresholds["ink"]) for layer in layers]
        box = nuclei.boxes_xyxy
        inside = depth(box, tile.core, width, height)
        end = (x0, y0, x0 + wide, y0 + high)  # extent of this tile's pixels
        wider = box + np.array([-1, -1, 1, 1], np.float32)
        mine = inside >= -MARGIN_PX
        return Part(
            nuclei=nuclei.take(mine),
            depth=inside[mine],
            reaches=reaches_out(box, tile.core, width, height)[mine],
            cut=reaches_out(wider, end, width, height)[mine],
            ink=np.concatenate(ink)[mine],
        )

    def _table(
        self, layer: Layer, image: UInt8, corner_xy: tuple[int, int], working: Frame
    ) -> Instances:
        """Return the nuclei of one layer of a tile with features, in working pixels."""
        coords, offsets, boxes = trace(layer.labels)
        return Instances(
            ids=np.arange(1, len(offsets), dtype=np.int64),
            coords_xy=coords + np.array(corner_xy, np.float32),
            offsets=offsets,
            boxes_xyxy=(boxes + np.array(corner_xy * 2)).astype(np.float32),
            scores=layer.scores,
            classes=layer.classes,
            frame=working,
            features=nucleus_features(layer.labels, image, coords, offsets, self.grid.mpp),
            class_names=tuple(self.card.classes),
        )

"""Load tiles of tissue from images and slides into memory, and draw windows from them. No labels.

Only windows with enough stained tissue are used; their positions are computed once per tile, on a
grid of 8 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nucleate.datasets.base import Entry
from nucleate.datasets.grouping import grouping
from nucleate.datasets.loading import at_mpp, describe_set, list_sets
from nucleate.datasets.splits import Split, make_split, refuse_test_images
from nucleate.datasets.test_sets import is_official_test
from nucleate.errors import ConfigError, InputError, nearest
from nucleate.pretraining.recipe import CorpusConfig, FolderConfig
from nucleate.readers.array import ArraySource
from nucleate.readers.opening import open_source
from nucleate.readers.reader import Reader
from nucleate.resolution import no_mpp, resolve_mpp
from nucleate.slides.find_sources import find_sources
from nucleate.stain.tissue import tissue_mask
from nucleate.types import Int32, UInt8

_GRID = 8  # spacing of candidate window corners in pixels, before a random shift below this
_TRIES = 20  # tiles read from a slide per tile kept, before the slide is considered blank
_MOST_BYTES = 8 << 30  # memory limit of all tiles


@dataclass(frozen=True, slots=True)
class Origin:
    """An image or slide that has not been read yet.

    Attributes:
        name: unique in the corpus.
        group: patient or slide.
        read: function that reads its tiles.
        organ: organ stated by the data set.
        test_only: whether it is an official test image.
    """

    name: str
    group: str
    read: Callable[[], list[UInt8]]
    organ: str | None = None
    test_only: bool = False


@dataclass(frozen=True, slots=True)
class TissueTile:
    """A tile of an image or slide.

    Attributes:
        image: uint8 (H, W, 3).
        name: name of the image that it is from.
        corners_yx: int32 (n, 2), upper left corners of windows with enough tissue.
    """

    image: UInt8
    name: str
    corners_yx: Int32


@dataclass(frozen=True, slots=True)
class Corpus:
    """All images of a recipe, split by patients.

    Attributes:
        origins: name -> image.
        split: split into training and validation images.
        sources: one description per set or folder, for the card.
    """

    origins: dict[str, Origin]
    split: Split
    sources: list[dict[str, Any]]

    def read(
        self, part: str, window_px: int, tissue: float, tell: Callable[[str], None]
    ) -> list[TissueTile]:
        """Return the tiles of a part that contain a window with enough tissue.

        Args:
            part: train or validation.
            window_px: edge of a window, in pixels.
            tissue: minimum fraction of tissue in a window.
            tell: called with a message about omitted images.

        Raises:
            InputError: an image cannot be read or has no resolution; no image is large enough;
                none contains tissue.
        """
        found: list[TissueTile] = []
        small: list[str] = []
        blank: list[str] = []
        held = 0
        for name in self.split.parts[part]:
            tiles = self.origins[name].read()
            large = [t for t in tiles if min(t.shape[:2]) >= window_px]
            kept = [TissueTile(t, name, window_corners(t, window_px, tissue)) for t in large]
            kept = [tile for tile in kept if len(tile.corners_yx)]
            if not large:
                (small if tiles else blank).append(name)
            elif not kept:
                blank.append(name)
            found += kept
            held += sum(tile.image.nbytes for tile in kept)
            del tiles, large
            if held > _MOST_BYTES:
                raise ConfigError(
                    f"data: the tiles take more than {_MOST_BYTES >> 30} GiB of memory. Lower "
                    "data.tiles_per_slide, or use fewer images."
                )
        for names, why in (
            (small, f"smaller than the task's window of {window_px} × {window_px} pixels"),
            (blank, f"without a window of {tissue:.0%} tissue"),
        ):
            if names:
                tell(f"omitted from {part}: {len(names)} images {why} ({_some(names)})")
        if not found:
            why = (
                "is large enough for the task" if small and not blank else "contains enough tissue"
            )
            raise InputError(
                f"data: no image for {part} {why}: a window of {window_px} × {window_px} pixels "
                f"with {tissue:.0%} tissue is needed ({_some(small + blank)}). Use other images, "
                "lower data.tissue or the window of the task, or raise data.tile_px."
            )
        return found


def gather(config: CorpusConfig, base: Path) -> Corpus:
    """List the images of a recipe and hold out patients, without reading the images.

    Args:
        config: `data` of the recipe.
        base: base folder of relative paths.

    Raises:
        ConfigError: no such data set or option, or no patient to hold out.
        InputError: a file or folder is missing; an official test image is among the images.
    """
    origins: list[Origin] = []
    sources: list[dict[str, Any]] = []
    if config.sets:
        entries, _, sources = list_sets(config.sets, base / config.root)
        origins += [
            Origin(e.name, e.group, partial(_tiles_of_entry, e, config), e.organ, e.test_only)
            for e in entries.values()
        ]
    for number, folder in enumerate(config.folders):
        prefix = f"{len(config.sets) + number}:"
        found = list(_folder(folder, config, base / config.root, prefix))
        origins += found
        kind, about = "folder of images and slides", (folder.licence, folder.citation)
        sources.append(describe_set(folder.title, kind, folder.path, len(found), *about))
    known = sorted({origin.group for origin in origins})
    for group in config.exclude:
        if group not in known:
            raise ConfigError(
                f"data.exclude: unknown patient {group!r}. {nearest(group, known[:20])}"
            )
    origins = [o for o in origins if o.group not in config.exclude]
    refuse_test_images(origins)
    if not origins:
        raise ConfigError(
            "data.exclude: excludes every image. Add images, or exclude fewer patients."
        )
    split = make_split(origins, config.validation, config.split_seed)
    return Corpus({o.name: o for o in origins}, split, sources)


def _folder(
    folder: FolderConfig, config: CorpusConfig, root: Path, prefix: str
) -> Iterable[Origin]:
    find_group = grouping(folder.group)
    pattern = root / folder.path
    for path in find_sources([pattern]):
        above = pattern if pattern.is_dir() else root
        inside = path.is_relative_to(above)
        name = (path.relative_to(above) if inside else path).as_posix()
        read = partial(_tiles_of_file, path, folder, config)
        official = is_official_test(path.as_posix())
        yield Origin(prefix + name, find_group(name), read, None, official)


def _tiles_of_entry(entry: Entry, config: CorpusConfig) -> list[UInt8]:
    image = at_mpp(entry.read(), config.mpp).image
    return _tiles(Reader(ArraySource(image), config.mpp), config)


def _tiles_of_file(path: Path, folder: FolderConfig, config: CorpusConfig) -> list[UInt8]:
    source = open_source(path)
    mpp = resolve_mpp(str(path), source.mpp, folder.mpp, folder.override_mpp)
    if mpp is None:
        raise no_mpp(path, remedy="Remove it, or set mpp of its folder in the recipe")
    return _tiles(Reader(source, mpp), config)


def _tiles(reader: Reader, config: CorpusConfig) -> list[UInt8]:
    """Return the whole image, or tissue tiles at random positions if it is larger than a tile."""
    grid = reader.grid(config.mpp)
    height, width, edge = grid.height, grid.width, config.tile_px
    if config.tiles_per_slide * edge * edge * 3 > _MOST_BYTES:
        raise ConfigError(
            f"data: {config.tiles_per_slide} tiles of {config.tile_px} pixels take more than "
            f"{_MOST_BYTES >> 30} GiB of memory. Lower data.tiles_per_slide or data.tile_px."
        )
    if max(height, width) <= edge:
        return [reader.read((0, 0, width, height), config.mpp)]
    rng = np.random.default_rng((config.split_seed, height, width))
    tall, wide = min(edge, height), min(edge, width)
    most = min(config.tiles_per_slide, math.ceil(height * width / (tall * wide)))
    found: list[UInt8] = []
    for _ in range(_TRIES * most):
        y, x = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
        tile = reader.read((x, y, x + wide, y + tall), config.mpp)
        if tissue_mask(tile[::4, ::4]).mean() >= config.tissue / 2:
            found.append(tile)
        if len(found) == most:
            break
    return found


def window_corners(image: UInt8, window_px: int, tissue: float) -> Int32:
    """Return the corners of windows with enough tissue: int32 (n, 2), (y, x), multiples of 8.

    Args:
        image: uint8 (H, W, 3), at least as large as a window.
        window_px: edge of a window, in pixels.
        tissue: minimum fraction of stained tissue in a window.

    Example:
        >>> glass = np.full((32, 32, 3), 250, np.uint8)
        >>> stained = np.full((32, 32, 3), (150, 80, 160), np.uint8)
        >>> window_corners(np.hstack([glass, stained]), 32, 0.7).tolist()
        [[0, 24], [0, 32]]
    """
    sums = cv2.integral(tissue_mask(image).astype(np.uint8))
    height, width = image.shape[:2]
    y, x = np.meshgrid(
        np.arange(0, height - window_px + 1, _GRID),
        np.arange(0, width - window_px + 1, _GRID),
        indexing="ij",
    )
    inside = (
        sums[y + window_px, x + window_px] - sums[y, x + window_px]
        - sums[y + window_px, x] + sums[y, x]
    )  # fmt: skip
    return np.argwhere(inside >= tissue * window_px**2).astype(np.int32) * _GRID


def draw_window(
    tiles: list[TissueTile], shares: np.ndarray[Any, Any], window_px: int, rng: np.random.Generator
) -> tuple[int, UInt8]:
    """Draw a window, randomly rotated and mirrored; return the index of its tile, and the window.

    Args:
        tiles: tiles to draw from.
        shares: float64 (n,), cumulative fraction of the windows per tile.
        window_px: edge of a window, in pixels.
        rng: the only source of randomness.
    """
    number = min(int(np.searchsorted(shares, rng.random(), "right")), len(tiles) - 1)
    tile = tiles[number]
    most = np.array(tile.image.shape[:2]) - window_px
    corner = tile.corners_yx[rng.integers(len(tile.corners_yx))]
    y, x = np.minimum(corner + rng.integers(0, _GRID, 2), most)
    window = tile.image[y : y + window_px, x : x + window_px]
    window = np.rot90(window, int(rng.integers(4)))
    return number, np.ascontiguousarray(window[:, ::-1] if rng.random() < 0.5 else window)


def shares_of(tiles: list[TissueTile]) -> np.ndarray[Any, Any]:
    """Return the cumulative fraction of the windows per tile, float64 (n,)."""
    counts = np.array([len(tile.corners_yx) for tile in tiles], np.float64)
    return np.asarray(np.cumsum(counts) / counts.sum())


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

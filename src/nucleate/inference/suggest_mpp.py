"""Estimate the resolution of an image that states none, or a wrong one, from a few tiles."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from nucleate.errors import InputError
from nucleate.geometry.draw import draw_outlines, enlarge
from nucleate.geometry.palette import OUTLINE_RGB
from nucleate.inference.backends import Model
from nucleate.inference.pipeline import EngineOptions
from nucleate.inference.segment import find_nuclei
from nucleate.quality.scale import most_plausible, octaves_off, usual_scan
from nucleate.readers.array import ArraySource
from nucleate.readers.source import RegionError, Source
from nucleate.stain.tissue import tissue_mask
from nucleate.types import Instances, UInt8

TRIED_MPP = (0.125, 0.177, 0.25, 0.354, 0.5, 0.707, 1.0)  # half an octave apart: 80x to 10x
_TILE_PX = 512
_MOST_WORKING_PX = 1536  # edge of a tile at the model's resolution; larger tiles are cropped
_TILES = 2
_ACROSS = 6  # candidate tiles per row and per column
_PANEL_PX, _SHOWN_PX, _TITLE_PX, _COLUMNS = 384, 192, 26, 4


@dataclass(frozen=True, slots=True)
class Tried:
    """What was found at one resolution.

    Attributes:
        mpp: micrometres per pixel.
        nuclei: number of nuclei in all tiles.
        median_um2: median area of the nuclei; None if there are none.
        off: log2 of `mpp` over the mpp that the nuclei suggest; None for fewer than five nuclei.
        panel: uint8 (384, 384, 3), the middle of the first tile with outlines.
    """

    mpp: float
    nuclei: int
    median_um2: float | None
    off: float | None
    panel: UInt8


@dataclass(frozen=True, slots=True)
class Suggestion:
    """The plausible resolutions of an image.

    Attributes:
        found: usual scan resolutions (um/px) and their share of the votes, the most plausible
            first; empty if unknown.
        estimate: um/px that the nuclei look like, before it is rounded to a usual resolution.
        tried: result at each of `TRIED_MPP`.
    """

    found: list[tuple[float, float]]
    estimate: float | None
    tried: list[Tried]


def suggest_mpp(source: Source, model: Model) -> Suggestion:
    """Try seven resolutions on the two tiles with most tissue, and rate them by their nuclei.

    The resolution stated in the file is ignored.

    Raises:
        InputError: nothing of the source can be read.
    """
    tiles = _tiles(source)
    tried = [_tried(tiles, model, mpp) for mpp in TRIED_MPP]
    judged = most_plausible({one.mpp: one.off for one in tried})
    shares: dict[float, float] = {}
    for mpp, share in judged:
        usual = usual_scan(mpp)[0]
        shares[usual] = shares.get(usual, 0.0) + share
    return Suggestion([*shares.items()], judged[0][0] if judged else None, tried)


def contact_sheet(suggestion: Suggestion) -> UInt8:
    """Draw the outlines at all resolutions side by side, the most plausible in a frame."""
    best = suggestion.found[0][0] if suggestion.found else 0.0
    cells = []
    for one in suggestion.tried:
        area = "" if one.median_um2 is None else f", median {one.median_um2:.0f} um2"
        cell = np.full((_PANEL_PX + _TITLE_PX, _PANEL_PX, 3), 255, np.uint8)
        cell[_TITLE_PX:] = one.panel
        title = f"{one.mpp:.3g} um/px: {one.nuclei} nuclei{area}"
        cv2.putText(cell, title, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
        if one.mpp == best:
            cv2.rectangle(cell, (2, 2), (_PANEL_PX - 3, _PANEL_PX + _TITLE_PX - 3), OUTLINE_RGB, 5)
        cells.append(cv2.copyMakeBorder(cell, 4, 4, 4, 4, cv2.BORDER_CONSTANT, value=(255,) * 3))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % _COLUMNS)
    rows = [np.hstack(cells[i : i + _COLUMNS]) for i in range(0, len(cells), _COLUMNS)]
    return np.vstack(rows)


def _tiles(source: Source) -> list[UInt8]:
    """Return the tiles of a source with most tissue, without overlap."""
    edges = [
        sorted(set(np.linspace(0, max(0, size - _TILE_PX), _ACROSS).astype(int).tolist()))
        for size in (source.width, source.height)
    ]
    read: list[tuple[float, int, int, UInt8]] = []
    damage: RegionError | None = None
    for y in edges[1]:
        for x in edges[0]:
            right, bottom = min(x + _TILE_PX, source.width), min(y + _TILE_PX, source.height)
            try:
                tile = source.read(x, y, right, bottom)
            except RegionError as error:
                damage = error
                continue
            read.append((float(tissue_mask(tile[::4, ::4]).mean()), x, y, tile))
            read = _best(read)
    if not read:
        raise damage or InputError(f"{source.name}: has no pixels.")
    return [tile for *_, tile in read]


def _best(read: list[tuple[float, int, int, UInt8]]) -> list[tuple[float, int, int, UInt8]]:
    """Return the tiles with most tissue that do not overlap."""
    chosen: list[tuple[float, int, int, UInt8]] = []
    for one in sorted(read, key=lambda one: (-one[0], one[2], one[1])):
        apart = all(max(abs(one[1] - x), abs(one[2] - y)) >= _TILE_PX for _, x, y, _ in chosen)
        if apart and len(chosen) < _TILES:
            chosen.append(one)
    return chosen


def _tried(tiles: list[UInt8], model: Model, mpp: float) -> Tried:
    """Segment tiles at one resolution."""
    edge = int(_MOST_WORKING_PX * model.card.mpp / mpp)
    cut = [_middle(tile, edge) for tile in tiles]
    options = EngineOptions()
    parts = [find_nuclei(ArraySource(tile), model, mpp, options).nuclei for tile in cut]
    mm2 = sum(tile.shape[0] * tile.shape[1] for tile in cut) * mpp**2 / 1e6
    nuclei = Instances.concatenate(parts, parts[0].frame)
    median = float(np.median(nuclei.features["area_um2"])) if len(nuclei) else None
    return Tried(mpp, len(nuclei), median, octaves_off(nuclei, mm2), _panel(cut[0], parts[0]))


def _middle(tile: UInt8, edge: int) -> UInt8:
    """Return the middle of a tile, at most `edge` pixels wide and high.

    Example:
        >>> _middle(np.arange(12, dtype=np.uint8).reshape(2, 2, 3), 1).tolist()
        [[[0, 1, 2]]]
    """
    y, x = (max(0, (size - edge) // 2) for size in tile.shape[:2])
    return np.ascontiguousarray(tile[y : y + edge, x : x + edge])


def _panel(tile: UInt8, nuclei: Instances) -> UInt8:
    """Return the middle of a tile with its outlines, enlarged first so that lines stay thin."""
    shown = _middle(draw_outlines(*enlarge(tile, nuclei, _PANEL_PX // _SHOWN_PX)), _PANEL_PX)
    panel = np.full((_PANEL_PX, _PANEL_PX, 3), 255, np.uint8)
    panel[: shown.shape[0], : shown.shape[1]] = shown
    return panel

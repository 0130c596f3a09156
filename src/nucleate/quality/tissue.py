"""Find the tissue on a slide, without glass, pen and folds, where there is nothing to segment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from nucleate.readers.reader import PixelBox, Reader
from nucleate.stain.deconvolution import OD_OF_BYTE
from nucleate.stain.tissue import penned, tissue_mask
from nucleate.types import Bool, Float64, UInt8

UM_PER_PX = 8.0  # resolution of the mask: the size of a nucleus
_STRIP = 512  # rows processed at a time
_SHOWN_PX = 1000  # longer edge of the images kept for display
SLIDE_PIXELS = 100_000_000  # images of at least this size are slides: tissue is detected first
_SMALLEST_UM2 = 4_000.0  # smaller pieces are dust
_SEAM_UM = 24.0  # the mask is dilated by this, for pale edges of tissue
# Thresholds of folds, (certain, possible): the density of the least absorbing channel (up to 1.4 in
# flat tissue), and the total density over the slide's median (two layers absorb twice as much).
_FOLD_DENSITY, _FOLD_TIMES = (1.6, 1.0), (1.8, 1.4)

Float16 = NDArray[np.float16]
Array = TypeVar("Array", UInt8, Bool)


@dataclass(frozen=True, slots=True)
class Tissue:
    """Area in which nuclei are searched.

    Attributes:
        mask: bool (h, w), of the whole image.
        level0_per_px: level-0 pixels per pixel of the mask, in x and y.
    """

    mask: Bool
    level0_per_px: tuple[float, float]

    @classmethod
    def over(cls, mask: Bool, reader: Reader) -> Tissue:
        """Return the tissue of a mask that covers a whole slide."""
        high, wide = mask.shape
        return cls(mask, (reader.source.width / wide, reader.source.height / high))

    def touches(self, box: PixelBox, level0_per_px: float) -> bool:
        """Return whether a box in pixels of another grid contains tissue."""
        scale_x, scale_y = (level0_per_px / own for own in self.level0_per_px)
        x0, y0, x1, y1 = box
        rows = slice(max(0, int(y0 * scale_y)), int(np.ceil(y1 * scale_y)))
        columns = slice(max(0, int(x0 * scale_x)), int(np.ceil(x1 * scale_x)))
        return bool(self.mask[rows, columns].any())

    def holds(self, xy: Float64) -> Bool:
        """Return which points (n, 2) in level-0 pixels are on tissue."""
        high, wide = self.mask.shape
        columns = np.clip((xy[:, 0] / self.level0_per_px[0]).astype(int), 0, wide - 1)
        rows = np.clip((xy[:, 1] / self.level0_per_px[1]).astype(int), 0, high - 1)
        return np.asarray(self.mask[rows, columns])


@dataclass(frozen=True, slots=True)
class Survey:
    """Overview of a slide and its tissue.

    Attributes:
        image: uint8 (h, w, 3), reduced for display, as are `pen` and `fold`.
        tissue: tissue without pen and folds, dilated by a margin.
        pen: bool (h, w), ink, or the black outside a scan.
        fold: bool (h, w), tissue on tissue.
        mm2: area of tissue.
    """

    image: UInt8
    tissue: Tissue
    pen: Bool
    fold: Bool
    mm2: float


def survey(reader: Reader) -> Survey:
    """Find the tissue of a slide, at 8 um per pixel.

    Glass, pen and the black outside a scan are recognised by colour (`stain.tissue`). A fold is
    tissue in which even the least absorbing channel transmits less than a fifth of the light and
    the density is 1.8 times the median of the slide's tissue, with its nearly as dense
    surroundings: nuclei cannot be separated there. Pieces below 4,000 um² are dust.

    References:
        Kothari et al. 2013, doi:10.4103/2153-3539.117448 (folds by their density, against that of
        the slide's other tissue).
    """
    image = reader.overview(UM_PER_PX)
    mpp = reader.grid(UM_PER_PX).mpp
    smooth = cv2.GaussianBlur(image, (0, 0), 1.0)
    pen, stained, total, weakest = _densities(smooth)
    usual = float(np.median(total[stained])) if stained.any() else np.inf
    sure, loose = (
        stained & (weakest > least) & (total > times * usual)
        for least, times in zip(_FOLD_DENSITY, _FOLD_TIMES, strict=True)
    )
    fold = without_specks(_pieces_with(loose, sure), _SMALLEST_UM2 / 2 / mpp**2)
    mask = without_specks(stained, _SMALLEST_UM2 / mpp**2)
    reach = max(1, round(_SEAM_UM / mpp))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    mask = cv2.dilate(mask.view(np.uint8), disc).view(np.bool_) & ~pen & ~fold
    tissue = Tissue.over(mask, reader)
    area = float(mask.sum()) * np.prod(tissue.level0_per_px) * reader.mpp**2 / 1e6
    return Survey(_shown(image), tissue, _shown(pen), _shown(fold), float(area))


def _densities(smooth: UInt8) -> tuple[Bool, Bool, Float16, Float16]:
    """Return pen, tissue, and the total and smallest optical density of the channels, by strips."""
    shape = smooth.shape[:2]
    pen, stained = np.empty(shape, np.bool_), np.empty(shape, np.bool_)
    total, weakest = np.empty(shape, np.float16), np.empty(shape, np.float16)
    for top in range(0, shape[0], _STRIP):
        rows = slice(top, top + _STRIP)
        pen[rows] = penned(smooth[rows]) >= 0.5
        stained[rows] = tissue_mask(smooth[rows])
        density = OD_OF_BYTE[smooth[rows]]
        total[rows], weakest[rows] = density.sum(axis=-1), density.min(axis=-1)
    return pen, stained, total, weakest


def _shown(image: Array) -> Array:
    """Return an image or mask reduced for display: it stays in memory until the slide is done."""
    scale = _SHOWN_PX / max(image.shape[:2])
    if scale >= 1:
        return image
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    small = cv2.resize(image.view(np.uint8), size, interpolation=cv2.INTER_AREA)
    return small.view(image.dtype)  # type: ignore[no-any-return]


def _pieces_with(mask: Bool, seeds: Bool) -> Bool:
    """Return the 8-connected pieces of a mask that contain a seed."""
    _, pieces = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    chosen = np.unique(pieces[seeds])
    return np.asarray(mask & np.isin(pieces, chosen[chosen > 0]))


def without_specks(mask: Bool, least_px: float) -> Bool:
    """Return a mask without its 8-connected pieces of fewer than `least_px` pixels.

    Example:
        >>> without_specks(np.array([[True, False, True, True]]), 2).tolist()
        [[False, False, True, True]]
    """
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= least_px
    large[0] = False
    return np.asarray(large[pieces])

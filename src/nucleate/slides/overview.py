"""Draw the overview of a slide: tissue, omitted areas, and the density of nuclei."""

from __future__ import annotations

import cv2
import numpy as np

from nucleate.geometry.outlines import centroids_xy
from nucleate.geometry.palette import BLACK, GREEN, ORANGE, PINK
from nucleate.quality.tissue import Survey
from nucleate.resolution import check_mpp
from nucleate.types import Float64, Frame, Instances, UInt8

CELL_UM = 64.0  # edge of a cell of the heat map
_PANEL_PX = 900  # longer edge of each of the two images
_TISSUE_RGB, _PEN_RGB, _FOLD_RGB, _LOST_RGB = GREEN, ORANGE, PINK, BLACK
_NOTHING_RGB = (236, 236, 236)


class Heat:
    """Counts nuclei per cell of a slide."""

    def __init__(self, frame: Frame) -> None:
        self._cell = CELL_UM / check_mpp(frame.mpp)
        shape = -(-frame.height // self._cell), -(-frame.width // self._cell)
        self.counts: Float64 = np.zeros((int(shape[0]), int(shape[1])))

    def add(self, nuclei: Instances) -> None:
        """Count nuclei."""
        high, wide = self.counts.shape
        cells = (centroids_xy(nuclei.coords_xy, nuclei.offsets) / self._cell).astype(int)
        np.add.at(
            self.counts,
            (np.clip(cells[:, 1], 0, high - 1), np.clip(cells[:, 0], 0, wide - 1)),
            1,
        )

    def per_mm2(self) -> Float64:
        """Return the nuclei per mm² in each cell."""
        return np.asarray(self.counts / (CELL_UM / 1000) ** 2)


def draw_overview(
    seen: Survey, heat: Heat, lost: list[tuple[float, float, float, float]], title: str
) -> UInt8:
    """Draw the slide with its tissue outlined, next to the density of nuclei.

    Args:
        seen: survey of the slide; pen is marked orange, folds pink.
        heat: nuclei per cell.
        lost: boxes in level-0 pixels that could not be read, marked with a cross.
        title: title, one line.

    Returns:
        uint8 (H, W, 3).
    """
    high, wide = seen.tissue.mask.shape
    scale = _PANEL_PX / max(high, wide)
    size = max(1, round(wide * scale)), max(1, round(high * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    left = cv2.resize(seen.image, size, interpolation=way)
    for mask, colour in (
        (seen.tissue.mask, _TISSUE_RGB), (seen.pen, _PEN_RGB), (seen.fold, _FOLD_RGB),
    ):  # fmt: skip
        large = cv2.resize(mask.view(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        rings, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(left, rings, -1, colour, 2)
    for x0, y0, x1, y1 in lost:
        across, down = (scale / per_px for per_px in seen.tissue.level0_per_px)
        a, b = (round(x0 * across), round(y0 * down)), (round(x1 * across), round(y1 * down))
        cv2.line(left, a, b, _LOST_RGB, 2)
        cv2.line(left, (a[0], b[1]), (b[0], a[1]), _LOST_RGB, 2)
    density = heat.per_mm2()
    top = float(np.percentile(density[density > 0], 99)) if (density > 0).any() else 1.0
    levels = np.clip(density / top * 255, 0, 255).astype(np.uint8)
    right = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    high, wide = levels.shape
    there = cv2.resize(seen.tissue.mask.view(np.uint8), (wide, high), interpolation=cv2.INTER_AREA)
    right[(density == 0) & (there == 0)] = _NOTHING_RGB
    right = cv2.resize(right, size, interpolation=cv2.INTER_NEAREST)
    return _framed(left, right, title, top)


def _framed(left: UInt8, right: UInt8, title: str, top: float) -> UInt8:
    """Put two images side by side, with a title above and a legend below."""
    high, wide = left.shape[:2]
    gap, above, below = 16, 44, 60
    total = max(2 * wide + 3 * gap, 640)
    out = np.full((above + high + below, total, 3), 255, np.uint8)
    out[above : above + high, gap : gap + wide] = left
    out[above : above + high, 2 * gap + wide : 2 * gap + 2 * wide] = right
    _write(out, title, (gap, 30))
    y = above + high + 22
    for x, colour, word in (
        (gap, _TISSUE_RGB, "tissue"), (gap + 100, _PEN_RGB, "pen"), (gap + 180, _FOLD_RGB, "fold"),
    ):  # fmt: skip
        cv2.rectangle(out, (x, y - 10), (x + 14, y + 4), colour, -1)
        _write(out, word, (x + 20, y + 3))
    ramp = np.tile(np.linspace(0, 255, 160).astype(np.uint8), (14, 1))
    bar = cv2.cvtColor(cv2.applyColorMap(ramp, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    x = min(2 * gap + wide, total - 400)
    out[y - 10 : y + 4, x + 20 : x + 180] = bar
    _write(out, "0", (x, y + 3))
    _write(out, f"{top:,.0f} nuclei per mm2", (x + 188, y + 3))
    return out


def _write(image: UInt8, text: str, place_xy: tuple[int, int]) -> None:
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(image, plain, place_xy, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (30, 30, 30), 1, cv2.LINE_AA)

"""Decide which nuclei a tile emits.

A nucleus belongs to the tile whose core contains the centre of its box. Two tiles may place a
nucleus on their common border a pixel apart, so that both or neither would own it. Therefore a tile
also emits nuclei whose centre is up to `MARGIN_PX` outside its core; `inference.seams` drops the
duplicates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nucleate.types import Bool, Float32, Float64, Instances

Ground = tuple[float, float, float, float]  # x0, y0, x1, y1 of a core
MARGIN_PX = 6  # tiles disagreed by 1.5 pixels when measured; docs/concepts/architecture.md


@dataclass(frozen=True, slots=True)
class Part:
    """The nuclei that one tile emits.

    Attributes:
        nuclei: nuclei in working pixels.
        depth: float64 (n,), from `depth`.
        reaches: bool (n,), whether the box extends beyond the core, towards another tile.
        cut: bool (n,), whether the outline is cut off at the edge of the tile.
        ink: bool (n,), whether it has the colour of ink and is left out.
    """

    nuclei: Instances
    depth: Float64
    reaches: Bool
    cut: Bool
    ink: Bool


def depth(boxes_xyxy: Float32, core: Ground, width: int, height: int) -> Float64:
    """Return the depth of each box centre inside a core, in pixels; negative outside.

    Edges of the image are ignored: there is no tile beyond them.

    Example:
        >>> box = np.array([[8, 0, 10, 2]], np.float32)
        >>> depth(box, (0, 0, 10, 10), 20, 10).tolist()
        [1.0]
    """
    x = (boxes_xyxy[:, 0].astype(np.float64) + boxes_xyxy[:, 2]) / 2
    y = (boxes_xyxy[:, 1].astype(np.float64) + boxes_xyxy[:, 3]) / 2
    inside = np.full(len(boxes_xyxy), np.inf)
    x0, y0, x1, y1 = core
    if x0 > 0:
        inside = np.minimum(inside, x - x0)
    if y0 > 0:
        inside = np.minimum(inside, y - y0)
    if x1 < width:
        inside = np.minimum(inside, x1 - x)
    if y1 < height:
        inside = np.minimum(inside, y1 - y)
    return inside


def reaches_out(
    boxes_xyxy: Float32, core: Ground, width: int, height: int, band: float = 0.0
) -> Bool:
    """Return which boxes extend beyond a core, or come within `band` pixels of its border.

    Edges of the image are ignored.

    Example:
        >>> reaches_out(np.array([[8, 0, 11, 2]], np.float32), (0, 0, 10, 10), 20, 10).tolist()
        [True]
    """
    x0, y0, x1, y1 = core
    out: Bool = (
        ((boxes_xyxy[:, 0] < x0 + band) & (x0 > 0))
        | ((boxes_xyxy[:, 1] < y0 + band) & (y0 > 0))
        | ((boxes_xyxy[:, 2] > x1 - band) & (x1 < width))
        | ((boxes_xyxy[:, 3] > y1 - band) & (y1 < height))
    )
    return out

"""Select nuclei by ranges of features and by a region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nucleate.errors import InputError
from nucleate.types import Bool, Float32, Float64, Frame


@dataclass(frozen=True, slots=True)
class Filter:
    """Range of a feature, low..high inclusive; nuclei without a value do not pass.

    Attributes:
        column: name of a feature, `score`, `class`, or `outcome`.
        low: minimum.
        high: maximum.
    """

    column: str
    low: float
    high: float


Filters = tuple[Filter, ...]


def within(ring_xy: Float64, points_xy: Float32) -> Bool:
    """Return which points are inside a polygon (not on its boundary), bool (n,).

    Example:
        >>> square = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], float)
        >>> within(square, np.array([[1, 1], [5, 1], [0, 2]], np.float32)).tolist()
        [True, False, False]
    """
    import shapely

    polygon = shapely.make_valid(shapely.Polygon(ring_xy))
    shapely.prepare(polygon)
    x, y = points_xy[:, 0].astype(np.float64), points_xy[:, 1].astype(np.float64)
    return np.asarray(shapely.contains_xy(polygon, x, y), np.bool_)


def area_px(ring_xy: Float64, frame: Frame) -> float:
    """Return the area of a polygon within an image, in square pixels.

    Example:
        >>> area_px(np.array([[-4, 0], [4, 0], [4, 4], [-4, 4]], float), Frame(10, 3))
        12.0
    """
    import shapely

    polygon = shapely.make_valid(shapely.Polygon(ring_xy))
    image = shapely.box(0, 0, frame.width, frame.height)
    return float(shapely.area(shapely.intersection(polygon, image)))


def parse_filters(found: Sequence[Any]) -> Filters:
    """Parse filters sent by the page, each as [column, low, high].

    Raises:
        InputError: not a list of filters.
    """
    try:
        filters = tuple(Filter(str(name), float(low), float(high)) for name, low, high in found)
    except (TypeError, ValueError) as error:
        raise InputError("A filter must be a list of column, minimum and maximum.") from error
    return tuple(sorted(filters, key=lambda f: f.column))

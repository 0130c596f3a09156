"""What can be measured on each nucleus: size, shape, stain."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nucleate.stain.deconvolution import to_stains
from nucleate.types import Float32, Float64, Int32, Int64, UInt8

COLUMNS = (
    "area_um2", "perimeter_um", "eccentricity", "solidity", "haematoxylin_mean",
)  # fmt: skip


def measure(
    labels: Int32, image: UInt8, coords_xy: Float32, offsets: Int64, mpp: float
) -> dict[str, NDArray[Any]]:
    """Return one column per feature for the labels 1..n of a picture.

    Args:
        labels: int32 (H, W), 1..n without gaps.
        image: uint8 (H, W, 3), the picture under the labels.
        coords_xy: outlines of the labels in pixels, from `labels.trace`.
        offsets: of the outlines.
        mpp: micrometres per pixel.

    Returns:
        float32 (n,) each: `area_um2` (pixels × mpp²); `perimeter_um` (length of the outline);
        `eccentricity` (of the ellipse of equal second moments: 0 round, 1 a line); `solidity`
        (area of the outline over that of its convex hull, at most 1); `haematoxylin_mean` (optical
        density, natural logarithm).

    Example:
        >>> from nucleate.labels import trace
        >>> labels = np.ones((3, 3), np.int32)
        >>> xy, offsets, _ = trace(labels)
        >>> table = measure(labels, np.full((3, 3, 3), 255, np.uint8), xy, offsets, mpp=0.5)
        >>> float(table["area_um2"][0]), float(table["eccentricity"][0])
        (2.25, 0.0)
    """
    from nucleate import _kernels

    n = len(offsets) - 1
    sums = _kernels.moments(labels, np.ascontiguousarray(to_stains(image)[..., 0]), n)
    area = np.maximum(sums[:, 0], 1)
    perimeter, hull_share = _outlines(coords_xy, offsets)
    return {
        "area_um2": (sums[:, 0] * mpp**2).astype(np.float32),
        "perimeter_um": (perimeter * mpp).astype(np.float32),
        "eccentricity": _eccentricity(sums).astype(np.float32),
        "solidity": hull_share.astype(np.float32),
        "haematoxylin_mean": (sums[:, 6] / area).astype(np.float32),
    }


def _eccentricity(sums: Float64) -> Float64:
    """Return the eccentricity from area and coordinate sums; pixels are squares, not points."""
    area = np.maximum(sums[:, 0], 1)
    x, y = sums[:, 1] / area, sums[:, 2] / area
    xx = sums[:, 3] / area - x * x + 1 / 12
    yy = sums[:, 4] / area - y * y + 1 / 12
    xy = sums[:, 5] / area - x * y
    middle, spread = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    return np.sqrt(np.clip(1 - (middle - spread) / (middle + spread), 0, 1))


def _outlines(coords_xy: Float32, offsets: Int64) -> tuple[Float64, Float64]:
    """Return the length of each closed outline and its area over that of its convex hull."""
    n = len(offsets) - 1
    length, share = np.zeros(n), np.ones(n)
    for i in range(n):
        outline = coords_xy[offsets[i] : offsets[i + 1]]
        length[i] = cv2.arcLength(outline, True)
        hull = cv2.contourArea(cv2.convexHull(outline))
        if hull > 0:
            share[i] = min(1.0, cv2.contourArea(outline) / hull)
    return length, share

"""Loops that measure nuclei: sums over pixels, and neighbours."""

from __future__ import annotations

import numpy as np
from numba import njit

from nucleate.geometry.kernels.compiled import compiled


@compiled
def sums(labels, values, n):  # type: ignore[no-untyped-def]
    """Return (n, 2): number of pixels of each label 1..n, and the sum of `values` on them."""
    height, width = labels.shape
    out = np.zeros((n, 2))
    for y in range(height):
        for x in range(width):
            i = labels[y, x] - 1
            if i >= 0:
                out[i, 0] += 1
                out[i, 1] += np.float64(values[y, x])
    return out


@compiled
def colours(labels, image, n):  # type: ignore[no-untyped-def]
    """Return (n, 4): number of pixels of each label 1..n, and the sums of red, green and blue."""
    height, width = labels.shape
    out = np.zeros((n, 4), np.int64)
    for y in range(height):
        for x in range(width):
            i = labels[y, x] - 1
            if i >= 0:
                out[i, 0] += 1
                out[i, 1] += image[y, x, 0]
                out[i, 2] += image[y, x, 1]
                out[i, 3] += image[y, x, 2]
    return out


@njit(nogil=True, inline="always")
def _amount(image, y, x, stain, which):  # type: ignore[no-untyped-def]
    red, green, blue = image[y, x, 0], image[y, x, 1], image[y, x, 2]
    return stain[red, 0, which] + stain[green, 1, which] + stain[blue, 2, which]


@compiled
def nucleus_sums(labels, image, density, to_stains, n, bins, densest):  # type: ignore[no-untyped-def]
    """Accumulate measurements in one pass over the pixels of the labels 1..n.

    First (n, 12): area; sums of x, y, xx, yy, xy, relative to the label's first pixel; sums of
    haematoxylin, eosin and the gradient of haematoxylin; sums of their squares. Then (n, bins): the
    histogram of haematoxylin from 0 to `densest`. `density` is that of each byte, `to_stains`
    (3, 2) the share of each channel. The gradient is that of `numpy.gradient`.
    """
    height, width = labels.shape
    out = np.zeros((n, 12), np.float64)
    counts = np.zeros((n, bins), np.int64)
    first = np.zeros((n, 2), np.int64)
    stain = np.empty((256, 3, 2), np.float32)
    for byte in range(256):
        for channel in range(3):
            for which in range(2):
                stain[byte, channel, which] = density[byte] * to_stains[channel, which]
    per_level = np.float32(bins / densest)
    for y in range(height):
        above, below = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            i = labels[y, x] - 1
            if i < 0:
                continue
            if out[i, 0] == 0:
                first[i, 0], first[i, 1] = y, x
            dy, dx = y - first[i, 0], x - first[i, 1]
            out[i, 0] += 1
            out[i, 1] += dx
            out[i, 2] += dy
            out[i, 3] += dx * dx
            out[i, 4] += dy * dy
            out[i, 5] += dx * dy
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            dark = _amount(image, y, x, stain, 0)
            pink = _amount(image, y, x, stain, 1)
            across = _amount(image, y, right, stain, 0) - _amount(image, y, left, stain, 0)
            down = _amount(image, below, x, stain, 0) - _amount(image, above, x, stain, 0)
            across /= np.float32(max(right - left, 1))
            down /= np.float32(max(below - above, 1))
            steep = np.sqrt(across * across + down * down)
            for k, value in enumerate((dark, pink, steep)):
                out[i, 6 + k] += np.float64(value)
                out[i, 9 + k] += np.float64(value) * np.float64(value)
            counts[i, min(max(int(dark * per_level), 0), bins - 1)] += 1
    return out, counts


@compiled
def neighbours(xy, others, order, starts, cell_xy, across, cell, radius):  # type: ignore[no-untyped-def]
    """Count the others within `radius` of each point, and measure the distance to the nearest.

    `order` lists the others sorted by cell of size `cell` ≥ `radius`, `starts` the start of each
    cell in it, `cell_xy` the corner of the first cell. A point at distance 0 is the point itself.
    """
    n = xy.shape[0]
    counts = np.zeros(n, np.int64)
    nearest = np.full(n, np.inf)
    down = (starts.shape[0] - 1) // across
    for i in range(n):
        column = int((xy[i, 0] - cell_xy[0]) // cell)
        row = int((xy[i, 1] - cell_xy[1]) // cell)
        for r in range(max(row - 1, 0), min(row + 2, down)):
            for c in range(max(column - 1, 0), min(column + 2, across)):
                for k in range(starts[r * across + c], starts[r * across + c + 1]):
                    j = order[k]
                    dx, dy = others[j, 0] - xy[i, 0], others[j, 1] - xy[i, 1]
                    distance = np.sqrt(dx * dx + dy * dy)
                    if 0 < distance <= radius:
                        counts[i] += 1
                        nearest[i] = min(nearest[i], distance)
    return counts, nearest

"""Loops along outlines: labels → polygons, and polygons → labels."""

from __future__ import annotations

import numpy as np
from numba import njit

from nucleate.geometry.kernels.compiled import compiled


@compiled
def trace(labels, n):  # type: ignore[no-untyped-def]
    """Trace the first 4-connected piece of each label 1..n.

    Return vertices (m, 2), offsets (n + 1,) and boxes (n, 4) as x0, y0, x1, y1, half-open.

    The trace follows the cracks between pixels, clockwise, and emits the middle of each crack: the
    marching-squares contour at one half. Runs of equal direction are reduced to their ends. Every
    pixel centre of the piece is inside, every other one outside.
    """
    height, width = labels.shape
    first = np.full((n + 1, 2), -1, np.int64)
    for y in range(height):
        for x in range(width):
            if labels[y, x] > 0 and first[labels[y, x], 0] < 0:
                first[labels[y, x], 0], first[labels[y, x], 1] = y, x
    boxes = np.empty((n, 4), np.int64)
    step_y = np.array([0, 1, 0, -1])  # directions: 0 east, 1 south, 2 west, 3 north
    step_x = np.array([1, 0, -1, 0])
    right_y = np.array([0, 0, -1, -1])  # from a corner, the pixel ahead on the right
    right_x = np.array([0, -1, -1, 0])
    left_y = np.array([-1, 0, 0, -1])  # and on the left
    left_x = np.array([0, 0, -1, -1])
    out = np.empty((1024, 2), np.float32)
    offsets = np.zeros(n + 1, np.int64)
    used = 0
    for k in range(n):
        wanted, way, begin = k + 1, 0, used
        y, x = first[wanted]
        left, top, right, bottom = width, height, 0, 0
        while y >= 0:  # an absent label has no outline
            left, top, right, bottom = min(left, x), min(top, y), max(right, x), max(bottom, y)
            if used + 2 > len(out):
                larger = np.empty((2 * len(out), 2), np.float32)
                for i in range(used):
                    larger[i, 0], larger[i, 1] = out[i, 0], out[i, 1]
                out = larger
            middle_x, middle_y = x + 0.5 * step_x[way], y + 0.5 * step_y[way]
            if used - begin >= 2:  # drop the previous vertex if it is on a straight run
                ax, ay = out[used - 1, 0] - out[used - 2, 0], out[used - 1, 1] - out[used - 2, 1]
                bx, by = middle_x - out[used - 1, 0], middle_y - out[used - 1, 1]
                if ax * by == ay * bx and ax * bx + ay * by > 0:
                    used -= 1
            out[used, 0], out[used, 1] = middle_x, middle_y
            used += 1
            y, x = y + step_y[way], x + step_x[way]
            v, u = y + right_y[way], x + right_x[way]
            if not (0 <= v < height and 0 <= u < width and labels[v, u] == wanted):
                way = (way + 1) % 4
            else:
                v, u = y + left_y[way], x + left_x[way]
                if 0 <= v < height and 0 <= u < width and labels[v, u] == wanted:
                    way = (way + 3) % 4
            if y == first[wanted, 0] and x == first[wanted, 1] and way == 0:
                break
        boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3] = left, top, right, bottom
        offsets[k + 1] = used
    return out[:used].copy(), offsets, boxes


@njit(nogil=True, inline="always")
def _rows(y0, y1, top, end):  # type: ignore[no-untyped-def]
    """Return the rows, half-open, whose pixel centres are from y0 to below y1."""
    low, high = min(y0, y1), max(y0, y1)
    return max(top, int(np.ceil(low - 0.5))), min(end, int(np.ceil(high - 0.5)))


@compiled
def fill(labels, points, offsets, values):  # type: ignore[no-untyped-def]
    """Write value i on the free pixels whose centre is in polygon i (even-odd rule), in order.

    Polygon i is `points[offsets[i]:offsets[i + 1]]`; with fewer than three vertices it is empty.
    Return how many pixel centres inside a polygon were not free.
    """
    height, width = labels.shape
    taken = 0
    for k in range(len(values)):
        xy = points[offsets[k] : offsets[k + 1]]
        n = len(xy)
        if n < 3:
            continue
        top = min(max(0, int(np.ceil(xy[:, 1].min() - 0.5))), height)
        end = max(top, min(height, int(np.ceil(xy[:, 1].max() - 0.5))))
        begins = np.zeros(end - top + 1, np.int64)  # of the crossings of each row
        for i in range(n):
            first, last = _rows(xy[i - 1, 1], xy[i, 1], top, end)
            for row in range(first, last):
                begins[row - top + 1] += 1
        for row in range(end - top):
            begins[row + 1] += begins[row]
        ends = begins.copy()
        crossings = np.empty(begins[-1], np.float64)
        for i in range(n):
            x0, y0 = xy[i - 1, 0], xy[i - 1, 1]
            x1, y1 = xy[i, 0], xy[i, 1]
            first, last = _rows(y0, y1, top, end)
            for row in range(first, last):
                at = ends[row - top]
                ends[row - top] += 1
                x = x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0)
                while at > begins[row - top] and crossings[at - 1] > x:  # keep a row sorted
                    crossings[at] = crossings[at - 1]
                    at -= 1
                crossings[at] = x
        for row in range(top, end):
            for at in range(begins[row - top], begins[row - top + 1] - 1, 2):
                left = max(0, int(np.ceil(crossings[at] - 0.5)))
                right = min(width, int(np.ceil(crossings[at + 1] - 0.5)))
                for column in range(left, right):
                    if labels[row, column] == 0:
                        labels[row, column] = values[k]
                    else:
                        taken += 1
    return taken

"""Loops along outlines: labels → polygons, and polygons → labels."""

from __future__ import annotations

import numpy as np

from nucleate.geometry.kernels.compiled import compiled


@compiled
def trace(labels, boxes):  # type: ignore[no-untyped-def]
    """Trace the first 4-connected piece of each label 1..n; return vertices (m, 2) and offsets.

    `boxes` (n, 4) are the boxes of the labels. The trace follows the cracks between pixels,
    clockwise, and emits the middle of each crack: the marching-squares contour at one half. Runs of
    equal direction are reduced to their ends. Every pixel centre of the piece is inside, every
    other one outside.
    """
    height, width = labels.shape
    step_y = np.array([0, 1, 0, -1])  # directions: 0 east, 1 south, 2 west, 3 north
    step_x = np.array([1, 0, -1, 0])
    right_y = np.array([0, 0, -1, -1])  # from a corner, the pixel ahead on the right
    right_x = np.array([0, -1, -1, 0])
    left_y = np.array([-1, 0, 0, -1])  # and on the left
    left_x = np.array([0, 0, -1, -1])
    out = np.empty((1024, 2), np.float32)
    offsets = np.zeros(len(boxes) + 1, np.int64)
    used = 0
    for k in range(len(boxes)):
        wanted, y, x, way = k + 1, boxes[k, 1], boxes[k, 0], 0
        while x < boxes[k, 2] and labels[y, x] != wanted:
            x += 1
        first_y, first_x, begin = y, x, used
        there = x < boxes[k, 2]  # an absent label has no outline
        while there:
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
            if y == first_y and x == first_x and way == 0:
                break
        offsets[k + 1] = used
    return out[:used].copy(), offsets


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
        low = max(0, int(np.floor(xy[:, 1].min())))
        high = min(height, int(np.ceil(xy[:, 1].max())) + 1)
        crossings = np.empty(n, np.float64)
        for row in range(low, high):
            centre = row + 0.5
            found = 0
            for i in range(n):
                x0, y0 = xy[i - 1, 0], xy[i - 1, 1]
                x1, y1 = xy[i, 0], xy[i, 1]
                if (y0 <= centre) != (y1 <= centre):
                    crossings[found] = x0 + (centre - y0) * (x1 - x0) / (y1 - y0)
                    found += 1
            ordered = np.sort(crossings[:found])
            for pair in range(0, found - 1, 2):
                left = max(0, int(np.ceil(ordered[pair] - 0.5)))
                right = min(width, int(np.ceil(ordered[pair + 1] - 0.5)))
                for column in range(left, right):
                    if labels[row, column] == 0:
                        labels[row, column] = values[k]
                    else:
                        taken += 1
    return taken

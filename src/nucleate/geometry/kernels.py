"""The few loops that neither numpy nor OpenCV can express, compiled by numba.

Nothing here validates: the callers do (`labels.py`, `postprocess.py`, `features.py`). Importing
this module costs half a second, so it is imported inside the functions that need it. Loops copy
element by element: to assign a slice, numba compiles the text of an error, 5 s at a first start.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numba.core.caching import FunctionCache


class _Cache(FunctionCache):  # type: ignore[misc]
    """numba's cache on disk, which a full disk or one that cannot be read does not stop."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what was compiled before; None where there is nothing to read."""
        with contextlib.suppress(OSError):
            return super().load_overload(sig, target_context)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled, if the disk takes it."""
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile with an on-disk cache where a writable place for one exists, else in memory."""
    compiled: Any = njit(nogil=True)(function)
    with contextlib.suppress(RuntimeError):  # read-only installation and no home directory
        compiled._cache = _Cache(function)  # what njit(cache=True) does, with its own class
    return compiled  # type: ignore[no-any-return]


@_compiled
def boxes_areas(labels, n):  # type: ignore[no-untyped-def]
    """Return boxes (n, 4) as x0, y0, x1, y1 (half-open) and areas (n,) of the labels 1..n."""
    height, width = labels.shape
    boxes = np.empty((n, 4), np.int64)
    boxes[:, 0], boxes[:, 1], boxes[:, 2], boxes[:, 3] = width, height, 0, 0
    areas = np.zeros(n, np.int64)
    for y in range(height):
        for x in range(width):
            i = labels[y, x] - 1
            if i >= 0:
                areas[i] += 1
                boxes[i, 0] = min(boxes[i, 0], x)
                boxes[i, 1] = min(boxes[i, 1], y)
                boxes[i, 2] = max(boxes[i, 2], x + 1)
                boxes[i, 3] = max(boxes[i, 3], y + 1)
    return boxes, areas


@_compiled
def flood(levels, markers, pieces, n):  # type: ignore[no-untyped-def]
    """Marker-controlled watershed by a bucket queue: low levels first, first in first out.

    `levels` uint8 (H, W), `markers` int32 (H, W), `pieces` int32 (H, W) the 4-connected pieces 1..n
    of the mask. Ties are broken by age, as in Meyer's algorithm; pixels have four neighbours. The
    result is that of a priority queue. Water does not leave its piece, so each is flooded by
    itself, which keeps memory near, and one of a single marker belongs to that.
    """
    height, width = levels.shape
    wide = width + 2  # a border of pixels that are not free: no neighbour needs to be looked for
    only = np.zeros(n + 1, np.int32)
    several = np.zeros(n + 1, np.bool_)
    ends = np.zeros(n + 2, np.int64)
    for y in range(height):
        for x in range(width):
            piece, marker = pieces[y, x], markers[y, x]
            if piece > 0 and marker > 0:
                if only[piece] != 0 and only[piece] != marker:
                    several[piece] = True
                only[piece] = marker
                ends[piece + 1] += 1
    for i in range(n + 1):
        ends[i + 1] = ends[i] + (ends[i + 1] if several[i] else 0)
    begins = ends.copy()
    seeds = np.empty(ends[n + 1], np.int64)  # of each piece with several markers, row by row
    labels = np.zeros((height + 2) * wide, np.int32)  # -1 is free
    level_of = np.empty((height + 2) * wide, np.uint8)
    following = np.empty((height + 2) * wide, np.int32)
    for y in range(height):
        for x in range(width):
            piece, at = pieces[y, x], (y + 1) * wide + x + 1
            if not several[piece]:
                labels[at] = only[piece]
                continue
            level_of[at] = levels[y, x]
            labels[at] = -1
            if markers[y, x] > 0:
                labels[at] = markers[y, x]
                seeds[begins[piece]] = at
                begins[piece] += 1
    head = np.full(257, -1, np.int32)
    head[256] = 0  # ends the search
    tail = np.full(257, -1, np.int32)
    sides = (-wide, -1, 1, wide)
    near = np.empty(4, np.int64)
    for piece in range(1, n + 1):
        if not several[piece]:
            continue
        level, fresh = 256, seeds[ends[piece] : ends[piece + 1]]
        while True:
            for at in fresh:
                raised = int(level_of[at])
                following[at] = -1
                if head[raised] < 0:
                    head[raised] = at
                else:
                    following[tail[raised]] = at
                tail[raised] = at
                level = min(level, raised)
            while head[level] < 0:
                level += 1
            if level == 256:
                break
            at, reached = head[level], 0
            head[level] = following[at]
            for side in sides:
                there = at + side
                if labels[there] < 0:
                    labels[there] = labels[at]
                    near[reached] = there
                    reached += 1
            fresh = near[:reached]
    return labels.reshape(height + 2, wide)[1:-1, 1:-1].copy()


@_compiled
def renumber(labels, largest):  # type: ignore[no-untyped-def]
    """Return labels 0..largest as 0..n without gaps, and the old number of each of 1..n."""
    table = np.zeros(largest + 1, np.int32)
    flat = labels.ravel()
    for i in flat:
        table[i] = 1
    table[0] = 0
    old = np.flatnonzero(table)
    for i in range(len(old)):
        table[old[i]] = i + 1
    out = np.empty(flat.shape, np.int32)
    for at in range(len(flat)):
        out[at] = table[flat[at]]
    return out.reshape(labels.shape), old


@_compiled
def sums(labels, values, n):  # type: ignore[no-untyped-def]
    """Return (n, 2): how many pixels each label 1..n has, and the sum of `values` on them."""
    height, width = labels.shape
    out = np.zeros((n, 2))
    for y in range(height):
        for x in range(width):
            i = labels[y, x] - 1
            if i >= 0:
                out[i, 0] += 1
                out[i, 1] += np.float64(values[y, x])
    return out


@_compiled
def uneven(labels, n):  # type: ignore[no-untyped-def]
    """Return bool (n,): labels 1..n that are not one 4-connected piece without a hole.

    A hole is what an 8-connected ring encloses. Two by two pixels tell the number of pieces less
    that of holes (Gray 1971, doi:10.1109/T-C.1971.223289); a walk round the first pixel's piece
    that meets every crack between the label and others tells that there is no other piece.
    """
    height, width = labels.shape
    wide = width + 2
    padded = np.zeros((height + 2, wide), np.int32)
    for y in range(height):
        for x in range(width):
            padded[y + 1, x + 1] = labels[y, x]
    corners = np.zeros(n + 1, np.int64)  # 4 × (pieces - holes), where pieces are 8-connected
    cracks = np.zeros(n + 1, np.int64)
    first = np.zeros(n + 1, np.int64)
    for y in range(height + 1):
        a, c = np.int32(0), np.int32(0)
        for x in range(width + 1):
            b, d = padded[y, x + 1], padded[y + 1, x + 1]
            if not a == b == c == d:
                if first[d] == 0:
                    first[d] = (y + 1) * wide + x + 1
                if b != d:
                    cracks[b] += 1
                    cracks[d] += 1
                if c != d:
                    cracks[c] += 1
                    cracks[d] += 1
                for k in range(4):
                    i = (a, b, c, d)[k]
                    if i == 0 or (k > 0 and i == a) or (k > 1 and i == b) or (k > 2 and i == c):
                        continue  # nothing, or counted already
                    same = (a == i) + (b == i) + (c == i) + (d == i)
                    if same == 1:
                        corners[i] += 1
                    elif same == 3:
                        corners[i] -= 1
                    elif same == 2 and (a == d or b == c) and a != b and a != c:
                        corners[i] -= 2
            a, c = b, d
    flat = padded.ravel()
    step = (1, wide, -1, -wide)  # east, south, west, north
    out = np.ones(n, np.bool_)
    for i in range(1, n + 1):
        if cracks[i] == 0:
            continue  # not there
        at, way, met = first[i], 0, 0  # the piece is on the right hand
        while met == 0 or at != first[i] or way != 0:
            met += 1
            if flat[at + step[way]] != i:
                way = (way + 1) % 4
            else:
                at += step[way]
                if flat[at + step[way - 1]] == i:
                    at += step[way - 1]
                    way = (way + 3) % 4
        out[i - 1] = met != cracks[i] or corners[i] != 4
    return out


@_compiled
def trace(labels, boxes):  # type: ignore[no-untyped-def]
    """Walk round the first 4-connected piece of each label 1..n; return vertices (m, 2), offsets.

    `boxes` (n, 4) are those of the labels. The walk follows the cracks between pixels, clockwise,
    and emits the middle of each crack: the contour that marching squares draws at one half. Runs
    of equal direction are shortened to their ends. Every pixel centre of the piece is inside,
    every other one outside.
    """
    height, width = labels.shape
    step_y = np.array([0, 1, 0, -1])  # directions: 0 east, 1 south, 2 west, 3 north
    step_x = np.array([1, 0, -1, 0])
    right_y = np.array([0, 0, -1, -1])  # from a corner, the pixel ahead on the right hand
    right_x = np.array([0, -1, -1, 0])
    left_y = np.array([-1, 0, 0, -1])  # and on the left hand
    left_x = np.array([0, 0, -1, -1])
    out = np.empty((1024, 2), np.float32)
    offsets = np.zeros(len(boxes) + 1, np.int64)
    used = 0
    for k in range(len(boxes)):
        wanted, y, x, way = k + 1, boxes[k, 1], boxes[k, 0], 0
        while x < boxes[k, 2] and labels[y, x] != wanted:
            x += 1
        first_y, first_x, begin = y, x, used
        there = x < boxes[k, 2]  # a label that is not there has no outline
        while there:
            if used + 2 > len(out):
                larger = np.empty((2 * len(out), 2), np.float32)
                for i in range(used):
                    larger[i, 0], larger[i, 1] = out[i, 0], out[i, 1]
                out = larger
            middle_x, middle_y = x + 0.5 * step_x[way], y + 0.5 * step_y[way]
            if used - begin >= 2:  # drop the previous vertex when it is on a straight run
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


@_compiled
def fill(labels, xy, value):  # type: ignore[no-untyped-def]
    """Write `value` on the free pixels whose centre is in polygon `xy` (even-odd rule).

    Return the number of pixel centres inside, and how many of them were taken already.
    """
    height, width = labels.shape
    n = len(xy)
    low = max(0, int(np.floor(xy[:, 1].min())))
    high = min(height, int(np.ceil(xy[:, 1].max())) + 1)
    crossings = np.empty(n, np.float64)
    inside = taken = 0
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
                inside += 1
                if labels[row, column] == 0:
                    labels[row, column] = value
                else:
                    taken += 1
    return inside, taken


@njit(nogil=True, inline="always")
def _amount(image, y, x, stain, which):  # type: ignore[no-untyped-def]
    red, green, blue = image[y, x, 0], image[y, x, 1], image[y, x, 2]
    return stain[red, 0, which] + stain[green, 1, which] + stain[blue, 2, which]


@_compiled
def nucleus_sums(labels, image, density, to_stains, n, bins, densest):  # type: ignore[no-untyped-def]
    """Return what a pass over the pixels of the labels 1..n tells.

    First (n, 12): area; sums of x, y, xx, yy, xy, counted from the label's first pixel; sums of
    haematoxylin, eosin and the steepness of the haematoxylin; sums of their squares. Then (n, bins)
    how often each level of haematoxylin from 0 to `densest` occurs. `density` is that of each byte,
    `to_stains` (3, 2) the share of each channel. The steepness is that of `numpy.gradient`.
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


@_compiled
def neighbours(xy, others, order, starts, cell_xy, across, cell, radius):  # type: ignore[no-untyped-def]
    """Return of each point how many others lie within `radius`, and how far the nearest is.

    `order` contains the others sorted by their cell of `cell` ≥ `radius`, `starts` where each cell
    begins in it, `cell_xy` the corner of the first cell. A point at the same place is itself.
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


@_compiled
def look_up(image, table):  # type: ignore[no-untyped-def]
    """Return `image` through a table of colours (n, n, n, 3), between which it interpolates.

    Tetrahedral interpolation, as colour management uses it: from the lower corner of the cell
    along red, green and blue in the order of their remainders. Greys stay free of tints.
    """
    height, width, _ = image.shape
    n = table.shape[0]
    flat = np.rint(table * np.float32(64)).astype(np.int32).reshape(-1)  # whole numbers are faster
    low = np.empty(256, np.uint32)  # unsigned: numba need not look for negative indices
    rest = np.empty(256, np.int32)  # in 1/256 of a step
    for v in range(256):
        at = v * (n - 1) * 256 // 255
        low[v] = np.uint32(min(at >> 8, n - 2))
        rest[v] = at - (np.int64(low[v]) << 8)
    step_r, step_g, step_b = np.uint32(3 * n * n), np.uint32(3 * n), np.uint32(3)
    to_last = step_r + step_g + step_b
    out = np.empty((height, width, 3), np.uint8)
    for y in range(height):
        for x in range(width):
            r, g, b = image[y, x, 0], image[y, x, 1], image[y, x, 2]
            base = low[r] * step_r + low[g] * step_g + low[b] * step_b
            a, c, d = rest[r], rest[g], rest[b]
            greatest, least = max(a, c, d), min(a, c, d)
            middle = a + c + d - greatest - least
            first = step_r if a == greatest else (step_g if c == greatest else step_b)
            without = step_b if d == least else (step_g if c == least else step_r)
            one, two, last = base + first, base + to_last - without, base + to_last
            w0, w1, w2 = 256 - greatest, greatest - middle, middle - least
            for k in range(np.uint32(3)):
                value = (
                    flat[base + k] * w0
                    + flat[one + k] * w1
                    + flat[two + k] * w2
                    + flat[last + k] * least
                )
                out[y, x, k] = (value + 8192) >> 14
    return out


@_compiled
def distances(labels, n):  # type: ignore[no-untyped-def]
    """Return of each pixel of the labels 1..n its distance to the outside of its label.

    Between pixel centres, float32 (H, W), 0 on background; and float32 (n,), the largest of each
    label. Along a row the nearest stranger is known from two passes; along a column it is looked
    for no farther than the best that is known. Beyond the image is no outside.
    """
    height, width = labels.shape
    endless = (height + width) ** 2
    beside = np.empty((height, width), np.int64)  # squared distance to a stranger in the row
    for y in range(height):
        begin = -1  # of the run of equal labels that x is in
        for x in range(width):
            if x == 0 or labels[y, x] != labels[y, x - 1]:
                begin = x
            beside[y, x] = x - begin + 1 if begin > 0 else height + width
        end = width
        for x in range(width - 1, -1, -1):
            if x < width - 1 and labels[y, x] != labels[y, x + 1]:
                end = x + 1
            far = min(beside[y, x], end - x) if end < width else beside[y, x]
            beside[y, x] = far * far
    out = np.zeros((height, width), np.float32)
    peaks = np.zeros(n, np.float32)
    for y in range(height):
        for x in range(width):
            label = labels[y, x]
            if label == 0:
                continue
            best = beside[y, x]
            for step in (-1, 1):
                row, away = y + step, 1
                while 0 <= row < height and away * away < best:
                    if labels[row, x] != label:
                        best = away * away
                    else:
                        best = min(best, away * away + beside[row, x])
                    row += step
                    away += 1
            far = np.float32(np.sqrt(min(best, endless)))
            out[y, x] = far
            peaks[label - 1] = max(peaks[label - 1], far)
    return out, peaks


@_compiled
def nearest(labels, ignore, map_x, map_y):  # type: ignore[no-untyped-def]
    """Return labels and ignored areas at the pixels nearest to positions (h, w).

    Outside of the image the label is 0 and ignored. `ignore` of shape (0, 0) is none at all.
    """
    height, width = labels.shape
    out = np.zeros(map_x.shape, np.int32)
    vague = np.zeros(map_x.shape, np.bool_)
    for i in range(map_x.shape[0]):
        for j in range(map_x.shape[1]):
            # halves round to even, as in np.rint
            x, y = np.int64(np.rint(map_x[i, j])), np.int64(np.rint(map_y[i, j]))
            if 0 <= x < width and 0 <= y < height:
                out[i, j] = labels[y, x]
                if ignore.size > 0:
                    vague[i, j] = ignore[y, x]
            else:
                vague[i, j] = True
    return out, vague


@_compiled
def mix(image, density, matrix, offset, light, per_density):  # type: ignore[no-untyped-def]
    """Return an RGB image whose optical densities are multiplied by a matrix and shifted.

    `density` (256,) of each byte, `matrix` (3, 3) from old (rows) to new channels, `offset` (3,)
    per new channel; `light` is the byte of each density, in steps of 1 / `per_density` from 0 on.
    """
    height, width, _ = image.shape
    out = np.empty((height, width, 3), np.uint8)
    parts = np.empty((3, 256, 3), np.float32)
    for c in range(3):
        for byte in range(256):
            for k in range(3):
                parts[c, byte, k] = density[byte] * matrix[c, k] * per_density
    last = np.float32(len(light) - 1)
    begin = (offset * per_density + 0.5).astype(np.float32)
    for y in range(height):
        for x in range(width):
            red, green, blue = image[y, x, 0], image[y, x, 1], image[y, x, 2]
            for k in range(3):
                at = begin[k] + parts[0, red, k] + parts[1, green, k] + parts[2, blue, k]
                out[y, x, k] = light[np.int64(min(max(at, np.float32(0)), last))]
    return out

"""Loops over label images: boxes, watershed, renumbering, pieces, distances, resampling."""

from __future__ import annotations

import numpy as np
from numba import njit

from nucleate.geometry.kernels.compiled import compiled


@njit(nogil=True, inline="always")
def _no_boxes(n, width, height):  # type: ignore[no-untyped-def]
    boxes = np.empty((n, 4), np.int64)
    boxes[:, 0], boxes[:, 1], boxes[:, 2], boxes[:, 3] = width, height, 0, 0
    return boxes


@njit(nogil=True, inline="always")
def _widen(boxes, i, x, y):  # type: ignore[no-untyped-def]
    boxes[i, 0] = min(boxes[i, 0], x)
    boxes[i, 1] = min(boxes[i, 1], y)
    boxes[i, 2] = max(boxes[i, 2], x + 1)
    boxes[i, 3] = max(boxes[i, 3], y + 1)


@compiled
def boxes_areas(labels, n):  # type: ignore[no-untyped-def]
    """Return boxes (n, 4) as x0, y0, x1, y1 (half-open) and areas (n,) of the labels 1..n."""
    height, width = labels.shape
    boxes = _no_boxes(n, width, height)
    areas = np.zeros(n, np.int64)
    for y in range(height):
        for x in range(width):
            i = labels[y, x] - 1
            if i >= 0:
                areas[i] += 1
                _widen(boxes, i, x, y)
    return boxes, areas


@compiled
def flood(levels, markers, pieces, n):  # type: ignore[no-untyped-def]
    """Flood by marker-controlled watershed with a bucket queue: low levels first, then FIFO.

    `levels` uint8 (H, W), `markers` int32 (H, W), `pieces` int32 (H, W) the 4-connected pieces 1..n
    of the mask. Ties are broken by age, as in Meyer's algorithm, with four neighbours; the result
    equals that of a priority queue. Pieces are flooded one by one, for locality of memory, and a
    piece with a single marker gets its label without flooding.
    """
    height, width = levels.shape
    wide = width + 2  # a border of pixels that are not free saves bounds checks
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
    seeds = np.empty(ends[n + 1], np.int64)  # markers of pieces with several, in row order
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
    head[256] = 0  # sentinel
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


@compiled
def renumber(labels, largest, least):  # type: ignore[no-untyped-def]
    """Renumber those of the labels 1..largest that have at least `least` pixels to 1..n.

    Return the new labels, without the others, and the old number of 1..n.
    """
    flat = labels.ravel()
    areas = np.zeros(largest + 1, np.int64)
    for i in flat:
        if i > 0:
            areas[i] += 1
    old = np.flatnonzero(areas >= least)
    table = np.zeros(largest + 1, np.int32)
    for i in range(len(old)):
        table[old[i]] = i + 1
    out = np.empty(flat.shape, np.int32)
    for at in range(len(flat)):
        out[at] = table[flat[at]]
    return out.reshape(labels.shape), old


@compiled
def uneven(labels, n):  # type: ignore[no-untyped-def]
    """Return bool (n,): labels 1..n that are not one 4-connected piece without holes; and boxes.

    The boxes are those of `boxes_areas`.

    A hole is enclosed by an 8-connected ring. Counts of 2 × 2 patterns give the number of pieces
    minus that of holes (Gray 1971, doi:10.1109/T-C.1971.223289). If a walk around the first piece
    meets every crack between the label and its surroundings, there is no other piece.
    """
    height, width = labels.shape
    wide = width + 2
    padded = np.zeros((height + 2, wide), np.int32)
    boxes = _no_boxes(n, width, height)
    for y in range(height):
        for x in range(width):
            i = labels[y, x] - 1
            if i >= 0:
                padded[y + 1, x + 1] = i + 1
                _widen(boxes, i, x, y)
    corners = np.zeros(n + 1, np.int64)  # 4 × (pieces - holes), with 8-connected pieces
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
                        continue  # background, or already counted
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
            continue  # absent label
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
    return out, boxes


@compiled
def distances(labels, n):  # type: ignore[no-untyped-def]
    """Compute the distance of each pixel of the labels 1..n to the outside of its label.

    Distances between pixel centres, float32 (H, W), 0 on background; and the largest per label,
    float32 (n,). Two passes find the nearest pixel outside along rows; along columns the search
    stops at the best distance so far. The image border does not count as outside.
    """
    height, width = labels.shape
    endless = (height + width) ** 2
    beside = np.empty((height, width), np.int64)  # squared distance to the outside along the row
    for y in range(height):
        begin = -1  # start of the run of equal labels that contains x
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


@compiled
def nearest(labels, ignore, map_x, map_y):  # type: ignore[no-untyped-def]
    """Sample labels and ignored areas at the pixels nearest to positions (h, w).

    Outside the image the label is 0 and ignored. An `ignore` of shape (0, 0) means none.
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

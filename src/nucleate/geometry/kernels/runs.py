"""Loops over runs of equal labels: pieces, watershed, drawing."""

from __future__ import annotations

import numpy as np
from numba import njit

from nucleate.geometry.kernels.compiled import compiled


@njit(nogil=True, inline="always")
def _root(parents, i):  # type: ignore[no-untyped-def]
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i


@compiled
def join(starts, ends, labels, wide, reach):  # type: ignore[no-untyped-def]
    """Number the connected pieces of the runs 1..m, and count the touching runs above each.

    Runs of equal labels in neighbouring rows touch if they share a column (`reach` 0), or if they
    also share a corner (1). `wide` is the distance of two rows.
    """
    n = len(starts)
    parents = np.arange(n)
    contacts = np.zeros(n, np.int64)
    above = 0  # the first run that may touch run i
    for i in range(n):
        low, high = starts[i] - wide - reach, ends[i] - wide + reach
        while ends[above] <= low:
            above += 1
        k = above
        while starts[k] < high:
            if labels[k] == labels[i]:
                contacts[i] += 1
                one, other = _root(parents, k), _root(parents, i)
                parents[max(one, other)] = min(one, other)  # the root is the first run
            k += 1
    pieces = np.empty(n, np.int64)
    count = 0
    for i in range(n):
        root = _root(parents, i)
        if root == i:
            count += 1
            pieces[i] = count
        else:
            pieces[i] = pieces[root]
    return pieces, contacts


@compiled
def draw(out, starts, ends, numbers, wide):  # type: ignore[no-untyped-def]
    """Write the number of each run on its pixels of `out` (H, W), whose border `wide` includes."""
    for i in range(len(starts)):
        y, x = starts[i] // wide - 1, starts[i] % wide - 1
        for k in range(ends[i] - starts[i]):
            out[y, x + k] = numbers[i]


@njit(nogil=True)
def _by_piece(pieces, n):  # type: ignore[no-untyped-def]
    """Return the indices sorted by piece 0..n, stable, and where each piece begins: (n + 2,)."""
    begins = np.zeros(n + 2, np.int64)
    for piece in pieces:
        begins[piece + 1] += 1
    for i in range(n + 1):
        begins[i + 1] += begins[i]
    order = np.empty(len(pieces), np.int64)
    nexts = begins.copy()
    for i in range(len(pieces)):
        order[nexts[pieces[i]]] = i
        nexts[pieces[i]] += 1
    return order, begins


@njit(nogil=True, inline="always")
def _level(height):  # type: ignore[no-untyped-def]
    """Return the level of a height in 0..1, of 256 levels from the highest."""
    return np.uint8(np.rint((np.float32(1) - height) * np.float32(255)))


@njit(nogil=True)
def _offsets(starts, ends):  # type: ignore[no-untyped-def]
    """Return where the pixels of each run begin, run by run, and where the last ends: (n + 1,)."""
    offsets = np.zeros(len(starts) + 1, np.int64)
    for i in range(len(starts)):
        offsets[i + 1] = offsets[i] + ends[i] - starts[i]
    return offsets


@njit(nogil=True)
def _window(own, starts, ends, wide):  # type: ignore[no-untyped-def]
    """Return top, left, width and pixels of the window around the runs `own` of a piece.

    Width and pixels include a border, which is never part of the piece and saves bounds checks.
    """
    left, right = wide, 0
    for i in own:
        left, right = min(left, starts[i] % wide), max(right, ends[i] % wide)
    top, bottom = starts[own[0]] // wide, starts[own[-1]] // wide
    inner = right - left + 2
    return top, left, inner, (bottom - top + 3) * inner


@njit(nogil=True, inline="always")
def _inside(at, wide, top, left, inner):  # type: ignore[no-untyped-def]
    """Return the position in a window of a position in the image."""
    return (at // wide - top + 1) * inner + at % wide - left + 1


@njit(nogil=True)
def _peaks_of_window(levels, nodes, order, wide, rise, least):  # type: ignore[no-untyped-def]
    """Find the peaks of a window; `nodes` gets the number of each pixel's peak, or 0.

    `order` lists the positions from high to low; 0 is the highest level. Return how many peaks.
    """
    most = 2 * len(order) + 1  # one node per pixel at most, and one per pass
    parents, into = np.arange(most), np.zeros(most, np.int64)
    top, areas = np.zeros(most, np.int64), np.zeros(most, np.int64)
    passed = np.zeros(most, np.bool_)  # several peaks and the pass between them
    sides = (-wide - 1, -wide, -wide + 1, -1, 1, wide - 1, wide, wide + 1)
    roots, talls = np.empty(8, np.int64), np.empty(8, np.bool_)
    last = 0
    for at in order:
        level = np.int64(levels[at])
        count, tall, highest = 0, 0, 0
        for side in sides:
            if nodes[at + side] == 0:
                continue
            root, new = _root(parents, nodes[at + side]), True
            for k in range(count):
                new = new and roots[k] != root
            if new:
                roots[count] = root
                talls[count] = passed[root] or (level - top[root] >= rise and areas[root] >= least)
                tall += talls[count]
                count += 1
                if (
                    highest == 0
                    or passed[root]
                    or (top[root] < top[highest] and not passed[highest])
                ):
                    highest = root
        if count == 0 or tall > 1:
            last += 1
            highest, top[last], passed[last] = last, level, tall > 1
        for k in range(count):
            root = roots[k]
            if root == highest:
                continue
            is_peak = tall > 1 and talls[k] and not passed[root]
            parents[root], into[root] = highest, 0 if is_peak else highest
            areas[highest] += areas[root]
        nodes[at] = highest
        areas[highest] += 1
    numbers = np.zeros(last + 1, np.int64)
    found = 0
    for node in range(1, last + 1):
        if into[node] == 0 and not passed[node]:
            found += 1
            numbers[node] = found
    for at in order:
        node = nodes[at]
        while into[node] != 0:
            node = into[node]
        nodes[at] = numbers[node]
    return found


@compiled
def peaks(heights, starts, ends, pieces, wide, rise, least):  # type: ignore[no-untyped-def]
    """Return the number of the peak that each pixel of some runs belongs to, run by run, or 0.

    `heights` float32 (H, W) in 0..1, taken in 256 levels from high to low; the runs and their
    8-connected `pieces` 1..n. A peak grows by pixels that touch it. Where peaks meet, those stay
    apart that rise by `rise` levels above the pass and have `least` pixels there, if there are
    several, and end; otherwise the highest takes the others (Grimaud 1992, doi:10.1117/12.60650).
    """
    n = pieces.max() if len(pieces) else 0
    offsets = _offsets(starts, ends)
    out = np.empty(offsets[-1], np.int32)
    runs, begins = _by_piece(pieces, n)
    levels, nodes = np.empty(4096, np.uint8), np.empty(4096, np.int32)
    found = 0
    for piece in range(1, n + 1):
        own = runs[begins[piece] : begins[piece + 1]]
        area = 0
        for i in own:
            area += ends[i] - starts[i]
        if area < 2 * least:  # too small for two peaks
            found += 1
            for i in own:
                for k in range(offsets[i], offsets[i + 1]):
                    out[k] = found
            continue
        top, left, inner, size = _window(own, starts, ends, wide)
        if size > len(nodes):
            levels, nodes = np.empty(2 * size, np.uint8), np.empty(2 * size, np.int32)
        for at in range(size):
            nodes[at] = 0
        firsts = np.zeros(257, np.int64)
        for i in own:
            y, x = starts[i] // wide - 1, starts[i] % wide - 1
            begin = _inside(starts[i], wide, top, left, inner)
            for k in range(ends[i] - starts[i]):
                levels[begin + k] = _level(heights[y, x + k])
                firsts[levels[begin + k] + 1] += 1
        for level in range(256):
            firsts[level + 1] += firsts[level]
        order = np.empty(area, np.int64)
        for i in own:
            begin = _inside(starts[i], wide, top, left, inner)
            for k in range(ends[i] - starts[i]):
                order[firsts[levels[begin + k]]] = begin + k
                firsts[levels[begin + k]] += 1
        several = _peaks_of_window(levels, nodes, order, inner, rise, least)
        for i in own:
            begin = _inside(starts[i], wide, top, left, inner)
            for k in range(ends[i] - starts[i]):
                number = nodes[begin + k]
                out[offsets[i] + k] = found + number if number > 0 else 0
        found += several
    return out


@njit(nogil=True)
def _flood_window(labels, levels, following, wide, fresh):  # type: ignore[no-untyped-def]
    """Flood the free pixels (-1) of a window from the positions `fresh`, with a bucket queue."""
    head = np.full(257, -1, np.int32)
    head[256] = 0  # sentinel
    tail = np.full(257, -1, np.int32)
    sides = (-wide, -1, 1, wide)
    near = np.empty(4, np.int64)
    level = 256
    while True:
        for at in fresh:
            raised = int(levels[at])
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
            return
        at, reached = head[level], 0
        head[level] = following[at]
        for side in sides:
            there = at + side
            if labels[there] < 0:
                labels[there] = labels[at]
                near[reached] = there
                reached += 1
        fresh = near[:reached]


@compiled
def flood(heights, starts, ends, pieces, seed_starts, seed_ends, markers, wide):  # type: ignore[no-untyped-def]
    """Flood by marker-controlled watershed: high levels first, then first come, first served.

    `heights` float32 (H, W) in 0..1; the runs of the mask and their 4-connected `pieces` 1..n; the
    runs of the markers, inside the mask, and their numbers. Return the label of each pixel of the
    mask, run by run, 0 if no marker reaches it. Ties are broken by age, as in Meyer's algorithm,
    with four neighbours; the result equals that of a priority queue. Each piece is flooded in a
    separate window, for locality of memory; one with a single marker is labelled without flooding.
    """
    n = pieces.max() if len(pieces) else 0
    only = np.zeros(n + 1, np.int64)
    several = np.zeros(n + 1, np.bool_)
    within = np.empty(len(seed_starts), np.int64)  # piece of each run of a marker
    run = 0
    for i in range(len(seed_starts)):
        while ends[run] <= seed_starts[i]:
            run += 1
        piece = pieces[run]
        several[piece] |= only[piece] != 0 and only[piece] != markers[i]
        only[piece], within[i] = markers[i], piece
    offsets = _offsets(starts, ends)
    out = np.empty(offsets[-1], np.int32)
    runs, begins = _by_piece(pieces, n)
    seed_runs, seed_begins = _by_piece(within, n)
    labels = np.empty(4096, np.int32)
    levels, following = np.empty(4096, np.uint8), np.empty(4096, np.int32)
    seeds = np.empty(4096, np.int64)
    for piece in range(1, n + 1):
        own = runs[begins[piece] : begins[piece + 1]]
        if not several[piece]:
            for i in own:
                for k in range(offsets[i], offsets[i + 1]):
                    out[k] = only[piece]
            continue
        top, left, inner, size = _window(own, starts, ends, wide)
        if size > len(labels):
            labels, seeds = np.empty(2 * size, np.int32), np.empty(2 * size, np.int64)
            levels, following = np.empty(2 * size, np.uint8), np.empty(2 * size, np.int32)
        for at in range(size):
            labels[at] = 0
        for i in own:
            y, x = starts[i] // wide - 1, starts[i] % wide - 1
            begin = _inside(starts[i], wide, top, left, inner)
            for k in range(ends[i] - starts[i]):
                labels[begin + k] = -1
                levels[begin + k] = _level(heights[y, x + k])
        count = 0
        for i in seed_runs[seed_begins[piece] : seed_begins[piece + 1]]:
            begin = _inside(seed_starts[i], wide, top, left, inner)
            for k in range(seed_ends[i] - seed_starts[i]):
                labels[begin + k] = markers[i]
                seeds[count] = begin + k
                count += 1
        _flood_window(labels, levels, following, inner, seeds[:count])
        for i in own:
            begin = _inside(starts[i], wide, top, left, inner)
            for k in range(ends[i] - starts[i]):
                out[offsets[i] + k] = labels[begin + k]
    return out

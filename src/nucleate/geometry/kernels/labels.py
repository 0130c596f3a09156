"""Loops over label images: distances, resampling."""

from __future__ import annotations

import numpy as np

from nucleate.geometry.kernels.compiled import compiled


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

"""The definitions of the metrics, written out literally with sets and loops: slow, independent.

Nothing here imports nucleate's metrics. scipy solves the assignments.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy.optimize import linear_sum_assignment


def pieces(labels):
    """Return one set of pixel coordinates per nucleus, in order of id."""
    return [
        {tuple(p) for p in np.argwhere(labels == i).tolist()} for i in np.unique(labels) if i > 0
    ]


def iou(a, b):
    return len(a & b) / len(a | b)


def aji(truth, pred):
    gs, ss = pieces(truth), pieces(pred)
    if not gs and not ss:
        return float("nan")
    common = union = 0
    used = set()
    for g in gs:
        touching = [j for j, s in enumerate(ss) if g & s]
        if not touching:
            union += len(g)
            continue
        best = max(touching, key=lambda j: (iou(g, ss[j]), -j))
        common += len(g & ss[best])
        union += len(g | ss[best])
        used.add(best)
    union += sum(len(s) for j, s in enumerate(ss) if j not in used)
    return common / union


def aji_plus(truth, pred):
    gs, ss = pieces(truth), pieces(pred)
    if not gs and not ss:
        return float("nan")
    table = np.array([[iou(g, s) for s in ss] for g in gs]).reshape(len(gs), len(ss))
    shared = np.array([[len(g & s) for s in ss] for g in gs]).reshape(table.shape)
    rows, columns = linear_sum_assignment(-table - 1e-9 * shared / (1 + shared.max(initial=0)))
    pairs = [(i, j) for i, j in zip(rows, columns, strict=True) if table[i, j] > 0]
    common = sum(len(gs[i] & ss[j]) for i, j in pairs)
    union = sum(len(gs[i] | ss[j]) for i, j in pairs)
    union += sum(len(g) for i, g in enumerate(gs) if i not in {p[0] for p in pairs})
    union += sum(len(s) for j, s in enumerate(ss) if j not in {p[1] for p in pairs})
    return common / union


def panoptic(truth, pred, threshold=0.5):
    gs, ss = pieces(truth), pieces(pred)
    hits = [iou(g, s) for g, s in itertools.product(gs, ss) if iou(g, s) > threshold]
    tp, fp, fn = len(hits), len(ss) - len(hits), len(gs) - len(hits)
    if tp + fp + fn == 0:
        return float("nan"), float("nan"), float("nan")
    dq = tp / (tp + fp / 2 + fn / 2)
    sq = sum(hits) / tp if tp else float("nan")
    return dq, sq, dq * sq if tp else 0.0


def dice(truth, pred):
    a = {p for piece in pieces(truth) for p in piece}
    b = {p for piece in pieces(pred) for p in piece}
    return 2 * len(a & b) / (len(a) + len(b)) if a or b else float("nan")


def detection(truth_xy, pred_xy, radius):
    if not len(truth_xy) or not len(pred_xy):
        return 0, len(pred_xy), len(truth_xy)
    apart = np.linalg.norm(truth_xy[:, None] - pred_xy[None], axis=-1)
    cost = np.where(apart <= radius, apart - 1e6, 0.0)
    rows, columns = linear_sum_assignment(cost)
    tp = int((apart[rows, columns] <= radius).sum())
    return tp, len(pred_xy) - tp, len(truth_xy) - tp


def hd95(truth, pred):
    a, b = rim(truth), rim(pred)
    apart = np.linalg.norm(a[:, None] - b[None], axis=-1)
    return max(np.percentile(apart.min(0), 95), np.percentile(apart.min(1), 95))


def rim(labels):
    height, width = labels.shape
    found = []
    for y, x in np.argwhere(labels > 0):
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= v < height and 0 <= u < width and labels[v, u] != labels[y, x]:
                found.append((y, x))
                break
    return np.array(found, float).reshape(-1, 2)

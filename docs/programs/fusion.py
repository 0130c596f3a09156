"""Does a detector help a network that draws maps? Weighted mask fusion: docs/results/fusion.json.

python docs/programs/fusion.py DETECTOR DENSE MONUSEG

DETECTOR is a folder of a training run, whose held-out images are used; DENSE a model that has not
seen them either; MONUSEG the data set that they are in (folder or zip file). Every threshold and
weight is chosen on all images but one and scored on that one.
"""

from __future__ import annotations

import itertools
import json
import shlex
import sys
from pathlib import Path

import cv2
import numpy as np

from nucleate import load_model
from nucleate.datasets.loading import list_entries
from nucleate.datasets.splits import bare_name
from nucleate.environment import git_commit
from nucleate.evaluation.metrics.instance import aji, matches, panoptic
from nucleate.evaluation.metrics.matching import overlap
from nucleate.geometry.labels import boxes_areas
from nucleate.inference.backends import Model
from nucleate.inference.engine import predict_maps
from nucleate.mask_nms import mask_nms, spread
from nucleate.postprocess import complete_thresholds, flat, watershed
from nucleate.readers.array import ArraySource
from nucleate.types import Maps, Sample

OUT = Path(__file__).parents[2] / "docs" / "results" / "fusion.json"
CELLS = 64  # of a mask: fine enough that a nucleus of the dense network comes back as it was
REACH_PX = 3  # a dense mask goes this far beyond its outline, where its foreground falls
WEIGHTS = (0.3, 0.5, 0.7, 0.85)  # of the dense network
GRID = {"score": (0.2, 0.3, 0.4, 0.5, 0.6), "mask": (0.4, 0.45, 0.5, 0.55, 0.6)}
FIXED = {"overlap": 0.3, "min_area": 30.0}


def dense_candidates(maps: Maps, model: Model, shape: tuple[int, int]) -> Maps:
    """Return the nuclei of a dense network as a detector would give them."""
    maps = {head: np.ascontiguousarray(m[: shape[0], : shape[1]]) for head, m in maps.items()}
    thresholds = complete_thresholds(model.card.decoder, model.card.thresholds)
    labels = watershed(maps, {**thresholds, "foreground": 0.35})
    boxes, _ = boxes_areas(labels, int(labels.max()))
    found: dict[str, list] = {"boxes": [], "scores": [], "masks": []}
    for i, (x0, y0, x1, y1) in enumerate(boxes.tolist(), start=1):
        x0, y0 = max(x0 - REACH_PX, 0), max(y0 - REACH_PX, 0)
        x1, y1 = min(x1 + REACH_PX, shape[1]), min(y1 + REACH_PX, shape[0])
        window = slice(y0, y1), slice(x0, x1)
        own, foreground = labels[window] == i, maps["foreground"][window]
        free = own | (labels[window] == 0)
        found["boxes"].append((x0, y0, x1, y1))
        found["scores"].append(float(foreground[own].mean()))
        found["masks"].append(fit(np.where(free, foreground, 0).astype(np.float32)))
    return stacked(found)


def fit(mask: np.ndarray) -> np.ndarray:
    """Return a mask of any size in CELLS × CELLS cells."""
    return cv2.resize(mask, (CELLS, CELLS), interpolation=cv2.INTER_LINEAR)


def stacked(found: dict[str, list]) -> Maps:
    """Return lists as arrays, of the right shape also when they are empty."""
    return {
        "boxes": np.array(found["boxes"], np.float32).reshape(-1, 4),
        "scores": np.array(found["scores"], np.float32),
        "masks": np.array(found["masks"], np.float32).reshape(-1, CELLS, CELLS),
    }


def drawn(maps: Maps, i: int, frame: tuple[int, int, int, int]) -> np.ndarray:
    """Return the soft mask of candidate i on the pixels of `frame`."""
    return spread(maps["boxes"][i], maps["masks"][i], frame)


def pairs_of(dense: Maps, detected: Maps) -> list[tuple[int, int]]:
    """Return (dense, detected) that are one nucleus: soft masks of IoU above a half, best first."""
    a, b = dense["boxes"], detected["boxes"]
    near = (
        (a[:, None, 0] < b[None, :, 2])
        & (b[None, :, 0] < a[:, None, 2])
        & (a[:, None, 1] < b[None, :, 3])
        & (b[None, :, 1] < a[:, None, 3])
    )
    candidates = []
    for i, j in np.argwhere(near):
        frame = around(a[i], b[j])
        first, second = drawn(dense, i, frame) >= 0.5, drawn(detected, j, frame) >= 0.5
        union = (first | second).sum()
        iou = (first & second).sum() / union if union else 0.0
        if iou > 0.5:
            candidates.append((-iou, int(i), int(j)))
    pairs, used_i, used_j = [], set(), set()
    for _, i, j in sorted(candidates):
        if i not in used_i and j not in used_j:
            pairs.append((i, j))
            used_i.add(i)
            used_j.add(j)
    return pairs


def around(a: np.ndarray, b: np.ndarray) -> tuple[int, int, int, int]:
    """Return the whole pixels that contain both boxes."""
    low, high = np.floor(np.minimum(a, b)), np.ceil(np.maximum(a, b))
    return int(low[0]), int(low[1]), int(high[2]), int(high[3])


def fuse(dense: Maps, detected: Maps, pairs: list[tuple[int, int]], weight: float) -> Maps:
    """Return the weighted mean of what both found, and what one of them found at its weight."""
    found: dict[str, list] = {"boxes": [], "scores": [], "masks": []}
    for i, j in pairs:
        frame = around(dense["boxes"][i], detected["boxes"][j])
        mean = weight * drawn(dense, i, frame) + (1 - weight) * drawn(detected, j, frame)
        found["boxes"].append(frame)
        found["scores"].append(weight * dense["scores"][i] + (1 - weight) * detected["scores"][j])
        found["masks"].append(fit(mean))
    for maps, share, used in (
        (dense, weight, {i for i, _ in pairs}),
        (detected, 1 - weight, {j for _, j in pairs}),
    ):
        for k in range(len(maps["scores"])):
            if k not in used:
                found["boxes"].append(tuple(maps["boxes"][k]))
                found["scores"].append(share * maps["scores"][k])
                found["masks"].append(fit(maps["masks"][k]))
    return stacked(found)


def score(maps: Maps, thresholds: dict[str, float], sample: Sample) -> tuple[float, float]:
    """Return AJI and PQ."""
    labels = flat(mask_nms(maps, thresholds, sample.labels.shape))
    matched = overlap(sample.labels, labels, sample.ignore)
    return aji(matched), panoptic(*matches(matched, 0.5))[2]


def left_out(table: dict[tuple, list[tuple[float, float]]]) -> tuple[list[tuple], list[tuple]]:
    """Return per image AJI and PQ of the settings that are best on all others, and those."""
    count = len(next(iter(table.values())))
    chosen = [
        max(table, key=lambda k: np.mean([s[0] for n, s in enumerate(table[k]) if n != out]))
        for out in range(count)
    ]
    return [table[key][n] for n, key in enumerate(chosen)], chosen


def main(detector_run: Path, dense_name: str, data: Path) -> None:
    """Write the comparison."""
    groups = json.loads((detector_run / "split.json").read_text())["parts"]["validation"]
    held_out = {bare_name(name) for name in groups}
    samples = [e.read() for e in list_entries("monuseg", data, {}) if e.name in held_out]
    if len(samples) != len(held_out):
        sys.exit(f"{data} contains {len(samples)} of the {len(held_out)} held-out images")
    detector, dense_model = load_model(str(detector_run)), load_model(dense_name)
    images = []
    for sample in samples:
        source = ArraySource(sample.image, sample.mpp, sample.name)
        detected = predict_maps(source, detector)
        dense = dense_candidates(
            predict_maps(source, dense_model), dense_model, sample.labels.shape
        )
        images.append((sample, dense, detected, pairs_of(dense, detected)))
        print(sample.name, len(dense["scores"]), len(detected["scores"]), len(images[-1][3]))
    tables: dict[str, dict] = {"dense": {}, "detector": {}, "fusion": {}}
    for values in itertools.product(*GRID.values()):
        thresholds = {**dict(zip(GRID, values, strict=True)), **FIXED}
        tables["dense"][values] = [score(d, thresholds, s) for s, d, _, _ in images]
        tables["detector"][values] = [score(d, thresholds, s) for s, _, d, _ in images]
    for weight in WEIGHTS:
        fused = [(s, fuse(d, m, pairs, weight)) for s, d, m, pairs in images]
        for values in itertools.product(*GRID.values()):
            thresholds = {**dict(zip(GRID, values, strict=True)), **FIXED}
            tables["fusion"][(weight, *values)] = [score(m, thresholds, s) for s, m in fused]
    found = {}
    for name, table in tables.items():
        scores, chosen = left_out(table)
        found[name] = {
            "aji": [round(s[0], 4) for s in scores],
            "pq": [round(s[1], 4) for s in scores],
            "chosen": [list(key) for key in chosen],
        }
        print(name, {m: round(float(np.mean(found[name][m])), 4) for m in ("aji", "pq")})
    content = {
        "command": shlex.join(
            ["python", "docs/programs/fusion.py", str(detector_run), dense_name, data.name]
        ),
        "commit": git_commit(),
        "models": [detector.card.name, dense_model.card.name],
        "files": [detector.card.files, dense_model.card.files],
        "images": [s.name for s in samples],
        "settings": {"fusion": ["weight", *GRID], "others": list(GRID)},
        "found": found,
    }
    OUT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def page() -> str:
    """Return the section of the results page."""
    if not OUT.exists():
        return "\n## Weighted mask fusion\n\nnot run\n"
    printed = json.loads(OUT.read_text(encoding="utf-8"))
    detector, dense = printed["models"]
    names = {"dense": dense, "detector": detector, "fusion": f"{detector} and {dense} fused"}
    introduction = (
        f"The {len(printed['images'])} held-out images of {detector}; every threshold and weight "
        "chosen on all others and scored on the one left out. What both find (IoU above 0.5) "
        "becomes the weighted mean of its masks and scores; what one finds keeps its mask, at "
        "its share of the score.\n"
    )
    lines = [
        "\n## Weighted mask fusion\n",
        introduction,
        "| | AJI | PQ |",
        "|---|---|---|",
    ]
    mean = {
        k: {m: float(np.mean(v[m])) for m in ("aji", "pq")} for k, v in printed["found"].items()
    }
    for key, name in names.items():
        lines.append(f"| {name} | {mean[key]['aji']:.3f} | {mean[key]['pq']:.3f} |")
    gain = mean["fusion"]["aji"] - mean["dense"]["aji"]
    verdict = "gains" if gain > 0 else "does not gain"
    kept = "worth building" if gain > 0.005 else "left out of the package"
    lines.append(f"\nFusion {verdict} on validation ({gain:+.3f} AJI): {kept}.\n")
    lines.append(f"`{printed['command']}` (commit {printed['commit']})\n")
    return "\n".join(lines)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))

"""Draw ink across annotated images: what is found on the stroke, and what is lost beside it.

    python benchmarks/generalise/strokes.py --weights runs/generalise/weights [--idea further]

The folds of an idea stand for the bundled model, each on the set that it has not seen. One curved
stroke of 15 to 50 um crosses each image in one of eight colours, opaque in half of the images and
see-through in the others; it is drawn otherwise than the ink of the training crops. Beside the
stroke are true nuclei that keep 2 um from it. Writes docs/results/generalise/strokes.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.generalise import plan, scoring  # noqa: E402
from benchmarks.generalise.blanks import COLOURS  # noqa: E402
from benchmarks.generalise.curve import fold_model  # noqa: E402
from benchmarks.generalise.fold import maps_by  # noqa: E402
from benchmarks.generalise.sets import MPP, PACKED, read_test  # noqa: E402
from benchmarks.generalise.store import RESULTS  # noqa: E402

from nucleate.environment import git_commit  # noqa: E402
from nucleate.evaluation.metrics.matching import overlap  # noqa: E402
from nucleate.models.card import DEFAULT_MODEL, find_model, read_card  # noqa: E402
from nucleate.types import Bool, Float32, Int32, Sample, UInt8  # noqa: E402

OUT = RESULTS / "strokes.json"
INKS = tuple(colour for name, colour in COLOURS.items() if name.endswith("ink"))
WIDTH_UM, BESIDE_UM = (15.0, 50.0), 2.0
WAYS = {"kept": 1.0, "left out": None}  # None: as the bundled model has it


def stroke(shape: tuple[int, int], rng: np.random.Generator) -> Float32:
    """Return how much of each pixel a stroke covers, from 0 to 1: an arc from edge to edge."""
    high, wide = shape
    ends = np.array([[0, rng.uniform(0, high)], [wide, rng.uniform(0, high)]])
    middle = rng.uniform(0.2, 0.8, 2) * (wide, high)
    t = np.linspace(0, 1, 64)[:, None]
    arc = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * middle + t**2 * ends[1]
    cover = np.zeros(shape, np.float32)
    width = round(rng.uniform(*WIDTH_UM) / MPP)
    cv2.polylines(cover, [np.rint(arc).astype(np.int32)], False, 1.0, width)
    soft = cv2.GaussianBlur(cover, (0, 0), 2.0)
    return np.where(soft > 0.02, soft, 0).astype(np.float32)


def inked(image: UInt8, number: int) -> tuple[UInt8, Bool]:
    """Return an image with a stroke, and the pixels that the stroke reaches.

    Args:
        image: uint8 (H, W, 3) at 0.25 um/px.
        number: of the image; it gives the colour, the shape, and whether tissue shows through.
    """
    rng = np.random.default_rng(number)
    cover = stroke(image.shape[:2], rng)
    streaks = cv2.GaussianBlur(rng.normal(0, 1, cover.shape).astype(np.float32), (0, 0), 1.5)
    colour = np.array(INKS[number % len(INKS)], np.float32) + 25 * streaks[..., None]
    seen = image.astype(np.float32)
    above = colour if number // len(INKS) % 2 == 0 else seen * np.clip(colour, 0, 255) / 255
    mixed = seen + cover[..., None] * (above - seen)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8), cover > 0


def beside(labels: Int32, reached: Bool) -> Int32:
    """Return the labels that keep their distance from a stroke; others are 0.

    Example:
        >>> labels = np.zeros((40, 40), np.int32)
        >>> labels[:4, :4], labels[:4, 30:34] = 1, 2
        >>> reached = np.zeros((40, 40), bool)
        >>> reached[:, 5] = True
        >>> np.unique(beside(labels, reached)).tolist()
        [0, 2]
    """
    edge = 2 * round(BESIDE_UM / MPP) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (edge, edge))
    near = cv2.dilate(reached.astype(np.uint8), kernel) > 0
    return np.where(np.isin(labels, np.unique(labels[near])), 0, labels).astype(np.int32)


def found_of(truth: Int32, pred: Int32) -> int:
    """Return how many true nuclei are found, with an IoU above one half."""
    return int((overlap(truth, pred).iou > 0.5).sum())


def measure(
    samples: list[Sample], maps_of: scoring.MapsOf, thresholds: dict[str, float]
) -> dict[str, dict[str, float]]:
    """Return way -> counts, summed over the images of a set.

    `true`: nuclei beside the strokes; `clean` and `inked`: found among them without and with the
    stroke; `on` and `on_clean`: what is found on the stroke, and there without it; `mm2` of ink.
    """
    names = ("true", "clean", "inked", "on", "on_clean", "mm2")
    rows: dict[str, dict[str, float]] = {way: dict.fromkeys(names, 0.0) for way in WAYS}
    for number, sample in enumerate(samples):
        image, reached = inked(sample.image, number)
        truth = np.asarray(sample.labels)
        if sample.ignore is not None:
            truth = np.where(sample.ignore, 0, truth)
        truth = beside(truth.astype(np.int32), reached)
        clean, drawn = maps_of(sample.image), maps_of(image)
        for way, ink in WAYS.items():
            chosen = thresholds if ink is None else {**thresholds, "ink": ink}
            before = scoring.nuclei_of(sample.image, clean, chosen)
            after = scoring.nuclei_of(image, drawn, chosen)
            row = rows[way]
            row["true"] += len(np.unique(truth)) - 1
            row["clean"] += found_of(truth, before)
            row["inked"] += found_of(truth, after)
            row["on"] += sum(scoring.false_nuclei(after, reached.astype(np.uint8)))
            row["on_clean"] += sum(scoring.false_nuclei(before, reached.astype(np.uint8)))
            row["mm2"] += float(reached.sum()) * MPP**2 / 1e6
    return rows


def main() -> None:
    """Measure every set and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--idea", default="further")
    parser.add_argument("--weights", type=Path, default=ROOT / "runs" / "generalise" / "weights")
    parser.add_argument("--packed", type=Path, default=PACKED)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    idea = plan.by_name(options.idea)
    thresholds = scoring.settle(read_card(find_model(DEFAULT_MODEL)).thresholds)
    sets: dict[str, Any] = {}
    for name in idea.left_out:
        model = fold_model(idea, name, idea.seeds[0], options.weights)
        sets[name] = measure(read_test(name, options.packed), maps_by(model), thresholds)
        print(name, json.dumps(sets[name]), flush=True)
    content = {"commit": git_commit(), "idea": idea.name, "thresholds": thresholds, "sets": sets}
    options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

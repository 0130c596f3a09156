"""Where do the points of AJI lie? One kind of error at a time is put right by the truth.

    python benchmarks/generalise/oracles.py mtl-open [--sets monuseg,cryonuseg]
    python benchmarks/generalise/oracles.py mtl-small --folds further --weights runs/.../weights

For a bundled model or a model folder, or for the folds of the model's idea (each on the set that it
has not seen, at the thresholds of the model), prints of each set the AJI as it is, and the points
gained if only the rims of found nuclei were right, only merged and split nuclei, only the missed
ones, or only the false ones; also what averaging over eight views gains, and the ratio of median
areas. Writes docs/results/generalise/oracles-NAME.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.generalise import plan, scoring  # noqa: E402
from benchmarks.generalise.curve import fold_model  # noqa: E402
from benchmarks.generalise.fold import maps_by  # noqa: E402
from benchmarks.generalise.sets import PACKED, SETS, read_test  # noqa: E402
from benchmarks.generalise.store import RESULTS  # noqa: E402

from nucleate import load_model  # noqa: E402
from nucleate.environment import git_commit  # noqa: E402
from nucleate.evaluation.metrics.matching import Overlap, assign  # noqa: E402
from nucleate.evaluation.metrics.nucleus_errors import PRED_OUTCOMES, TRUTH_OUTCOMES, outcomes  # noqa: E402
from nucleate.geometry.labels import compact  # noqa: E402
from nucleate.types import Int32, Maps, Sample, UInt8  # noqa: E402

FOUND_IOU = 0.3  # a nucleus counts as found above this


def fixed(truth: Int32, pred: Int32) -> dict[str, Int32]:
    """Return name -> prediction with one kind of error put right.

    Args:
        truth: labels 1..n without gaps.
        pred: labels 1..m without gaps.

    Example:
        >>> truth = np.array([[1, 1, 0, 2, 2, 0, 3]], np.int32)
        >>> pred = np.array([[1, 1, 1, 1, 1, 0, 0]], np.int32)
        >>> {name: labels.tolist()[0] for name, labels in fixed(truth, pred).items()}["missed"]
        [1, 1, 1, 1, 1, 0, 2]
    """
    table = scoring.table_of(truth, pred)
    outcome = outcomes(table)
    missed = 1 + np.flatnonzero(outcome.truth == TRUTH_OUTCOMES.index("missed"))
    spurious = 1 + np.flatnonzero(outcome.pred == PRED_OUTCOMES.index("spurious"))
    return {
        "rims": right_rims(truth, pred, table),
        "splitting": right_splits(truth, pred, table),
        "missed": _fill(pred, truth, missed),
        "false": np.where(np.isin(pred, spurious), 0, pred).astype(np.int32),
    }


def right_rims(truth: Int32, pred: Int32, table: Overlap) -> Int32:
    """Return the prediction with every found nucleus drawn as the truth has it."""
    good = np.flatnonzero(table.iou > FOUND_IOU)
    rows = good[assign(table.pairs[good], 1.0 + table.iou[good])]
    drawn = np.where(np.isin(pred, table.pairs[rows, 1] + 1), 0, pred)
    owner = np.zeros(len(table.truth_areas) + 1, np.int32)
    owner[table.pairs[rows, 0] + 1] = table.pairs[rows, 1] + 1
    true = owner[truth]
    return np.where(true > 0, true, drawn).astype(np.int32)


def right_splits(truth: Int32, pred: Int32, table: Overlap) -> Int32:
    """Return the prediction with merged nuclei parted and split ones joined; outlines stay."""
    left, right = table.pairs[:, 0], table.pairs[:, 1]
    swallows = 2 * table.shared > table.truth_areas[left]
    belongs = 2 * table.shared > table.pred_areas[right]
    joined = np.arange(len(table.pred_areas) + 1, dtype=np.int32)
    for nucleus in np.flatnonzero(np.bincount(left[belongs], minlength=1) > 1):
        pieces = right[belongs & (left == nucleus)] + 1
        joined[pieces] = pieces[0]
    labels = joined[pred]
    fresh = int(labels.max(initial=0))
    for greedy in np.flatnonzero(np.bincount(right[swallows], minlength=1) > 1):
        nuclei = left[swallows & (right == greedy)] + 1
        rows, columns = np.nonzero(pred == greedy + 1)
        window = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
        inside = pred[window] == greedy + 1
        labels[window][inside] = fresh + nearest(truth[window], nuclei)[inside]
        fresh += len(nuclei)
    return compact(labels)[0]


def nearest(truth: Int32, nuclei: Any) -> Int32:
    """Return for each pixel which of some nuclei is nearest, from 1 on."""
    import cv2

    far = [
        cv2.distanceTransform((truth != nucleus).astype(np.uint8), cv2.DIST_L2, 5)
        if (truth == nucleus).any() else np.full(truth.shape, np.inf, np.float32)
        for nucleus in nuclei
    ]  # fmt: skip
    return (1 + np.argmin(far, axis=0)).astype(np.int32)


def _fill(pred: Int32, truth: Int32, nuclei: Any) -> Int32:
    """Return the prediction with some true nuclei added where nothing was found."""
    added = np.isin(truth, nuclei) & (pred == 0)
    both = np.where(added, truth + pred.max(initial=0), pred).astype(np.int32)
    return compact(both)[0]


def eight_views(maps_of: scoring.MapsOf) -> scoring.MapsOf:
    """Return what averages the maps of an image over its turns and mirror images."""

    def average(image: UInt8) -> Maps:
        total: Maps = {}
        for turns in range(4):
            for mirrored in (False, True):
                view = np.rot90(image[:, ::-1] if mirrored else image, turns)
                for head, found in maps_of(np.ascontiguousarray(view)).items():
                    back = np.rot90(found, -turns)
                    back = back[:, ::-1] if mirrored else back
                    total[head] = total.get(head, 0) + back / 8
        return {head: np.ascontiguousarray(found, np.float32) for head, found in total.items()}

    return average


def oracles(
    samples: list[Sample], maps_of: scoring.MapsOf, thresholds: dict[str, float], views: bool
) -> dict[str, float]:
    """Return the AJI of a set, the points gained by each oracle, and the ratio of median areas."""
    rows: dict[str, list[float]] = {}
    for sample in samples:
        truth = compact(_without(sample, sample.labels))[0]
        labels = scoring.nuclei_of(sample.image, maps_of(sample.image), thresholds)
        pred = compact(_without(sample, labels))[0]
        drawn = {"as it is": pred, **fixed(truth, pred)}
        if views:
            maps = eight_views(maps_of)(sample.image)
            averaged = scoring.nuclei_of(sample.image, maps, thresholds)
            drawn["eight views"] = _without(sample, averaged)
        for name, labels in drawn.items():
            counts = scoring.count(truth, labels, None)
            rows.setdefault(name, []).append(counts.metrics()["aji"])
            if name == "as it is":
                rows.setdefault("area ratio", []).append(counts.area_ratio)
    means = {name: float(np.nanmean(values)) for name, values in rows.items()}
    kept = ("as it is", "area ratio")
    return {n: round(v if n in kept else 100 * (v - means["as it is"]), 4)
            for n, v in means.items()}  # fmt: skip


def _without(sample: Sample, labels: Int32 | None) -> Int32:
    """Return labels without the pixels that the annotation ignores."""
    if labels is None:
        raise ValueError(f"{sample.name} has no labels")
    return labels if sample.ignore is None else np.where(sample.ignore, 0, labels).astype(np.int32)


def main() -> None:
    """Print and write the table of a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--folds", help="an idea, whose folds stand for the model")
    parser.add_argument("--weights", type=Path, help="of the folds, one file each")
    parser.add_argument("--no-views", action="store_true", help="leave the eight views out")
    parser.add_argument("--packed", type=Path, default=PACKED)
    options = parser.parse_args()
    model = load_model(options.model, device="cpu", threads=1)
    thresholds = scoring.settle(model.card.thresholds)
    idea = plan.by_name(options.folds) if options.folds else None
    rows = {}
    for name in options.sets.split(",") if idea is None else idea.left_out:
        samples = read_test(name, options.packed)
        if idea is not None:
            model = fold_model(idea, name, idea.seeds[0], options.weights)
        rows[name] = oracles(samples, maps_by(model), thresholds, not options.no_views)
        print(name, rows[name], flush=True)
    title = options.model if idea is None else f"{options.model}, folds of {idea.name}"
    printed = {"model": title, "commit": git_commit(), "thresholds": thresholds,
            "sets": rows}  # fmt: skip
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"oracles-{options.folds or model.card.name}.json"
    path.write_text(json.dumps(printed, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

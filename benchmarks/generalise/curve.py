"""Choose thresholds, and what a higher or lower sensitivity is, on sets left out of training.

    python benchmarks/generalise/curve.py --idea further --weights runs/generalise/weights

The weights of an idea's folds are those that `run.py --next` keeps. Each fold is scored on the set
that it has not seen, at every setting of a grid. Of the settings:

- normal has the fewest missed and spurious nuclei together, as shares, of those within `TIE` of the
  highest G, the mean of the sets' AJI: two seeds of a fold differ by half of that;
- low has the fewest spurious nuclei, and high the fewest missed ones, of those within `GIVEN_UP`.

The smallest area of a nucleus is chosen last, at the normal setting, for all three: the largest
that lowers G by no more than `NOISE`, as small pieces are more often false than true.

A nucleus is missed where predictions cover less than half of it, and a prediction is spurious where
less than a tenth of it is true: both say what was detected, however it is outlined.

Writes docs/results/generalise/curve.json; with `--seeds`, only adds what all seeds of the idea
reach together at the normal setting.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from benchmarks.generalise import plan  # noqa: E402
from benchmarks.generalise.fold import Packed, judge, maps_by  # noqa: E402
from benchmarks.generalise.scoring import (  # noqa: E402
    MapsOf,
    Verdict,
    nuclei_of,
    table_of,
    verdict,
)
from benchmarks.generalise.sets import PACKED  # noqa: E402
from benchmarks.generalise.store import RESULTS  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from nucleate.environment import git_commit  # noqa: E402
from nucleate.evaluation.metrics.instance import aji_counts  # noqa: E402
from nucleate.geometry.labels import compact  # noqa: E402
from nucleate.inference.backends import Model  # noqa: E402
from nucleate.inference.torch_backend import TorchBackend  # noqa: E402
from nucleate.models.families import build  # noqa: E402
from nucleate.training.task import provisional_card  # noqa: E402
from nucleate.types import Bool, Int32, Int64, Maps, Sample, UInt8  # noqa: E402

INK = 0.5  # no nucleus of the five sets but 3 of 61,739 is above
GRID = tuple(
    {"foreground": f, "marker": m, "split": s, "smooth": 1.0, "min_area": 30.0, "ink": INK}
    for f, m, s in itertools.product(
        (0.2, 0.3, 0.4, 0.5, 0.6, 0.7), (0.2, 0.3, 0.35, 0.4, 0.5), (0.15, 1.0)
    )
)
TIE = 0.002  # of G: settings that differ by chance
GIVEN_UP = 0.02  # of G, for fewer spurious or missed nuclei
AREAS = (30.0, 60.0, 80.0, 100.0, 150.0)  # pixels at 0.25 um/px: 80 are 5 um²
NOISE = 0.0005  # of G: a tenth of what a seed moves
COVERED, TRUE = 0.5, 0.1
OUT = RESULTS / "curve.json"
Row = dict[str, Any]


def fold_model(idea: plan.Idea, left_out: str, seed: int, weights: Path) -> Model:
    """Return the network of a fold, on the CPU.

    Args:
        idea: of the plan.
        left_out: set that the fold has not seen.
        seed: of the idea.
        weights: folder of the folds' weights.
    """
    recipe = plan.recipe_of(idea, left_out, seed)
    network = build(recipe.model.family, list(recipe.maps), recipe.model.arguments)
    halves = load_file(weights / f"{idea.name}.{left_out}.{seed}.safetensors")
    whole = {k: v.float() if v.is_floating_point() else v for k, v in halves.items()}
    network.load_state_dict(whole)
    return Model(
        provisional_card(recipe, network.align_px), TorchBackend(network.eval(), "cpu", "f32")
    )


def score(maps_of: MapsOf, samples: list[Sample], grid: Sequence[dict[str, float]]) -> list[Row]:
    """Return AJI, missed and spurious nuclei of a set at every setting of a grid."""
    sums = [{"aji": 0.0, "true": 0, "missed": 0, "found": 0, "spurious": 0} for _ in grid]
    for sample in samples:
        maps = maps_of(sample.image)
        keep = np.ones(sample.image.shape[:2], bool) if sample.ignore is None else ~sample.ignore
        truth = compact(np.where(keep, sample.labels, 0).astype(np.int32))[0]
        for row, thresholds in zip(sums, grid, strict=True):
            labels = nuclei_of(sample.image, maps, thresholds)
            pred = compact(np.where(keep, labels, 0).astype(np.int32))[0]
            counts = aji_counts(table_of(truth, pred))
            row["aji"] += counts[0] / counts[1] / len(samples) if counts[1] else 1 / len(samples)
            covered, areas = _shares(truth, pred > 0)
            row["true"] += len(areas)
            row["missed"] += int((covered < COVERED * areas).sum())
            true, areas = _shares(pred, truth > 0)
            row["found"] += len(areas)
            row["spurious"] += int((true < TRUE * areas).sum())
    return sums


def remembered(maps_of: MapsOf) -> MapsOf:
    """Return what computes the maps of an image once; images must stay in memory."""
    known: dict[int, Maps] = {}

    def maps(image: UInt8) -> Maps:
        if id(image) not in known:
            known[id(image)] = maps_of(image)
        return known[id(image)]

    return maps


def _shares(labels: Int32, inside: Bool) -> tuple[Int64, Int64]:
    """Return of every label its pixels that are inside, and all its pixels."""
    n = int(labels.max(initial=0)) + 1
    areas = np.bincount(labels.ravel(), minlength=n)[1:]
    return np.bincount(labels[inside], minlength=n)[1:], areas


def choose(rows: list[Row]) -> dict[str, Row]:
    """Return the rows of normal, low and high sensitivity.

    Example:
        >>> rows = [{"aji": 0.5, "missed": 0.2, "spurious": 0.2},
        ...         {"aji": 0.49, "missed": 0.1, "spurious": 0.3},
        ...         {"aji": 0.4, "missed": 0.0, "spurious": 0.0}]
        >>> [row["missed"] for row in choose(rows).values()]
        [0.2, 0.2, 0.1]
    """
    best = max(row["aji"] for row in rows)
    near = [row for row in rows if row["aji"] >= best - GIVEN_UP]
    ties = [row for row in near if row["aji"] >= best - TIE]
    normal = min(ties, key=lambda row: row["missed"] + row["spurious"])
    return {
        "low": min(near, key=lambda row: row["spurious"]),
        "normal": normal,
        "high": min(near, key=lambda row: row["missed"]),
    }


def choose_area(verdicts: dict[float, Verdict]) -> float:
    """Return the largest area whose G is that of the smallest area, but for noise."""
    smallest = verdicts[min(verdicts)].g
    return max(area for area, found in verdicts.items() if found.g >= smallest - NOISE)


def of_all_seeds(
    idea: plan.Idea, data: Packed, weights: Path, thresholds: dict[str, float]
) -> dict[str, Any]:
    """Return what all seeds of an idea reach together at one setting."""
    folds = {
        name: [
            judge(maps_by(fold_model(idea, name, seed, weights)), data, name, (thresholds,))
            for seed in idea.seeds
        ]
        for name in idea.left_out
    }
    return {"seeds": len(idea.seeds), **asdict(verdict(folds, data.areas, 0))}


def main() -> None:
    """Score the folds and choose."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--idea", default="further")
    parser.add_argument("--weights", type=Path, default=ROOT / "runs" / "generalise" / "weights")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--packed", type=Path, default=PACKED)
    parser.add_argument("--seeds", action="store_true", help="only add what all seeds reach")
    options = parser.parse_args()
    idea, data = plan.by_name(options.idea), Packed(options.packed)
    if options.seeds:
        content = json.loads(options.out.read_text(encoding="utf-8"))
        normal = {**content["chosen"]["normal"]["thresholds"], "min_area": content["min_area"]}
        content["all_seeds"] = of_all_seeds(idea, data, options.weights, normal)
        print({key: content["all_seeds"][key] for key in ("g", "g_low", "g_high", "f", "f_tissue")})
        options.out.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
        return
    maps_of = {
        name: remembered(maps_by(fold_model(idea, name, idea.seeds[0], options.weights)))
        for name in idea.left_out
    }
    found = {name: score(maps, data.test[name], GRID) for name, maps in maps_of.items()}
    rows: list[Row] = []
    for number, setting in enumerate(GRID):
        sets = {name: one[number] for name, one in found.items()}
        rows.append({
            "thresholds": setting,
            "aji": float(np.mean([one["aji"] for one in sets.values()])),
            "missed": float(np.mean([one["missed"] / one["true"] for one in sets.values()])),
            "spurious": float(np.mean([one["spurious"] / one["found"] for one in sets.values()])),
            "sets": {name: round(one["aji"], 4) for name, one in sets.items()},
        })  # fmt: skip
    chosen = choose(rows)
    areas = tuple({**chosen["normal"]["thresholds"], "min_area": area} for area in AREAS)
    folds = {name: [judge(maps, data, name, areas)] for name, maps in maps_of.items()}
    verdicts = {a: verdict(folds, data.areas, number) for number, a in enumerate(AREAS)}
    for area, one in verdicts.items():
        print(f"{area:g} pixels: G {one.g:.4f}, F {one.f:.1f}, {one.f_tissue:.1f} in tissue")
    min_area = choose_area(verdicts)
    for name, row in chosen.items():
        print(f"{name}: {row['thresholds']} AJI {row['aji']:.4f} missed {row['missed']:.3f} "
              f"spurious {row['spurious']:.3f}")  # fmt: skip
    content = {
        "idea": idea.name, "commit": git_commit(), "data": data.digest,
        "given_up": GIVEN_UP, "chosen": chosen, "rows": rows, "min_area": min_area,
        "areas": {f"{area:g}": asdict(one) for area, one in verdicts.items()},
    }  # fmt: skip
    options.out.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

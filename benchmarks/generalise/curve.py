"""Choose thresholds, and what a higher or lower sensitivity is, on sets left out of training.

    python benchmarks/generalise/curve.py --idea further --weights runs/generalise/weights

The weights of an idea's folds are those that `run.py --next` keeps. Each fold is scored on the set
that it has not seen, at every setting of a grid. Of the settings:

- normal has the highest G, the mean of the sets' AJI;
- low has the highest precision, and high the highest recall, of those within `GIVEN_UP` of it.

Writes docs/results/generalise/curve.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from benchmarks.generalise import plan, scoring  # noqa: E402
from benchmarks.generalise.fold import Packed, judge  # noqa: E402
from benchmarks.generalise.sets import PACKED  # noqa: E402
from benchmarks.generalise.store import RESULTS  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from nucleate.environment import git_commit  # noqa: E402
from nucleate.inference.backends import Model  # noqa: E402
from nucleate.inference.torch_backend import TorchBackend, read_weights  # noqa: E402
from nucleate.models.card import find_model, read_card  # noqa: E402
from nucleate.models.families import build  # noqa: E402
from nucleate.training.task import provisional_card  # noqa: E402

GRID = tuple(
    {"foreground": f, "marker": m, "smooth": s, "min_area": 30.0}
    for f, m, s in itertools.product((0.3, 0.4, 0.5, 0.6), (0.3, 0.4, 0.5, 0.6), (0.5, 1.0))
)
GIVEN_UP = 0.01  # of G, for precision or recall
METRICS = ("aji", "precision", "recall", "pq", "area_ratio")
OUT = RESULTS / "curve.json"


def fold_model(idea: plan.Idea, left_out: str, seed: int, weights: Path, start: float) -> Model:
    """Return the network of a fold, on the CPU.

    Args:
        idea: of the plan.
        left_out: set that the fold has not seen.
        seed: of the idea.
        weights: folder of the folds' weights.
        start: share of the weights that the idea starts from, in the mean with those of the fold
            (Wortsman et al. 2022, doi:10.1109/CVPR52688.2022.00780).
    """
    recipe = plan.recipe_of(idea, left_out, seed)
    network = build(recipe.model.family, list(recipe.maps), recipe.model.arguments)
    halves = load_file(weights / f"{idea.name}.{left_out}.{seed}.safetensors")
    whole = {k: v.float() if v.is_floating_point() else v for k, v in halves.items()}
    if start and recipe.init.from_model is not None:
        folder = find_model(recipe.init.from_model)
        first = read_weights(folder, read_card(folder))
        whole = {
            k: v.lerp(first[k].to(v), start) if v.is_floating_point() else v
            for k, v in whole.items()
        }
    network.load_state_dict(whole)
    return Model(
        provisional_card(recipe, network.align_px), TorchBackend(network.eval(), "cpu", "f32")
    )


def choose(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the rows of normal, low and high sensitivity.

    Example:
        >>> rows = [{"aji": 0.5, "precision": 0.7, "recall": 0.6},
        ...         {"aji": 0.495, "precision": 0.6, "recall": 0.7},
        ...         {"aji": 0.4, "precision": 0.9, "recall": 0.1}]
        >>> [r["recall"] for r in choose(rows).values()]
        [0.6, 0.6, 0.7]
    """
    normal = max(rows, key=lambda row: row["aji"])
    near = [row for row in rows if row["aji"] >= normal["aji"] - GIVEN_UP]
    return {
        "low": max(near, key=lambda row: row["precision"]),
        "normal": normal,
        "high": max(near, key=lambda row: row["recall"]),
    }


def main() -> None:
    """Score the folds and choose."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--idea", default="further")
    parser.add_argument("--weights", type=Path, default=ROOT / "runs" / "generalise" / "weights")
    parser.add_argument("--start", type=float, default=0.0, help="share of the start's weights")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--packed", type=Path, default=PACKED)
    options = parser.parse_args()
    idea, data = plan.by_name(options.idea), Packed(options.packed)
    folds: dict[str, list[dict[str, Any]]] = {}
    for name in idea.left_out:
        model = fold_model(idea, name, idea.seeds[0], options.weights, options.start)
        folds[name] = [judge(model, data, name, GRID)]
    rows = []
    for number, setting in enumerate(GRID):
        each = {
            name: {m: round(scoring.of_set(fold, number, m), 4) for m in METRICS}
            for name, fold in folds.items()
        }
        means = {m: float(np.mean([one[m] for one in each.values()])) for m in METRICS}
        false, mm2 = scoring.pooled_false(folds, data.areas, number)
        f = float(false.sum() / mm2.sum())
        rows.append({"thresholds": setting, **means, "f": f, "sets": each})
    chosen = choose(rows)
    for name, row in chosen.items():
        print(f"{name}: {row['thresholds']} AJI {row['aji']:.4f} precision {row['precision']:.3f} "
              f"recall {row['recall']:.3f} F {row['f']:.1f}/mm²")  # fmt: skip
    found = {
        "idea": idea.name, "start": options.start, "commit": git_commit(), "data": data.digest,
        "given_up": GIVEN_UP, "chosen": chosen, "rows": rows,
    }  # fmt: skip
    options.out.write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

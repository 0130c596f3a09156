"""Score finished models by the judge, on sets that they were not trained on.

    python benchmarks/generalise/baselines.py [--models runs/mtl-base,runs/mtl-small-start]

Writes docs/results/generalise/baselines.json: G, F and the table of the sets, at the model's own
thresholds and at a foreground of 0.3 and 0.4. F is over the areas of those sets and of slides.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.generalise import scoring  # noqa: E402
from benchmarks.generalise.fold import Packed, judge, maps_by  # noqa: E402
from benchmarks.generalise.sets import PACKED, SETS  # noqa: E402
from benchmarks.generalise.store import RESULTS  # noqa: E402

from nucleate import load_model  # noqa: E402
from nucleate.environment import git_commit  # noqa: E402
from nucleate.inference.backends import Model  # noqa: E402

OUT = RESULTS / "baselines.json"


def settings(own: dict[str, float]) -> dict[str, dict[str, float]]:
    """Return name -> thresholds that a model is judged at."""
    own = scoring.settle(own)
    return {"own": own, "foreground 0.4": {**own, "foreground": 0.4},
            "foreground 0.3": {**own, "foreground": 0.3}}  # fmt: skip


def seen_by(model: Model) -> set[str]:
    """Return the sets of the judge that a model was trained on, also through its start."""
    entries = model.card.training_data
    named = {"monusac" if "MoNuSAC" in str(e.get("name")) else e.get("reader") for e in entries}
    return {str(one) for one in named if one in SETS}


def baseline(name: str, data: Packed) -> dict[str, Any]:
    """Return what a bundled model or model folder reaches at each of its settings."""
    model = load_model(name, device="cpu", threads=1)
    unseen = [one for one in SETS if one not in seen_by(model)]
    if not unseen:
        raise SystemExit(f"{name}: was trained on all sets. Take another model.")
    grid = settings(model.card.thresholds)
    folds = {one: [judge(maps_by(model), data, one, tuple(grid.values()))] for one in unseen}
    for later in unseen[1:]:  # the slides' areas count once
        folds[later][0].pop("slides")
    rows = {
        setting: asdict(scoring.verdict(folds, data.areas, number)) | {"thresholds": grid[setting]}
        for number, setting in enumerate(grid)
    }
    return {"engine": model.backend.about, "settings": rows}


def main() -> None:
    """Score the models one by one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="runs/mtl-base")
    parser.add_argument("--packed", type=Path, default=PACKED)
    options = parser.parse_args()
    data = Packed(options.packed)
    known = json.loads(OUT.read_text(encoding="utf-8"))["models"] if OUT.exists() else {}
    found: dict[str, Any] = {
        "commit": git_commit(), "data": data.digest, "models": known,
    }  # fmt: skip
    for name in options.models.split(","):
        found["models"][name] = baseline(name, data)
        for setting, row in found["models"][name]["settings"].items():
            each = " ".join(f"{n} {v['aji'][0]:.4f}" for n, v in row["sets"].items())
            false = f"F {row['f']:.1f}/mm² ({row['f_tissue']:.1f} in tissue)"
            print(f"{name}, {setting}: G {row['g']:.4f}, {false}; {each}", flush=True)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

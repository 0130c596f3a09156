"""What is each ingredient of MTL worth? One taken away at a time, equal steps, 3 folds of patients.

python docs/programs/mtl_ablation.py DATA train       trains what is missing (an hour; may be cut)
python docs/programs/mtl_ablation.py DATA summarise   writes docs/results/mtl-ablation/ablation.json

DATA is the folder of the data sets. Every one of MoNuSeg's 30 training images is predicted by
the model that was trained without its patient; the official test images are not touched.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUNS = ROOT / "runs" / "mtl-ablation"
RESULTS = ROOT / "docs" / "results" / "mtl-ablation"
ALL = "all ingredients"
NO_DISTANCE = [
    "heads={foreground: {loss: {bce: 1.0, dice: 1.0}}}",
    "decode={decoder: components, halo_px: 256, thresholds: {foreground: 0.5, min_area: 30}}",
]
NONE = [
    "model.arguments.dilations=[1]",
    "model.arguments.transformer_layers=0",
    "model.arguments.gates=false",
]
VARIANTS = {
    ALL: [],
    "without dilations": NONE[:1],
    "without transformer": NONE[1:2],
    "without gates": NONE[2:],
    "without all three": NONE,
    "without the distance head": NO_DISTANCE,
}
METRICS = ("aji", "pq", "dice")
COMMAND = "python docs/programs/mtl_ablation.py DATA train"


def folder(variant: str) -> Path:
    """Return where a variant is cross-validated."""
    return RUNS / variant.replace(" ", "-")


def train(data: Path) -> None:
    """Cross-validate every variant; finished ones are left alone, broken off ones go on."""
    from nucleate.config import load_recipe
    from nucleate.training.crossval import CrossvalOptions, cross_validate

    for variant, changes in VARIANTS.items():
        out = folder(variant)
        if not (out / "crossval.json").exists():
            recipe = load_recipe(
                ROOT / "recipes" / "mtl-ablation.yaml", [f"data.root={data}", *changes]
            )
            resume = (out / "recipe.yaml").exists()
            cross_validate(
                recipe, Path(), out, CrossvalOptions(resume=resume, command=COMMAND), print
            )


def summarise() -> None:
    """Write the figures of every variant and its paired difference from the whole network."""
    from nucleate.config import load_recipe
    from nucleate.evaluation.compare import paired
    from nucleate.evaluation.report import mean_interval
    from nucleate.evaluation.scores import read_scores

    whole = read_scores(folder(ALL)).metrics
    recipe = load_recipe(folder(ALL) / "recipe.yaml")
    found = {}
    RESULTS.mkdir(parents=True, exist_ok=True)
    for variant in VARIANTS:
        out = folder(variant)
        if not (out / "crossval.json").exists():
            continue
        scores, summary = read_scores(out).metrics, json.loads((out / "crossval.json").read_text())
        folds = summary["out_of_fold"]["folds"].values()
        found[variant] = {
            "minutes": round(sum(fold["seconds"] for fold in folds) / 60, 1),
            "commit": summary["commit"],
            **{m: mean_interval(list(scores[m].values())) for m in METRICS},
            "difference": {m: asdict(paired(whole[m], scores[m])) for m in METRICS},
        }
        name = variant.replace(" ", "-")
        shutil.copy(out / "out-of-fold" / "per_image.csv", RESULTS / f"{name}.csv")
    content = {
        "command": "python docs/programs/mtl_ablation.py DATA summarise",
        "steps": recipe.train.steps,
        "batch": recipe.train.batch,
        "folds": recipe.crossval.folds,
        "images": len(whole["aji"]),
        "variants": found,
    }
    (RESULTS / "ablation.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[2] == "train":
        train(Path(sys.argv[1]))
    else:
        summarise()

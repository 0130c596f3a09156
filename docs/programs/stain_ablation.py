"""Does stain normalisation help on organs that were not trained on? One network, equal steps.

python docs/programs/stain_ablation.py DATA train       trains what is missing (hours; may be cut)
python docs/programs/stain_ablation.py DATA evaluate    scores every trained run on the other organs
python docs/programs/stain_ablation.py DATA summarise   writes docs/results/stain-ablation/

DATA is the folder of the data sets. Trained on breast, kidney, liver and prostate of MoNuSeg's
training images, four of which (one per organ) are watched; thresholds are fixed beforehand, the
last step counts. Nothing is chosen on the images that are tested on.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
RUNS = ROOT / "runs" / "stain-ablation"
RESULTS = ROOT / "docs" / "results" / "stain-ablation"
SEEDS = (1, 2, 3)
AUGMENTED = 0.3
VARIANTS: dict[str, tuple[str, float]] = {  # name -> normaliser, strength of stain augmentation
    "none": ("none", 0.0),
    "augmentation": ("none", AUGMENTED),
    "macenko": ("macenko", 0.0),
    "macenko + augmentation": ("macenko", AUGMENTED),
    "histogram": ("histogram", 0.0),
    "reinhard": ("reinhard", 0.0),
    "vahadane": ("vahadane", 0.0),
    "histogram + augmentation": ("histogram", AUGMENTED),
}
TRAINED = ("breast", "kidney", "liver", "prostate")
WATCHED = ("TCGA-21-5784", "TCGA-AR-A1AS", "TCGA-B0-5711", "TCGA-G9-6336")
MONUSEG = "MoNuSeg/MoNuSeg 2018 Training Data.zip"
TESTS = {
    "MoNuSeg, other organs": ("monuseg", MONUSEG, {}),
    "CryoNuSeg (frozen)": ("cryonuseg", "CryoNuSeg", {}),
    "TNBC (other hospital)": ("tnbc", "TNBC", {}),
}
METRICS = ("aji", "pq", "dice")
COMMIT = "60065fb"  # of the code that trained and evaluated


def folder(variant: str, seed: int) -> Path:
    """Return the run folder of one training."""
    return RUNS / f"{variant.replace(' + ', '+')}-{seed}"


def recipe_of(variant: str, seed: int, data: Path) -> object:
    """Return the recipe of one training: laptop's, at a quarter of the resolution."""
    from nucleate.config import load_recipe

    method, strength = VARIANTS[variant]
    changes = {
        "name": "stain-ablation", "seed": seed, "data.root": str(data),
        "data.split": str(RUNS / "split.json"),
        "stain": {"method": method}, "augment.stain": strength, "model.arguments.stem": 4,
        "train.steps": 1000, "train.validate_every": 1000, "train.ema": 0.99,
        "train.threads": 1, "decode.tune": False,
    }  # fmt: skip
    return load_recipe(
        ROOT / "recipes" / "laptop.yaml", [f"{k}={json.dumps(v)}" for k, v in changes.items()]
    )


def train(data: Path) -> None:
    """Train every variant with every seed; finished ones are left alone, broken off ones go on."""
    from nucleate.datasets.loading import list_entries
    from nucleate.datasets.splits import Split, write_split
    from nucleate.training.trainer import train_recipe

    entries = list_entries("monuseg", data / MONUSEG, {})
    parts: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for e in entries:
        part = "test" if e.organ not in TRAINED else "train"
        parts["validation" if e.group in WATCHED else part].append(f"0:{e.name}")
    split = Split(
        {p: tuple(names) for p, names in parts.items()}, {f"0:{e.name}": e.group for e in entries}
    )
    write_split(RUNS / "split.json", split)
    for seed in SEEDS:
        for variant in VARIANTS:
            out = folder(variant, seed)
            if not (out / "model" / "card.json").exists():
                resume = (out / "checkpoints").exists() and any((out / "checkpoints").iterdir())
                train_recipe(recipe_of(variant, seed, data), Path(), out, resume)


def evaluate(data: Path) -> None:
    """Score every trained run; finished ones are left alone."""
    from nucleate.datasets.loading import list_entries
    from nucleate.evaluation.evaluate import evaluate_model
    from nucleate.inference.loading import load_model

    for seed in SEEDS:
        for variant in VARIANTS:
            out = folder(variant, seed)
            target = out / "other-organs.json"
            if target.exists() or not (out / "model" / "card.json").exists():
                continue
            model = load_model(out / "model", device="cpu", threads=1)
            scores = {}
            for title, (reader, path, options) in TESTS.items():
                entries = list_entries(reader, data / path, options)
                if reader == "monuseg":
                    entries = [e for e in entries if e.organ not in TRAINED]
                report = evaluate_model(model, entries)
                scores[title] = {
                    p.name: {m: round(p.metrics[m], 6) for m in METRICS} for p in report.images
                }
            target.write_text(json.dumps(scores))
            print(variant, seed, {t: mean(s, "aji") for t, s in scores.items()}, flush=True)


def mean(images: dict[str, dict[str, float]], metric: str) -> float:
    """Return the mean over images."""
    return float(np.nanmean([m[metric] for m in images.values()]))


def summarise() -> None:
    """Write the figures of all runs, and differences from `none` with paired intervals."""
    rng = np.random.default_rng(0)
    found: dict = {}
    for variant in VARIANTS:
        files = [folder(variant, seed) / "other-organs.json" for seed in SEEDS]
        runs = [json.loads(f.read_text()) for f in files if f.exists()]
        if len(runs) == len(SEEDS):
            found[variant] = runs
    out: dict = {
        "command": "python docs/programs/stain_ablation.py DATA summarise",
        "steps": 1000, "batch": 8, "crop_px": 256, "seeds": list(SEEDS),
        "trained_on": list(TRAINED), "commit": COMMIT, "variants": {},
    }  # fmt: skip
    for variant, runs in found.items():
        row: dict = {}
        for title in TESTS:
            row[title] = {}
            for metric in METRICS:
                per_seed = [mean(run[title], metric) for run in runs]
                row[title][metric] = {
                    "mean": round(float(np.mean(per_seed)), 4),
                    "sd_over_seeds": round(float(np.std(per_seed, ddof=1)), 4),
                }
            names = sorted(runs[0][title])
            gain = np.array(
                [
                    np.mean([r[title][n]["aji"] for r in runs])
                    - np.mean([r[title][n]["aji"] for r in found["none"]])
                    for n in names
                ]
            )
            drawn = gain[rng.integers(0, len(gain), (10_000, len(gain)))].mean(axis=1)
            low, high = np.percentile(drawn, (2.5, 97.5))
            row[title]["aji_gain"] = {
                "mean": round(float(gain.mean()), 4),
                "low": round(float(low), 4),
                "high": round(float(high), 4),
                "images": len(gain),
            }
        out["variants"][variant] = row
    RESULTS.mkdir(parents=True, exist_ok=True)
    with open(RESULTS / "per_image.csv", "w", newline="", encoding="utf-8") as handle:
        rows = csv.writer(handle, lineterminator="\n")
        rows.writerow(("stain", "seed", "data", "image", *METRICS))
        for variant, runs in found.items():
            for seed, run in zip(SEEDS, runs, strict=True):
                for title, images in run.items():
                    for name, m in images.items():
                        rows.writerow((variant, seed, title, name, *(m[k] for k in METRICS)))
    (RESULTS / "ablation.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    where, what = Path(sys.argv[1]), sys.argv[2]
    if what == "summarise":
        summarise()
    else:
        {"train": train, "evaluate": evaluate}[what](where)

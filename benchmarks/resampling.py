"""Which interpolation serves scans that are coarser than the model: docs/results/resampling.json.

    python benchmarks/resampling.py DATA

DATA is the folder that the bundled models' recipes call `data.root`. The validation patients of the
bundled small model stand for scans of 0.35 and 0.5 um per pixel: each pixel is the mean of the area
that it covers, as on a sensor. The engine resamples them to the model's 0.25 um by one of three
interpolations; AJI is against the annotation at 0.25 um, for a few foreground thresholds.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from nucleate import load_model, segment  # noqa: E402
from nucleate.config import Recipe  # noqa: E402
from nucleate.datasets.loading import collect  # noqa: E402
from nucleate.environment import git_commit  # noqa: E402
from nucleate.evaluation.score import score_labels  # noqa: E402
from nucleate.geometry import resample as resampling  # noqa: E402
from nucleate.geometry.outlines import paint  # noqa: E402
from nucleate.models.card import find_model, read_card  # noqa: E402
from nucleate.types import Instances  # noqa: E402

OUT = ROOT / "docs" / "results" / "resampling.json"
MODEL, WORKING, SCANS, FOREGROUND = "mtl-small", 0.25, (0.35, 0.5), (0.3, 0.4, 0.5)
WAYS = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC, "Lanczos": cv2.INTER_LANCZOS4}


def scanned(image: np.ndarray, mpp: float) -> np.ndarray:
    """Return an image of 0.25 um per pixel as a coarser scan: means of areas."""
    height, width = (round(size * WORKING / mpp) for size in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def on_truth(nuclei: Instances, scan: tuple[int, ...], size: tuple[int, int]) -> np.ndarray:
    """Return the nuclei of a scan as labels of the annotation's grid."""
    times = np.array([size[1] / scan[1], size[0] / scan[0]])
    return paint(replace(nuclei, coords_xy=(nuclei.coords_xy * times).astype(np.float32)), size)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    recipe = Recipe.model_validate(read_card(find_model(MODEL)).recipe)
    there = collect(recipe.data.model_copy(update={"root": str(data)}), Path())
    samples = there.read("validation", WORKING)
    model = load_model(MODEL, device="cpu", threads=1)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, flag in WAYS.items():
        resampling.FINER = flag
        for mpp in SCANS:
            rows = found.setdefault(f"{mpp:g}", {}).setdefault(name, {})
            for foreground in FOREGROUND:
                scores = []
                for sample in samples:
                    scan = scanned(sample.image, mpp)
                    nuclei = segment(scan, model, mpp, thresholds={"foreground": foreground})
                    labels = on_truth(nuclei, scan.shape, sample.image.shape[:2])
                    scores.append(score_labels(sample.labels, labels).metrics["aji"])
                rows[f"{foreground:g}"] = round(float(np.mean(scores)), 4)
            print(name, mpp, rows, flush=True)
    OUT.write_text(
        json.dumps({"command": "python benchmarks/resampling.py DATA", "commit": git_commit(),
                    "model": MODEL, "images": len(samples), "aji": found}, indent=1) + "\n",
        encoding="utf-8",
    )  # fmt: skip


if __name__ == "__main__":
    main()

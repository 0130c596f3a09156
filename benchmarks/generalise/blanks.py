"""Count what a model finds where there is no nucleus: plain colours, ink, and keratin.

    python benchmarks/generalise/blanks.py [--models mtl-small]

Plain colours are glass, white, grey, black and ink of eight colours, bare and with the noise of a
scanner. Keratin is a polygon in tests/data/keratin.tif, a crop of CMU-1-Small-Region.svs (CC0) that
nothing is trained on; nuclei count by their centroid. Writes docs/results/generalise/blanks.json.
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

from nucleate import load_model, read_image, segment  # noqa: E402
from nucleate.environment import git_commit  # noqa: E402
from nucleate.inference.backends import Model  # noqa: E402

OUT = ROOT / "docs" / "results" / "generalise" / "blanks.json"
KERATIN = (
    (655, 228), (560, 255), (470, 300), (420, 345), (345, 470), (300, 550), (285, 640), (262, 768),
    (680, 768), (680, 600), (768, 600), (768, 228),
)  # fmt: skip
COLOURS = {
    "white": (255, 255, 255), "glass": (243, 242, 244), "grey": (128, 128, 128),
    "black": (0, 0, 0), "black ink": (28, 26, 30), "blue ink": (36, 52, 160),
    "light blue ink": (90, 140, 220), "green ink": (30, 130, 70), "red ink": (190, 30, 45),
    "purple ink": (90, 40, 130), "orange ink": (235, 130, 40), "yellow ink": (240, 220, 60),
}  # fmt: skip


def plain(model: Model) -> dict[str, list[int]]:
    """Return colour -> nuclei found in 512² pixels of it: bare, and with noise of 4 grey levels."""
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 4, (512, 512, 3))
    found = {}
    for name, colour in COLOURS.items():
        bare = np.full((512, 512, 3), colour, np.uint8)
        noisy = np.clip(bare + noise, 0, 255).astype(np.uint8)
        found[name] = [len(segment(image, model, mpp=0.25)) for image in (bare, noisy)]
    return found


def keratin(model: Model) -> dict[str, int]:
    """Return how many nuclei are inside and outside of the keratin."""
    image, mpp = read_image(ROOT / "tests" / "data" / "keratin.tif")
    polygon = np.array(KERATIN, np.float32)
    nuclei = segment(image, model, mpp=mpp)
    inside = sum(
        cv2.pointPolygonTest(polygon, (float(x), float(y)), False) >= 0
        for x, y in zip(nuclei["x"], nuclei["y"], strict=True)
    )
    return {"in keratin": inside, "in the rest": len(nuclei) - inside}


def main() -> None:
    """Count and write."""
    import warnings

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="mtl-small")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # plain colours are doubtful images, rightly
    known = json.loads(OUT.read_text(encoding="utf-8"))["models"] if OUT.exists() else {}
    models: dict[str, Any] = dict(known)
    for name in options.models.split(","):
        model = load_model(name, device="cpu")
        found = {"engine": model.backend.about, **keratin(model), "plain": plain(model)}
        models[f"{model.card.name} {model.card.version}"] = found
        print(name, json.dumps(found))
    content = {"commit": git_commit(), "models": models}
    options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

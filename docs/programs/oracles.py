"""Where does the error of a dense network lie? Parts of its maps are replaced by the truth.

And would another way of decoding help? Unsure nuclei are left out, or each is cut at a share of its
own foreground instead of one threshold for all.

python docs/programs/oracles.py RUN DATA

RUN is a folder of a training run, whose held-out images are used; DATA the folder that its
recipe's `data.root` stands for. Writes docs/results/oracles.json.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import numpy as np

from nucleate import load_model
from nucleate.config import load_recipe
from nucleate.datasets.loading import collect
from nucleate.environment import git_commit
from nucleate.evaluation.metrics.instance import aji, matches, panoptic
from nucleate.evaluation.metrics.matching import overlap
from nucleate.evaluation.metrics.pixel import confusion
from nucleate.geometry.labels import compact, nuclei_of
from nucleate.geometry.runs import runs_of
from nucleate.inference.engine import predict_maps
from nucleate.postprocess import (
    DECODERS,
    complete_thresholds,
    flat,
    mean_score,
    watershed,
)
from nucleate.readers.array import ArraySource
from nucleate.targets import encode
from nucleate.types import Int32, Maps

OUT = Path(__file__).parents[2] / "docs" / "results" / "oracles.json"
RIM_PX = 3  # a foreground that is wrong no further than this from a true outline is a rim


def variants(maps: Maps, truth: Int32, threshold: float) -> dict[str, Maps]:
    """Return name -> maps of which a part is the truth."""
    import cv2

    true = encode(truth, ["foreground", "distance"])
    said = maps["foreground"] > threshold
    inside = truth > 0
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * RIM_PX + 1, 2 * RIM_PX + 1))
    outside_rim = cv2.dilate(inside.view(np.uint8), disc) == 0
    core = cv2.erode(inside.view(np.uint8), disc) > 0
    rim = ~outside_rim & ~core
    pieces = {
        "no false foreground far from nuclei": said & ~outside_rim,
        "no hole in the core of nuclei": said | core,
        "both: only rims are wrong": (said & ~outside_rim) | core,
        "rims are right": np.where(rim, inside, said),
    }
    return {
        "as it is": maps,
        "true foreground, predicted distance": {**maps, "foreground": true["foreground"]},
        "predicted foreground, true distance": {**maps, "distance": true["distance"]},
        **{name: {**maps, "foreground": p.astype(np.float32)} for name, p in pieces.items()},
        "all true": true,
    }


def decodings(maps: Maps, thresholds: dict[str, float]) -> dict[str, Int32]:
    """Return name -> labels by other ways of decoding."""
    found = {}
    labels = watershed(maps, thresholds)
    scores = np.concatenate([[0.0], mean_score(labels, maps["foreground"])])
    for least in (0.7, 0.75, 0.8):
        kept = np.where(scores > least, np.arange(len(scores)), 0).astype(np.int32)
        found[f"nuclei of a mean foreground above {least}"] = compact(kept[labels])[0]
    lower = watershed(maps, {**thresholds, "foreground": 0.5})
    means = np.concatenate([[0.0], mean_score(lower, maps["foreground"])])
    for share in (0.7, 0.8):
        inside = maps["foreground"] > share * means[lower]
        cut = runs_of(np.where(inside, lower, 0).astype(np.int32))
        name = f"each nucleus above {share} of its mean foreground"
        found[name] = nuclei_of(cut, lower.shape, thresholds["min_area"])
    return found


def main(run: Path, data: Path) -> None:
    """Score every variant on the held-out images of a run, and write the means."""
    recipe = load_recipe(run / "recipe.yaml")
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"root": str(data)})})
    model = load_model(run, device="cpu")
    thresholds = complete_thresholds(model.card.decoder, model.card.thresholds)
    decode = DECODERS[model.card.decoder].decode
    rows: dict[str, list[tuple[float, ...]]] = {}
    names = []
    for sample in collect(recipe.data, Path()).read("validation", recipe.data.mpp):
        names.append(sample.name)
        truth = compact(sample.labels)[0]
        high, wide = truth.shape
        maps = {
            head: np.ascontiguousarray(m[:high, :wide])
            for head, m in predict_maps(ArraySource(sample.image), model, model.card.mpp).items()
        }
        drawn = {
            name: flat(decode(changed, thresholds, truth.shape))
            for name, changed in variants(maps, truth, thresholds["foreground"]).items()
        }
        for name, found in (drawn | decodings(maps, thresholds)).items():
            matched = overlap(truth, found, sample.ignore)
            dq, sq, pq = panoptic(*matches(matched, 0.5))
            dice = confusion(truth, found, sample.ignore).dice
            rows.setdefault(name, []).append((aji(matched), pq, dq, sq, dice))
    means = {name: np.mean(scores, axis=0) for name, scores in rows.items()}
    for name, mean in means.items():
        print(f"{name:40s}", " ".join(f"{v:.3f}" for v in mean))
    printed = {
        "command": shlex.join(["python", *(Path(a).name for a in sys.argv)]),
        "commit": git_commit(),
        "model": model.card.name,
        "images": names,
        "scores": ["aji", "pq", "dq", "sq", "dice"],
        "rows": {name: [round(float(v), 4) for v in mean] for name, mean in means.items()},
    }
    OUT.write_text(json.dumps(printed, indent=1) + "\n", encoding="utf-8")


def table() -> list[str]:
    """Return the lines of the table in the log of the search."""
    printed = json.loads(OUT.read_text(encoding="utf-8"))
    lines = [
        (
            f"`{printed['command']}` (commit {printed['commit']}): {printed['model']} on "
            f"{len(printed['images'])} held-out images.\n"
        ),
        "| what is changed | AJI | PQ | DQ | SQ | Dice |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in printed["rows"].items():
        lines.append(f"| {name} | {' | '.join(f'{v:.3f}' for v in row)} |")
    return lines


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))

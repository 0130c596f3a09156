"""Write what the judge found into the cards of the bundled models: `metrics.unseen_sets`.

    python benchmarks/generalise/cards.py

mtl-small is trained on all sets of the judge, so its card states the folds of its recipe, each on
the set that it has not seen (curve.py). mtl-open is scored itself (baselines.py).
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.generalise.baselines import OUT  # noqa: E402
from benchmarks.generalise.curve import OUT as CURVE  # noqa: E402

from nucleate.models.card import bundled_models, find_model, read_card, write_card  # noqa: E402

FOLDS = "mtl-small"


def unseen(name: str) -> dict[str, Any]:
    """Return G, F and AJI by set, with 95 % intervals, of a model or of its recipe's folds."""
    if name == FOLDS:
        curve = json.loads(CURVE.read_text(encoding="utf-8"))
        about = f"folds of the recipe, the idea {curve['idea']}, each on the set it has not seen"
        found = curve.get("all_seeds", curve["areas"][f"{curve['min_area']:g}"])
    else:
        about = "the model, on sets that it has not seen"
        found = json.loads(OUT.read_text(encoding="utf-8"))["models"][name]["settings"]["own"]
    return {
        "about": about,
        "mean_aji": [round(found[key], 4) for key in ("g", "g_low", "g_high")],
        "false_per_mm2": round(found["f"], 1),
        "aji": {key: [round(v, 4) for v in row["aji"]] for key, row in found["sets"].items()},
    }


def main() -> None:
    """Write the cards."""
    for name in bundled_models():
        folder = find_model(name)
        card = read_card(folder)
        write_card(folder, replace(card, metrics={**card.metrics, "unseen_sets": unseen(name)}))
        print(name, json.dumps(unseen(name)))


if __name__ == "__main__":
    main()

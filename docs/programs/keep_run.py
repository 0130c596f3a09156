"""Copy what a finished run has to show into docs/results/NAME-training/: facts, curves, log.

python docs/programs/keep_run.py runs/mtl-small
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
from safetensors import safe_open

from nucleate.models.card import read_card
from nucleate.training.run_folder import RunFolder

TRAINED = ("weight", "bias")


def main() -> None:
    """Copy one run."""
    run = Path(sys.argv[1])
    card = read_card(run / "model")
    split_facts = card.training_data[-1]
    rows = RunFolder(run).rows()
    with safe_open(run / "model" / "model.safetensors", "numpy") as weights:
        parameters = sum(
            int(np.prod(weights.get_slice(k).get_shape()))
            for k in weights.keys()  # noqa: SIM118
            if k.endswith(TRAINED)
        )
    train = card.recipe["train"]
    out = Path(__file__).parents[1] / "results" / f"{card.name}-training"
    out.mkdir(parents=True, exist_ok=True)
    facts = {
        "name": card.name,
        "steps": train["steps"],
        "batch": train["batch"],
        "threads": train["threads"],
        "precision": train["precision"],
        "minutes": sum(float(row["seconds"]) for row in rows) / 60,
        "parameters": parameters,
        "trained_on": split_facts["trained_on"],
        "nuclei_trained_on": split_facts["nuclei_trained_on"],
        "validation_images": card.metrics["validation"]["images"],
        "validation_aji": card.metrics["validation"]["aji"],
        "validation_pq": card.metrics["validation"]["pq"],
        "best_step": card.metrics["validation"]["best_step"],
        "thresholds": card.thresholds,
        "files": card.files,
    }
    (out / "run.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    for name in ("curves.png", "metrics.csv", "split.json"):
        shutil.copy(run / name, out / name)


if __name__ == "__main__":
    main()

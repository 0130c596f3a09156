"""How well do people agree? CryoNuSeg's annotators against each other and against themselves.

python docs/programs/human_agreement.py DATA    writes docs/results/human-agreement/agreement.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from nucleate.datasets.loading import list_entries
from nucleate.evaluation.report import Report
from nucleate.evaluation.score import score_labels

RESULTS = Path(__file__).parents[1] / "results" / "human-agreement"
PAIRS = {
    "biologist against bioinformatician": ("biologist", "bioinformatician"),
    "biologist, first against second round": ("biologist", "biologist-2"),
}


def main(data: Path) -> None:
    """Compare the annotations of every image and write means with intervals."""
    found = {}
    for title, (truth, other) in PAIRS.items():
        first, second = (
            list_entries("cryonuseg", data / "CryoNuSeg", {"annotation": a}) for a in (truth, other)
        )
        scores = [
            score_labels(
                a.read().labels, b.read().labels, name=a.name, organ=a.organ, radius_px=12.0
            )
            for a, b in zip(first, second, strict=True)
        ]
        means = Report(scores, {}).means()
        found[title] = {m: means[m] for m in ("aji", "pq", "dice", "count_error")}
        print(title, found[title])
    RESULTS.mkdir(parents=True, exist_ok=True)
    content = {"command": "python docs/programs/human_agreement.py DATA", "pairs": found}
    (RESULTS / "agreement.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

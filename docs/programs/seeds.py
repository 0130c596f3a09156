"""One recipe trained several times, on data it never saw: docs/results/seeds.json.

python docs/programs/seeds.py EVALUATED …

EVALUATED are folders of `nucleate evaluate -m MODEL --data … -o EVALUATED`, of trainings that
differ in their seed alone. Rows are the data sets.
On official test images add `--ledger docs/results/test-uses.csv`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from nucleate.evaluation.report import mean_interval

OUT = Path(__file__).parents[1] / "results" / "seeds.json"
METRICS = {"aji": "AJI", "pq": "PQ", "dice": "Dice"}


def over_seeds(runs: list[dict[str, Any]], metric: str) -> dict[str, Any]:
    """Return mean and spread over seeds, and the interval over images, seeds averaged first."""
    images = {
        name: fmean(p[metric] for run in runs for p in run["per_image"] if p["name"] == name)
        for name in (p["name"] for p in runs[0]["per_image"])
    }
    own = [run["mean"][metric]["mean"] for run in runs]
    spread = stdev(own) if len(own) > 1 else 0.0
    return {**mean_interval(list(images.values())), "seeds": own, "sd_over_seeds": spread}


def page() -> str:
    """Return the section of the results page."""
    lines = ["\n## Other seeds, and data from elsewhere\n"]
    if not OUT.exists():
        return "\n".join([*lines, "not run\n"])
    lines += [
        (
            "The same recipe trained with different seeds; each with the thresholds that its own "
            "held-out images chose. Mean over seeds and images; in parentheses the 95 % "
            "interval over images, seeds averaged first; ± the standard deviation over seeds. "
            "Rows of mtl-small are of its first half, `recipes/mtl-small-start.yaml`.\n"
        ),
        f"| model | data | images | seeds | {' | '.join(METRICS.values())} |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = json.loads(OUT.read_text(encoding="utf-8"))
    for row in rows:
        cells = [
            f"{m['mean']:.3f} ({m['low']:.3f} to {m['high']:.3f}) ± {m['sd_over_seeds']:.3f}"
            for m in (row[metric] for metric in METRICS)
        ]
        seeds = len(row["aji"]["seeds"])
        lines.append(
            f"| {row['model']} | {row['data']} | {row['aji']['n']} | {seeds} | "
            f"{' | '.join(cells)} |"
        )
    lines += ["", *(f"`{command}`\n" for row in rows for command in row["commands"])]
    return "\n".join(lines)


def main(folders: list[Path]) -> None:
    """Gather what belongs together, and write."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for folder in folders:
        run = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        about = run["about"]
        groups.setdefault((about["model"], about["data"]["root"]), []).append(run)
    rows = [
        {
            "model": model,
            "data": data.removesuffix(".zip"),
            "commands": [run["about"]["command"] for run in runs],
            **{metric: over_seeds(runs, metric) for metric in METRICS},
        }
        for (model, data), runs in groups.items()
    ]
    OUT.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main([Path(word) for word in sys.argv[1:]])

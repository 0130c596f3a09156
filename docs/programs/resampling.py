"""The section about interpolation of coarser scans, from benchmarks/resampling.py."""

from __future__ import annotations

import json
from pathlib import Path

OUT = Path(__file__).parents[1] / "results" / "resampling.json"


def section() -> str:
    """Return the table of AJI by resolution, interpolation and threshold."""
    data = json.loads(OUT.read_text(encoding="utf-8"))
    thresholds = [*next(iter(next(iter(data["aji"].values())).values()))]
    rows = [
        f"| {mpp} | {way} | {' | '.join(f'{ajis[t]:.4f}' for t in thresholds)} |"
        for mpp, ways in data["aji"].items()
        for way, ajis in ways.items()
    ]
    return (
        f"\n## Interpolation of coarser scans\n\n`{data['command']}` (commit {data['commit']}): "
        f"{data['images']} validation images as scans of coarser pixels, resampled to the "
        f"resolution of {data['model']}; mean AJI by foreground threshold.\n\n"
        f"| um/px | interpolation | {' | '.join(thresholds)} |\n"
        f"|---|---|{'---|' * len(thresholds)}\n" + "\n".join(rows) + "\n"
    )

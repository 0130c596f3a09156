"""The sentences of docs/how-to/own-data.md on plausibility, from docs/results/plausibility.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

OUT = Path(__file__).parents[1] / "results" / "plausibility.json"


def sentences() -> str:
    """Return how often the tests warn, and how good the suggested mpp is."""
    data: dict[str, Any] = json.loads(OUT.read_text(encoding="utf-8"))
    warned, held, suggested = data["warned"], data["held_out"], data["suggest_mpp"]
    true, half, double = (
        warned[name]["any"] for name in ("as it is", "half the mpp", "twice the mpp")
    )
    apart = ", ".join(
        f"{held[f'warns at {times} times the mpp']:.0%}" for times in ("1", "0.5", "2")
    )
    return (
        f"On the {sum(data['images'].values())} annotated images of these sets, {true:.1%} warn at "
        f"the true resolution, {half:.0%} at half of it and {double:.0%} at twice. The calibration "
        "has seen these images. With each data set left out in turn, on fields of 128 µm, the test "
        f"of the scale alone warns at {apart}. `--suggest-mpp` is within 25 % on "
        f"{suggested['within_25_percent']:.0%} of {suggested['images']} images, its estimate "
        f"before rounding on {suggested['estimate_within_25_percent']:.0%}. "
        "`python benchmarks/plausibility.py --data DATA --fit` repeats it."
    )

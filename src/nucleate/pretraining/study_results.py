"""Results of a study: tables and figures."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nucleate.evaluation.compare import paired_over_seeds
from nucleate.evaluation.score import METRICS
from nucleate.evaluation.scores import read_scores
from nucleate.files import atomic
from nucleate.geometry.palette import BLACK, web_colour
from nucleate.models.card import read_encoder_card
from nucleate.pages import SERIES
from nucleate.pretraining.study_plan import Plan, has_encoder, run_name, slug
from nucleate.training.run_folder import RunFolder


def summarise(plan: Plan, out: Path, skipped: dict[str, str]) -> dict[str, Any]:
    """Return the results of a study for the runs scored so far.

    A gain is the mean difference in AJI from the first start, over images and seeds; its
    interval is from a bootstrap over seeds and patients.
    """
    recipe = plan.recipe
    tables: dict[str, Any] = {}
    first = next(iter(recipe.starts))
    for title, entries in plan.tests.items():
        folder = out / "tests" / slug(title)
        rows: dict[str, Any] = {}
        for share in sorted(recipe.fractions):
            found: dict[str, list[dict[str, dict[str, float]]]] = {}
            for start in recipe.starts:
                names = [folder / run_name(start, share, seed) for seed in recipe.seeds]
                if all((name / "metrics.json").exists() for name in names):
                    scores = [read_scores(name) for name in names]
                    found[start] = [s.metrics for s in scores]
                    groups = scores[0].groups
            rows[f"{share * 100:g}"] = {
                start: _row(metrics, None if start == first else found.get(first), groups)
                for start, metrics in found.items()
            }
        tables[title] = {"images": len(entries), "labelled": rows}
    return {
        "study": recipe.name,
        "about": recipe.about,
        "finetune": plan.finetune.name,
        "steps": plan.finetune.train.steps,
        "batch": plan.finetune.train.batch,
        "crop_px": plan.finetune.train.crop_px,
        "seeds": list(recipe.seeds),
        "starts": list(recipe.starts),
        "skipped": skipped,
        "pretexts": {name: _pretext(out / "pretexts" / name) for name in plan.pretexts},
        "tests": tables,
    }


def _row(
    metrics: list[dict[str, dict[str, float]]],
    first: list[dict[str, dict[str, float]]] | None,
    groups: dict[str, str],
) -> dict[str, Any]:
    """Return the scores of one start: mean and SD over seeds per metric, and the gain in AJI."""
    row: dict[str, Any] = {}
    for name in METRICS:
        means = [_mean(m[name]) for m in metrics]
        sd = float(np.std(means, ddof=1)) if len(means) > 1 else None
        row[name] = {"mean": float(np.mean(means)), "sd": sd, "seeds": means}
    if first is not None:
        pairs = [(a["aji"], b["aji"]) for a, b in zip(first, metrics, strict=True)]
        row["gain"] = asdict(paired_over_seeds(pairs, groups))
    return row


def _mean(values: dict[str, float]) -> float:
    """Return the mean over images; NaN if the metric is undefined for all."""
    known = [value for value in values.values() if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _pretext(run: Path) -> dict[str, Any]:
    """Return the summary of a pretraining; empty if it is not finished."""
    if not has_encoder(run):
        return {}
    card = read_encoder_card(run / "encoder")
    rows = RunFolder(run).numbers()
    return {
        "task": card.task,
        "metrics": card.metrics,
        "minutes": round(sum(row["seconds"] for row in rows) / 60, 1),
        "arguments": card.recipe["pretext"]["arguments"],
        "sha256": next(iter(card.files.values())),
        "progress": [
            {k: v for k, v in row.items() if k == "step" or k.startswith("val_")} for row in rows
        ],
    }


def draw_efficiency(summary: dict[str, Any], path: Path) -> None:
    """Plot AJI over the fraction of labels: a panel per test, a line per start."""
    from matplotlib.figure import Figure  # no pyplot: no global state, no window

    tests = summary["tests"]
    figure = Figure(figsize=(4.4 * len(tests), 4.2), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(tests)))
    colours = (web_colour(BLACK), *SERIES)
    markers = "osD^vPX"
    for axes, (title, test) in zip(panels, tests.items(), strict=True):
        for i, start in enumerate(summary["starts"]):
            points = [
                (float(share), row[start]["aji"]["mean"], row[start]["aji"]["sd"] or 0.0)
                for share, row in test["labelled"].items()
                if start in row
            ]
            if points:
                x, y, spread = zip(*points, strict=True)
                moved = np.array(x) * 1.03 ** (i - len(summary["starts"]) / 2)  # bars side by side
                look = {"color": colours[i % len(colours)], "marker": markers[i % len(markers)]}
                axes.errorbar(moved, y, spread, capsize=2, label=start, **look)
        shares = sorted({float(share) for share in test["labelled"]})
        axes.set(xscale="log", xlabel="labelled images, %", ylabel="AJI")
        axes.set_title(f"{title}, {test['images']} images", fontsize=10)
        axes.set_xticks(shares, [f"{share:g}" for share in shares])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)

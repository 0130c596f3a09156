"""Runs → one HTML page, the same figures as JSON, and figures and tables for a paper."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nucleate.datasets.splits import bare_name
from nucleate.evaluation.metrics.nucleus_errors import MEANING
from nucleate.evaluation.report import no_nan, seen_note
from nucleate.files import write_text
from nucleate.geometry.palette import OUTCOME_RGB, web_colour
from nucleate.pages import page
from nucleate.reports import figures, tables
from nucleate.reports.run_results import ImageResult, RunResult
from nucleate.trees import dump_recipe

_SHOWN = 3  # best and worst images


def write_report(runs: Sequence[RunResult], out: Path) -> None:
    """Write `index.html`, which needs no other file, `report.json`, `figures/` and `tables/`.

    Figures are SVG and PDF, tables CSV and LaTeX (booktabs), for a paper.

    Raises:
        OutputError: a file cannot be written.
    """
    facts = {run.name: _facts(run) for run in runs}
    write_text(out / "report.json", json.dumps(no_nan(facts), indent=1) + "\n")
    figures.write_figures(figures.report_figures(runs), out / "figures")
    tables.write_tables(tables.report_tables(runs), out / "tables")
    write_text(out / "index.html", report_page(runs))


def report_page(runs: Sequence[RunResult]) -> str:
    """Return the HTML page of a report."""
    return page(
        "report.html",
        runs=[_shown(run) for run in runs],
        results=tables.results_table(runs),
        differences=tables.comparison_table(runs),
        published=tables.published_table(runs),
        errors=tables.errors_table(runs),
        outcomes=[(name, web_colour(OUTCOME_RGB[name]), MEANING[name]) for name in tables.OUTCOMES],
        pixels=tables.pixels_table(runs),
        calibration=figures.calibration_figure(runs),
        cost=tables.cost_table(runs),
    )


def _facts(run: RunResult) -> dict[str, Any]:
    """Return the figures of one run as plain values."""
    report = run.report
    scores, hits = figures.all_scores(run)
    return {
        "recipe": run.recipe.name,
        "images_are": run.part,
        "seen_in_training": report.seen,
        "mean": report.means(),
        "pooled": report.pooled(),
        "per_organ": report.per_organ(),
        "outcomes": tables.outcomes(run),
        "calibration_error": figures.calibration_error(scores, hits),
        "cost": {name: {"value": value, "unit": unit} for name, (value, unit) in run.cost.items()},
        "per_image": [{"name": p.name, **p.metrics, "counts": p.counts} for p in report.images],
    }


def _shown(run: RunResult) -> dict[str, Any]:
    """Return what the page shows of one run."""
    seen = {bare_name(n): how for n, how in run.report.seen.items() if how.startswith("trained")}
    data = run.recipe.data.model_copy(update={"root": "."})  # no folder of this machine
    return {
        "name": run.name,
        "recipe": run.recipe,
        "part": run.part,
        "folds": len(run.curves),
        "images": len(run.images),
        "seen": seen_note(seen, len(run.images)) if seen else "",
        "curves": figures.curve_figures(run).values(),
        "examples": _examples(run),
        "means": run.report.means(),
        "agreement": figures.agreement(run),
        "counting": figures.counting_figures(run).values(),
        "calibration_error": figures.calibration_error(*figures.all_scores(run)),
        "organs": tables.organs_table(run),
        "classes": tables.classes_table(run),
        "scores": tables.images_table(run),
        "yaml": dump_recipe(run.recipe.model_copy(update={"data": data})),
    }


def _examples(run: RunResult) -> dict[str, list[dict[str, Any]]]:
    """Return the worst and best images: the window where truth and prediction differ most."""
    known = [p for p in run.images if not math.isnan(p.score.metrics["aji"])]
    ranked = sorted(known, key=lambda p: p.score.metrics["aji"])
    worst, best = ranked[:_SHOWN], ranked[_SHOWN:][-_SHOWN:][::-1]
    return {"worst": [_example(p) for p in worst], "best": [_example(p) for p in best]}


def _example(p: ImageResult) -> dict[str, Any]:
    counts = p.score.counts
    return {
        "name": bare_name(p.score.name),
        "overlay": p.overlay,
        "metrics": p.score.metrics,
        "true": int(counts["nuclei_true"]),
        "predicted": int(counts["nuclei_pred"]),
        "errors": ", ".join(f"{int(counts[n])} {n}" for n in tables.OUTCOMES[1:] if counts[n]),
    }

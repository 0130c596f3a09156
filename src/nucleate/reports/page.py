"""Runs → one HTML page, the same figures as JSON, and figures and tables for a paper."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nucleate.datasets.splits import bare_name
from nucleate.evaluation.report import no_nan, seen_note
from nucleate.files import write_text
from nucleate.pages import heading, page, plots, table, text
from nucleate.reports.figures import all_scores, curve_figures, report_figures, write_figures
from nucleate.reports.run_results import RunResult
from nucleate.reports.sections import (
    calibration_error,
    calibration_section,
    classes_section,
    counting_section,
    errors_section,
    examples_section,
    organs_section,
    pixels_section,
    shown,
)
from nucleate.reports.tables import (
    comparison_table,
    cost_table,
    images_table,
    outcomes,
    published_table,
    report_tables,
    results_table,
    write_tables,
)
from nucleate.trees import dump_recipe


def write_report(runs: Sequence[RunResult], out: Path) -> None:
    """Write `index.html`, which needs no other file, `report.json`, `figures/` and `tables/`.

    Figures are SVG and PDF, tables CSV and LaTeX (booktabs), for a paper.

    Raises:
        OutputError: a file cannot be written.
    """
    facts = {run.name: _facts(run) for run in runs}
    write_text(out / "report.json", json.dumps(no_nan(facts), indent=1) + "\n")
    write_figures(report_figures(runs), out / "figures")
    write_tables(report_tables(runs), out / "tables")
    write_text(out / "index.html", report_page(runs))


def report_page(runs: Sequence[RunResult]) -> str:
    """Return the HTML page of a report."""
    blocks = [f"<h1>{text(' · '.join(run.name for run in runs))}</h1>"]
    blocks += [_about(run) for run in runs]
    blocks += [heading("Results"), shown(results_table(runs)), shown(comparison_table(runs))]
    blocks += [_published(runs)]
    blocks += [heading("Curves"), *(_curves(run) for run in runs)]
    blocks += [heading("What goes wrong"), errors_section(runs)]
    blocks += [examples_section(run) for run in runs]
    blocks += [heading("Counting"), *(counting_section(run) for run in runs)]
    blocks += [heading("Pixels"), pixels_section(runs)]
    blocks += [heading("Scores of the nuclei"), calibration_section(runs)]
    blocks += [heading("By organ"), *(organs_section(run) for run in runs)]
    blocks += [classes_section(run) for run in runs]
    blocks += [heading("Cost"), shown(cost_table(runs))]
    blocks += [heading("Every image"), *(_images(run) for run in runs)]
    blocks += [heading("Recipes"), *(_recipe(run) for run in runs)]
    return page("Report: " + ", ".join(run.name for run in runs), blocks)


def _facts(run: RunResult) -> dict[str, Any]:
    """Return the figures of one run as plain values."""
    report = run.report
    scores, hits = all_scores(run)
    return {
        "recipe": run.recipe.name,
        "images_are": run.part,
        "seen_in_training": report.seen,
        "mean": report.means(),
        "pooled": report.pooled(),
        "per_organ": report.per_organ(),
        "outcomes": outcomes(run),
        "calibration_error": calibration_error(scores, hits),
        "cost": {name: {"value": value, "unit": unit} for name, (value, unit) in run.cost.items()},
        "per_image": [{"name": p.name, **p.metrics, "counts": p.counts} for p in report.images],
    }


def _about(run: RunResult) -> str:
    chosen = "" if run.part == "tested on" else (
        " <span class='note'>Checkpoint or thresholds were chosen on the same images: these "
        "scores are too high for comparison with others.</span>"
    )  # fmt: skip
    seen = {bare_name(n): how for n, how in run.report.seen.items() if how.startswith("trained")}
    never = "" if seen else ", never trained on"
    if seen:
        chosen += f" <b>Warning: {text(seen_note(seen, len(run.images)))}</b>"
    train = run.recipe.train
    folds = f"{len(run.curves)} folds, " if len(run.curves) > 1 else ""
    return (
        f"<p><b>{text(run.name)}</b>: {text(run.recipe.about)}. {folds}{train.steps} steps of "
        f"{train.batch} crops of {train.crop_px}², seed {run.recipe.seed}; "
        f"{len(run.images)} images that it was {text(run.part)}{never}.{chosen}</p>"
    )


def _published(runs: Sequence[RunResult]) -> str:
    found = published_table(runs)
    return heading("Beside published results") + shown(found) if found.body else ""


def _curves(run: RunResult) -> str:
    return f"<h3>{text(run.name)}</h3>" + plots([each.tag() for each in curve_figures(run)])


def _images(run: RunResult) -> str:
    found = images_table(run)
    name = f"{text(run.name)}: {len(found.body)} images"
    return f"<details><summary>{name}</summary>{table(found.head, found.body)}</details>"


def _recipe(run: RunResult) -> str:
    asked = dump_recipe(run.recipe.model_copy(update={"data": run.recipe.data.model_copy(
        update={"root": "."})}))  # fmt: skip
    return f"<details><summary>{text(run.name)}</summary><pre>{text(asked)}</pre></details>"

"""Runs → one HTML page, and the same figures as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nucleate.datasets.splits import bare_name
from nucleate.errors import InputError
from nucleate.evaluation.compare import paired
from nucleate.evaluation.report import no_nan, seen_note
from nucleate.evaluation.score import METRICS
from nucleate.files import write_text
from nucleate.pages import SERIES, heading, page, plot, plots, quiet, table, text
from nucleate.reports.run_results import RunResult
from nucleate.reports.sections import (
    MAIN_METRICS,
    all_scores,
    calibration_error,
    calibration_section,
    classes_section,
    counting_section,
    errors_section,
    examples_section,
    fates_section,
    organs_section,
    pixels_section,
    plain_name,
    three_digits,
)
from nucleate.trees import dump_recipe


def write_report(runs: Sequence[RunResult], out: Path) -> None:
    """Write `index.html`, which needs no other file, and `report.json`.

    Raises:
        OutputError: a file cannot be written.
    """
    facts = {run.name: _facts(run) for run in runs}
    write_text(out / "report.json", json.dumps(no_nan(facts), indent=1) + "\n")
    write_text(out / "index.html", report_page(runs))


def report_page(runs: Sequence[RunResult]) -> str:
    """Return the HTML page of a report."""
    blocks = [f"<h1>{text(' · '.join(run.name for run in runs))}</h1>"]
    blocks += [_about(run) for run in runs]
    blocks += [heading("Results"), _results(runs), _compared(runs)]
    blocks += [heading("Curves"), *(_curves(run) for run in runs)]
    blocks += [heading("What goes wrong"), errors_section(runs)]
    blocks += [examples_section(run) for run in runs]
    blocks += [heading("Counting"), *(counting_section(run) for run in runs)]
    blocks += [heading("Pixels"), pixels_section(runs)]
    blocks += [heading("Scores of the nuclei"), calibration_section(runs)]
    blocks += [heading("By organ"), *(organs_section(run) for run in runs)]
    blocks += [classes_section(run) for run in runs]
    blocks += [heading("Cost"), _cost(runs)]
    blocks += [heading("Every image"), *(_pictures(run) for run in runs)]
    blocks += [heading("Recipes"), *(_recipe(run) for run in runs)]
    return page("Report: " + ", ".join(run.name for run in runs), blocks)


def _facts(run: RunResult) -> dict[str, Any]:
    """Return the figures of one run as plain values."""
    report = run.report
    scores, hits = all_scores(run)
    return {
        "recipe": run.recipe.name,
        "pictures_are": run.part,
        "seen_in_training": report.seen,
        "mean": report.means(),
        "pooled": report.pooled(),
        "per_organ": report.per_organ(),
        "fates": fates_section(run),
        "calibration_error": calibration_error(scores, hits),
        "cost": {name: {"value": value, "unit": unit} for name, (value, unit) in run.cost.items()},
        "per_picture": [{"name": p.name, **p.metrics, "counts": p.counts} for p in report.pictures],
    }


def _about(run: RunResult) -> str:
    chosen = "" if run.part == "tested on" else (
        " <span class='note'>Checkpoint or thresholds were chosen on the same images: these "
        "scores are too high for comparison with others.</span>"
    )  # fmt: skip
    seen = {bare_name(n): how for n, how in run.report.seen.items() if how.startswith("trained")}
    never = "" if seen else ", never trained on"
    if seen:
        chosen += f" <b>Warning: {text(seen_note(seen, len(run.pictures)))}</b>"
    train = run.recipe.train
    folds = f"{len(run.curves)} folds, " if len(run.curves) > 1 else ""
    return (
        f"<p><b>{text(run.name)}</b>: {text(run.recipe.about)}. {folds}{train.steps} steps of "
        f"{train.batch} crops of {train.crop_px}², seed {run.recipe.seed}; "
        f"{len(run.pictures)} images that it was {text(run.part)}{never}.{chosen}</p>"
    )


def _results(runs: Sequence[RunResult]) -> str:
    body = []
    for run in runs:
        means = run.report.means()
        body.append([run.name, len(run.pictures), *(_interval(means[m]) for m in MAIN_METRICS)])
    return quiet(
        "Mean over images, and its 95 % bootstrap interval over patients or slides."
    ) + table(["run", "pictures", *map(plain_name, MAIN_METRICS)], body)


def _compared(runs: Sequence[RunResult]) -> str:
    """Return the paired comparison of all runs with the first, where the images are the same."""
    body = []
    for other in runs[1:]:
        for metric in ("aji", "pq", "dice"):
            try:
                p = paired(_by_name(runs[0], metric), _by_name(other, metric), _groups(runs[0]))
            except InputError:
                break
            body.append(
                [f"{other.name} - {runs[0].name}", plain_name(metric), f"{p.difference:+.3f}",
                 f"{p.low:+.3f} to {p.high:+.3f}", f"{p.p:.4f}", p.n]
            )  # fmt: skip
    if not body:
        return ""
    mixed = len({run.part for run in runs}) > 1
    said = quiet(
        "Image by image; the interval is a bootstrap over patients or slides, p of a "
        "permutation test over the same."
        + (" Some runs were chosen on these images, others tested on them." if mixed else "")
    )
    return said + table(["difference", "metric", "mean", "95 % interval", "p", "pictures"], body)


def _groups(run: RunResult) -> dict[str, str]:
    return {p.score.name: p.score.group or p.score.name for p in run.pictures}


def _by_name(run: RunResult, metric: str) -> dict[str, float]:
    return {p.score.name: p.score.metrics[metric] for p in run.pictures}


def _curves(run: RunResult) -> str:
    panels = (
        ("loss", ("loss", "val_loss")),
        ("accuracy of pixels", ("train_accuracy", "val_accuracy")),
        ("Dice of pixels", ("train_dice", "val_dice")),
        ("IoU of pixels", ("train_iou", "val_iou")),
        ("nuclei, validation", ("val_aji", "val_pq")),
    )
    tags = []
    for title, names in panels:
        if any(name in row for rows in run.curves.values() for row in rows for name in names):
            tags.append(plot(title, "step", "", _lines(run, names)))
    return f"<h3>{text(run.name)}</h3>" + plots(tags)


def _lines(run: RunResult, names: Sequence[str]) -> Any:  # noqa: ANN401
    def draw(ax: Any) -> None:  # noqa: ANN401
        for colour, name in zip(SERIES, names, strict=False):
            for fold, rows in enumerate(run.curves.values()):
                known = [(r["step"], r[name]) for r in rows if name in r]
                if known:
                    ax.plot(*zip(*known, strict=True), color=colour, marker=".", alpha=0.8,
                            label=name if fold == 0 else None)  # fmt: skip
        ax.grid(alpha=0.3)
        ax.legend(frameon=False, fontsize=8)

    return draw


def _cost(runs: Sequence[RunResult]) -> str:
    names = list(runs[0].cost)
    head = ["run", *(f"{name} ({runs[0].cost[name][1]})" for name in names), "processor"]
    body = [
        [run.name, *(three_digits(run.cost[name][0]) for name in names),
         f"{run.environment.get('processor', '')}, commit {run.environment.get('commit')}"]
        for run in runs
    ]  # fmt: skip
    return quiet("Times are of the machine that each ran on, and of what else it did.") + table(
        head, body
    )


def _pictures(run: RunResult) -> str:
    rows = [
        [
            bare_name(p.score.name),
            p.score.organ,
            *(three_digits(p.score.metrics[m]) for m in METRICS),
        ]
        for p in run.pictures
    ]
    inner = table(["picture", "organ", *map(plain_name, METRICS)], rows)
    return f"<details><summary>{text(run.name)}: {len(rows)} images</summary>{inner}</details>"


def _recipe(run: RunResult) -> str:
    asked = dump_recipe(run.recipe.model_copy(update={"data": run.recipe.data.model_copy(
        update={"root": "."})}))  # fmt: skip
    return f"<details><summary>{text(run.name)}</summary><pre>{text(asked)}</pre></details>"


def _interval(m: dict[str, float]) -> str:
    return "–" if math.isnan(m["mean"]) else f"{m['mean']:.3f} ({m['low']:.3f} to {m['high']:.3f})"

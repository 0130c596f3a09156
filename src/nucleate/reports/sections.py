"""The sections of the page about images: what was found, missed and counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nucleate.datasets.splits import bare_name
from nucleate.evaluation.metrics.nucleus_errors import MEANING
from nucleate.geometry.draw import OUTCOME_RGB
from nucleate.pages import figure, heading, plots, quiet, table, text
from nucleate.reports.figures import (
    agreement,
    all_scores,
    calibration_figure,
    counting_figures,
    score_bins,
)
from nucleate.reports.run_results import ImageResult, RunResult
from nucleate.reports.tables import (
    OUTCOMES,
    Table,
    classes_table,
    errors_table,
    organs_table,
    pixels_table,
)

_SHOWN = 3  # best and worst images


def shown(found: Table, words: str | None = None) -> str:
    """Return a table of the report with its title; nothing where it has no row.

    Args:
        found: the table.
        words: what stands above it instead of the title.
    """
    if not found.body:
        return ""
    return quiet(found.title if words is None else words) + table(found.head, found.body)


def calibration_error(scores: Any, hits: Any, bins: int = 10) -> float:  # noqa: ANN401
    """Return the expected calibration error: the mean gap between score and share of matches.

    Args:
        scores: float (n,), 0 to 1.
        hits: bool (n,).
        bins: equal intervals of the score.

    References:
        Guo et al. 2017, arXiv:1706.04599 (section 2).

    Example:
        >>> import numpy as np
        >>> calibration_error(np.array([0.9, 0.9]), np.array([True, False]))
        0.4
    """
    if not len(scores):
        return math.nan
    rows = score_bins(scores, hits, bins)
    return round(sum(n * abs(score - share) for score, share, n in rows) / len(scores), 12)


def errors_section(runs: Sequence[RunResult]) -> str:
    """Return what was missed, split, merged and made up, per run."""
    key = "".join(
        f'<span class="key" style="background: rgb{OUTCOME_RGB[name]}"></span>{name}: '
        f"{MEANING[name]}"
        for name in OUTCOMES
    )
    said = quiet(
        "Below, of each image the window where truth and prediction differ most. True nuclei in "
        "the colour of their outcome in the whole image; thin grey: predictions."
    )
    return shown(errors_table(runs)) + f'<p class="quiet">{key}</p>' + said


def examples_section(run: RunResult) -> str:
    """Return the best and worst images: the window where truth and prediction differ most."""
    known = [p for p in run.images if not math.isnan(p.score.metrics["aji"])]
    ranked = sorted(known, key=lambda p: p.score.metrics["aji"])
    worst, best = ranked[:_SHOWN], ranked[_SHOWN:][-_SHOWN:][::-1]
    parts = []
    for title, chosen in (("worst", worst), ("best", best)):
        if chosen:
            tags = "".join(_example(p) for p in chosen)
            parts.append(f"<h3>{text(run.name)}: {title} by AJI</h3>")
            parts.append(f'<div class="sheet large">{tags}</div>')
    return "".join(parts)


def _example(p: ImageResult) -> str:
    m, c = p.score.metrics, p.score.counts
    errors = ", ".join(f"{int(c[name])} {name}" for name in OUTCOMES[1:] if c[name])
    caption = (
        f"{text(bare_name(p.score.name))}<br>"
        f"AJI {m['aji']:.3f}, PQ {m['pq']:.3f}, Dice {m['dice']:.3f}; "
        f"{int(c['nuclei_true'])} true, {int(c['nuclei_pred'])} predicted<br>{errors}"
    )
    return figure(p.overlay, f"{bare_name(p.score.name)} with true and predicted outlines", caption)


def counting_section(run: RunResult) -> str:
    """Return predicted against true numbers, and the plot of Bland and Altman."""
    bias, low, high = agreement(run)
    means = run.report.means()
    said = quiet(
        f"{run.name}: counting error {means['count_error']['mean']:.1%} of the true nuclei (mean "
        f"over images); counted as 4-connected pieces, as Histology-NucleiSeg counts, "
        f"{means['component_count_error']['mean']:.1%}. Bias {bias:+.1f} nuclei per "
        f"image, 95 % limits of agreement {low:+.1f} to {high:+.1f}."
    )
    return said + plots([each.tag() for each in counting_figures(run)])


def pixels_section(runs: Sequence[RunResult]) -> str:
    """Return the confusion of pixels as shares of all pixels, as Histology-NucleiSeg shows it."""
    return shown(pixels_table(runs))


def calibration_section(runs: Sequence[RunResult]) -> str:
    """Return how often nuclei of a score match, against the score."""
    errors = "; ".join(
        f"{run.name}: expected calibration error {calibration_error(*all_scores(run)):.3f}"
        for run in runs
    )
    said = quiet(
        "The score of a nucleus is the mean foreground probability on it. On the line, it is the "
        f"chance that the nucleus matches a true one. {errors}."
    )
    return said + plots([calibration_figure(runs).tag()])


def organs_section(run: RunResult) -> str:
    """Return the scores per organ."""
    return f"<h3>{text(run.name)}</h3>" + shown(organs_table(run))


def classes_section(run: RunResult) -> str:
    """Return the scores per class of nuclei; empty without classes."""
    found = classes_table(run)
    return heading(f"By class: {run.name}") + shown(found) if found.body else ""

"""The sections of the page about images: what was found, missed and counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np

from nucleate.datasets.splits import bare_name
from nucleate.evaluation.metrics.nucleus_errors import TRUTH_FATES
from nucleate.geometry.draw import OUTCOME_RGB
from nucleate.pages import SERIES, figure, heading, plot, plots, quiet, table, text
from nucleate.reports.run_results import PictureResult, RunResult

_SHOWN = 3  # best and worst images
MAIN_METRICS = ("aji", "pq", "dq", "sq", "dice", "iou", "f1_detection", "count_error")
_FATES = (*TRUTH_FATES, "spurious")
_MEANING = {
    "matched": "found",
    "merged": "drawn together with a neighbour",
    "split": "cut into pieces",
    "inaccurate": "found, but the outline is too far off",
    "missed": "not found",
    "spurious": "predicted where there is none",
}


def calibration_error(scores: Any, hits: Any, bins: int = 10) -> float:  # noqa: ANN401
    """Return the expected calibration error: the mean gap between score and share of matches.

    Args:
        scores: float (n,), 0 to 1.
        hits: bool (n,).
        bins: equal intervals of the score.

    References:
        Guo et al. 2017, arXiv:1706.04599 (section 2).

    Example:
        >>> calibration_error(np.array([0.9, 0.9]), np.array([True, False]))
        0.4
    """
    if not len(scores):
        return math.nan
    rows = _bins(scores, hits, bins)
    return round(sum(n * abs(score - share) for score, share, n in rows) / len(scores), 12)


def _bins(scores: Any, hits: Any, bins: int) -> list[tuple[float, float, int]]:  # noqa: ANN401
    """Return of every bin that is not empty the mean score, the share of hits, the number."""
    index = np.minimum((np.asarray(scores, np.float64) * bins).astype(int), bins - 1)
    return [
        (float(np.mean(scores[index == i], dtype=np.float64)), float(hits[index == i].mean()),
         int((index == i).sum()))
        for i in range(bins) if (index == i).any()
    ]  # fmt: skip


def fates_section(run: RunResult) -> dict[str, int]:
    """Return how many true nuclei had which outcome."""
    counts = [p.score.counts for p in run.pictures]
    return {fate: int(sum(c[fate] for c in counts)) for fate in _FATES}


def errors_section(runs: Sequence[RunResult]) -> str:
    """Return what was missed, split, merged and made up, per run."""
    body = []
    for run in runs:
        found = fates_section(run)
        true = max(1, sum(found[f] for f in TRUTH_FATES))
        body.append([run.name, true, *(f"{n} ({n / true:.1%})" for n in found.values())])
    key = "".join(
        f'<span class="key" style="background: rgb{OUTCOME_RGB[fate]}"></span>{fate}: '
        f"{_MEANING[fate]}"
        for fate in _FATES
    )
    said = quiet(
        "Below, of each image the window where truth and prediction differ most. True nuclei in "
        "the colour of their outcome in the whole image; thin grey: predictions."
    )
    return table(["run", "true nuclei", *_FATES], body) + f'<p class="quiet">{key}</p>' + said


def examples_section(run: RunResult) -> str:
    """Return the best and worst images: the window where truth and prediction differ most."""
    known = [p for p in run.pictures if not math.isnan(p.score.metrics["aji"])]
    ranked = sorted(known, key=lambda p: p.score.metrics["aji"])
    worst, best = ranked[:_SHOWN], ranked[_SHOWN:][-_SHOWN:][::-1]
    parts = []
    for title, chosen in (("worst", worst), ("best", best)):
        if chosen:
            tags = "".join(_example(p) for p in chosen)
            parts.append(f"<h3>{text(run.name)}: {title} by AJI</h3>")
            parts.append(f'<div class="sheet large">{tags}</div>')
    return "".join(parts)


def _example(p: PictureResult) -> str:
    m, c = p.score.metrics, p.score.counts
    errors = ", ".join(f"{int(c[f])} {f}" for f in _FATES[1:] if c[f])
    caption = (
        f"{text(bare_name(p.score.name))}<br>"
        f"AJI {m['aji']:.3f}, PQ {m['pq']:.3f}, Dice {m['dice']:.3f}; "
        f"{int(c['nuclei_true'])} true, {int(c['nuclei_pred'])} predicted<br>{errors}"
    )
    return figure(p.overlay, f"{bare_name(p.score.name)} with true and predicted outlines", caption)


def counting_section(run: RunResult) -> str:
    """Return predicted against true numbers, and the plot of Bland and Altman."""
    true = np.array([p.score.counts["nuclei_true"] for p in run.pictures])
    pred = np.array([p.score.counts["nuclei_pred"] for p in run.pictures])
    apart = pred - true
    spread = float(apart.std(ddof=1)) if len(apart) > 1 else 0.0
    low, high = apart.mean() - 1.96 * spread, apart.mean() + 1.96 * spread

    def scatter(ax: Any) -> None:  # noqa: ANN401
        top = max(true.max(initial=1), pred.max(initial=1)) * 1.05
        ax.plot([0, top], [0, top], color="#888", lw=1)
        ax.plot(true, pred, "o", color=SERIES[0], alpha=0.8)

    def bland_altman(ax: Any) -> None:  # noqa: ANN401
        ax.axhline(0, color="#888", lw=1)
        ax.axhline(apart.mean(), color=SERIES[1])
        for limit in (low, high):
            ax.axhline(limit, color=SERIES[1], ls="--", lw=1)
        ax.plot((true + pred) / 2, apart, "o", color=SERIES[0], alpha=0.8)

    means = run.report.means()
    said = quiet(
        f"{run.name}: counting error {means['count_error']['mean']:.1%} of the true nuclei (mean "
        f"over images); counted as 4-connected pieces, as Histology-NucleiSeg counts, "
        f"{means['component_count_error']['mean']:.1%}. Bias {apart.mean():+.1f} nuclei per "
        f"image, 95 % limits of agreement {low:+.1f} to {high:+.1f}."
    )
    return said + plots(
        [
            plot(f"{run.name}: numbers", "true nuclei", "predicted", scatter),
            plot("Bland-Altman", "mean of both", "predicted - true", bland_altman),
        ]
    )


def pixels_section(runs: Sequence[RunResult]) -> str:
    """Return the confusion of pixels as shares of all pixels, as Histology-NucleiSeg shows it."""
    body = []
    for run in runs:
        counts = [p.score.counts for p in run.pictures]
        sums = {k: sum(c[f"pixel_{k}"] for c in counts) for k in ("tp", "fn", "fp", "tn")}
        pooled = run.report.pooled()
        shares = [f"{n / max(1, sum(sums.values())):.3f}" for n in sums.values()]
        scores = [f"{pooled[m]:.3f}" for m in ("precision", "recall", "dice")]
        body.append([run.name, *shares, *scores])
    head = ["run", "true positive", "false negative", "false positive", "true negative",
            "precision", "recall", "F1"]  # fmt: skip
    return quiet("Shares of the pixels of all images together.") + table(head, body)


def all_scores(run: RunResult) -> tuple[Any, Any]:
    """Return the scores of all predicted nuclei, and whether each matches a true one."""
    scores = [p.scores for p in run.pictures]
    hits = [p.hits for p in run.pictures]
    return np.concatenate(scores or [np.zeros(0, np.float32)]), np.concatenate(
        hits or [np.zeros(0, bool)]
    )


def calibration_section(runs: Sequence[RunResult]) -> str:
    """Return how often nuclei of a score match, against the score."""

    def draw(ax: Any) -> None:  # noqa: ANN401
        ax.plot([0, 1], [0, 1], color="#888", lw=1)
        for colour, run in zip(cycle(SERIES), runs, strict=False):
            rows = _bins(*all_scores(run), 10)
            if rows:
                ax.plot([r[0] for r in rows], [r[1] for r in rows], "o-", color=colour,
                        label=run.name)  # fmt: skip
        ax.legend(frameon=False, fontsize=8)

    errors = "; ".join(
        f"{run.name}: expected calibration error {calibration_error(*all_scores(run)):.3f}"
        for run in runs
    )
    said = quiet(
        "The score of a nucleus is the mean foreground probability on it. On the line, it is the "
        f"chance that the nucleus matches a true one. {errors}."
    )
    return said + plots([plot("Calibration", "score", "share that matches", draw)])


def organs_section(run: RunResult) -> str:
    """Return the scores per organ."""
    rows = [
        [organ, int(m["pictures"]), *(three_digits(m[k]) for k in MAIN_METRICS)]
        for organ, m in run.report.per_organ().items()
    ]
    return f"<h3>{text(run.name)}</h3>" + table(
        ["organ", "pictures", *map(plain_name, MAIN_METRICS)], rows
    )


def classes_section(run: RunResult) -> str:
    """Return the scores per class of nuclei; empty without classes."""
    from nucleate.evaluation.metrics.classes import per_class

    found = per_class([p.score.counts for p in run.pictures])
    if not found:
        return ""
    rows = [
        [name, int(m["nuclei"]), three_digits(m["pq"]), three_digits(m["pq_pooled"]),
         three_digits(m["f1_detection"])]
        for name, m in found.items()
    ]  # fmt: skip
    head = ["class", "nuclei", "PQ, mean over images", "PQ, pooled", "detection F1"]
    return heading(f"By class: {run.name}") + table(head, rows)


def three_digits(value: float) -> str:
    """Return a number as a table shows it."""
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}"


def plain_name(metric: str) -> str:
    """Return a metric's name as people write it."""
    known = {"aji": "AJI", "aji_plus": "AJI+", "pq": "PQ", "dq": "DQ", "sq": "SQ", "iou": "IoU",
             "dice": "Dice", "f1_detection": "detection F1", "hd95_px": "HD95, px"}  # fmt: skip
    return known.get(metric, metric.replace("_", " "))

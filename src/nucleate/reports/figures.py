"""The figures of a report: for its page, and as SVG and PDF for a paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from nucleate.files import atomic
from nucleate.pages import SERIES, Plot
from nucleate.reports.run_results import RunResult
from nucleate.reports.tables import file_name

_PANELS = (  # name of a file, title, column of metrics.csv -> words of the legend
    ("loss", "Loss", {"loss": "training", "val_loss": "validation"}),
    ("pixel-accuracy", "Pixel accuracy",
     {"train_accuracy": "training", "val_accuracy": "validation"}),
    ("pixel-dice", "Dice of pixels", {"train_dice": "training", "val_dice": "validation"}),
    ("pixel-iou", "IoU of pixels", {"train_iou": "training", "val_iou": "validation"}),
    ("nuclei", "Nuclei of the validation images", {"val_aji": "AJI", "val_pq": "PQ"}),
)  # fmt: skip


def write_figures(figures: Mapping[str, Plot], folder: Path) -> None:
    """Write every figure as SVG and as PDF, whose text stays text.

    Args:
        figures: name of the files, without an ending -> plot.
        folder: where they go.

    Raises:
        OutputError: a file cannot be written.
    """
    for name, plot in figures.items():
        for form, content in zip(("svg", "pdf"), plot.render("svg", "pdf"), strict=True):
            with atomic(folder / f"{name}.{form}") as part:
                part.write_bytes(content)


def curve_figures(run: RunResult) -> dict[str, Plot]:
    """Return loss, pixel scores and nucleus scores of a training over its steps."""
    return {
        f"curves-{file_name(run)}-{name}": Plot(title, "step", "", _lines(run, words))
        for name, title, words in _PANELS
        if any(column in row for rows in run.curves.values() for row in rows for column in words)
    }


def _lines(run: RunResult, words: dict[str, str]) -> Callable[[Any], None]:
    def draw(ax: Any) -> None:  # noqa: ANN401
        for colour, (column, meaning) in zip(SERIES, words.items(), strict=False):
            for fold, rows in enumerate(run.curves.values()):
                known = [(r["step"], r[column]) for r in rows if column in r]
                if known:
                    ax.plot(*zip(*known, strict=True), color=colour, marker=".", alpha=0.8,
                            label=meaning if fold == 0 else None)  # fmt: skip
        ax.grid(alpha=0.3)
        ax.legend(frameon=False, fontsize=8)

    return draw


def agreement(run: RunResult) -> tuple[float, float, float]:
    """Return the bias of the counts and the 95 % limits of agreement, in nuclei per image."""
    apart = np.subtract(*_counts(run)[::-1])
    spread = float(apart.std(ddof=1)) if len(apart) > 1 else 0.0
    bias = float(apart.mean())
    return bias, bias - 1.96 * spread, bias + 1.96 * spread


def counting_figures(run: RunResult) -> dict[str, Plot]:
    """Return predicted against true numbers, and the plot of Bland and Altman."""
    true, pred = _counts(run)
    bias, *limits = agreement(run)

    def scatter(ax: Any) -> None:  # noqa: ANN401
        top = max(true.max(initial=1), pred.max(initial=1)) * 1.05
        ax.plot([0, top], [0, top], color="#888", lw=1)
        ax.plot(true, pred, "o", color=SERIES[0], alpha=0.8)

    def bland_altman(ax: Any) -> None:  # noqa: ANN401
        ax.axhline(0, color="#888", lw=1)
        ax.axhline(bias, color=SERIES[1])
        for limit in limits:
            ax.axhline(limit, color=SERIES[1], ls="--", lw=1)
        ax.plot((true + pred) / 2, pred - true, "o", color=SERIES[0], alpha=0.8)

    return {
        f"counts-{file_name(run)}": Plot(
            f"{run.name}: nuclei per image", "true", "predicted", scatter
        ),
        f"bland-altman-{file_name(run)}": Plot(
            f"{run.name}: Bland-Altman plot of the counts",
            "mean of true and predicted", "predicted - true", bland_altman,
        ),
    }  # fmt: skip


def _counts(run: RunResult) -> tuple[Any, Any]:
    """Return the numbers of true and of predicted nuclei per image."""
    counts = [p.score.counts for p in run.images]
    return (
        np.array([c["nuclei_true"] for c in counts]),
        np.array([c["nuclei_pred"] for c in counts]),
    )


def calibration_figure(runs: Sequence[RunResult]) -> Plot:
    """Return how often nuclei of a score match, against the score."""

    def draw(ax: Any) -> None:  # noqa: ANN401
        ax.plot([0, 1], [0, 1], color="#888", lw=1)
        for colour, run in zip(cycle(SERIES), runs, strict=False):
            rows = score_bins(*all_scores(run), 10)
            if rows:
                ax.plot([r[0] for r in rows], [r[1] for r in rows], "o-", color=colour,
                        label=run.name)  # fmt: skip
        ax.legend(frameon=False, fontsize=8)

    return Plot("Calibration", "score", "share that matches", draw)


def all_scores(run: RunResult) -> tuple[Any, Any]:
    """Return the scores of all predicted nuclei, and whether each matches a true one."""
    scores = [p.scores for p in run.images]
    hits = [p.hits for p in run.images]
    return np.concatenate(scores or [np.zeros(0, np.float32)]), np.concatenate(
        hits or [np.zeros(0, bool)]
    )


def score_bins(scores: Any, hits: Any, bins: int) -> list[tuple[float, float, int]]:  # noqa: ANN401
    """Return of every bin that is not empty the mean score, the share of hits, the number."""
    index = np.minimum((np.asarray(scores, np.float64) * bins).astype(int), bins - 1)
    return [
        (float(np.mean(scores[index == i], dtype=np.float64)), float(hits[index == i].mean()),
         int((index == i).sum()))
        for i in range(bins) if (index == i).any()
    ]  # fmt: skip


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


def report_figures(runs: Sequence[RunResult]) -> dict[str, Plot]:
    """Return all figures of a report: name of its files, without an ending -> plot."""
    figures = {"calibration": calibration_figure(runs)}
    for run in runs:
        figures |= curve_figures(run) | counting_figures(run)
    return figures

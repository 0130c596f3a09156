"""Gathered runs → sections of HTML, and the same figures as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from nucleate.config import dump_recipe
from nucleate.datasets.splits import bare_name
from nucleate.errors import InputError
from nucleate.io.files import write_text
from nucleate.io.html import SERIES, figure, heading, page, plot, plots, quiet, table, text
from nucleate.metrics.errors import TRUTH_FATES
from nucleate.metrics.paired import paired
from nucleate.metrics.report import METRICS, no_nan, seen_note
from nucleate.overlays import COLOURS
from nucleate.report.gather import PictureResult, RunResult

_SHOWN = 3  # best and worst pictures
_MAIN = ("aji", "pq", "dq", "sq", "dice", "iou", "f1_detection", "count_error")
_FATES = (*TRUTH_FATES, "spurious")
_MEANING = {
    "matched": "found",
    "merged": "drawn together with a neighbour",
    "split": "cut into pieces",
    "inaccurate": "found, but the outline is too far off",
    "missed": "not found",
    "spurious": "predicted where there is none",
}


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
    blocks += [heading("What goes wrong"), _errors(runs)]
    blocks += [_examples(run) for run in runs]
    blocks += [heading("Counting"), *(_counting(run) for run in runs)]
    blocks += [heading("Pixels"), _pixels(runs)]
    blocks += [heading("Scores of the nuclei"), _calibration(runs)]
    blocks += [heading("By organ"), *(_organs(run) for run in runs)]
    blocks += [_classes(run) for run in runs]
    blocks += [heading("Cost"), _cost(runs)]
    blocks += [heading("Every picture"), *(_pictures(run) for run in runs)]
    blocks += [heading("Recipes"), *(_recipe(run) for run in runs)]
    return page("Report: " + ", ".join(run.name for run in runs), blocks)


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


def _facts(run: RunResult) -> dict[str, Any]:
    """Return the figures of one run as plain values."""
    report = run.report
    scores, hits = _all_scores(run)
    return {
        "recipe": run.recipe.name,
        "pictures_are": run.part,
        "seen_in_training": report.seen,
        "mean": report.means(),
        "pooled": report.pooled(),
        "per_organ": report.per_organ(),
        "fates": _fates(run),
        "calibration_error": calibration_error(scores, hits),
        "cost": {name: {"value": value, "unit": unit} for name, (value, unit) in run.cost.items()},
        "per_picture": [{"name": p.name, **p.metrics, "counts": p.counts} for p in report.pictures],
    }


def _about(run: RunResult) -> str:
    chosen = "" if run.part == "tested on" else (
        " <span class='note'>Checkpoint or thresholds were chosen on the same pictures: these "
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
        f"{len(run.pictures)} pictures that it was {text(run.part)}{never}.{chosen}</p>"
    )


def _results(runs: Sequence[RunResult]) -> str:
    body = []
    for run in runs:
        means = run.report.means()
        body.append([run.name, len(run.pictures), *(_interval(means[m]) for m in _MAIN)])
    return quiet(
        "Mean over pictures, and its 95 % bootstrap interval over patients or slides."
    ) + table(["run", "pictures", *map(_plain, _MAIN)], body)


def _compared(runs: Sequence[RunResult]) -> str:
    """Return the paired comparison of all runs with the first, where the pictures are the same."""
    body = []
    for other in runs[1:]:
        for metric in ("aji", "pq", "dice"):
            try:
                p = paired(_by_name(runs[0], metric), _by_name(other, metric), _groups(runs[0]))
            except InputError:
                break
            body.append(
                [f"{other.name} - {runs[0].name}", _plain(metric), f"{p.difference:+.3f}",
                 f"{p.low:+.3f} to {p.high:+.3f}", f"{p.p:.4f}", p.n]
            )  # fmt: skip
    if not body:
        return ""
    mixed = len({run.part for run in runs}) > 1
    said = quiet(
        "Picture by picture; the interval is a bootstrap over patients or slides, p of a "
        "permutation test over the same."
        + (" Some runs were chosen on these pictures, others tested on them." if mixed else "")
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


def _fates(run: RunResult) -> dict[str, int]:
    counts = [p.score.counts for p in run.pictures]
    return {fate: int(sum(c[fate] for c in counts)) for fate in _FATES}


def _errors(runs: Sequence[RunResult]) -> str:
    body = []
    for run in runs:
        found = _fates(run)
        true = max(1, sum(found[f] for f in TRUTH_FATES))
        body.append([run.name, true, *(f"{n} ({n / true:.1%})" for n in found.values())])
    key = "".join(
        f'<span class="key" style="background: rgb{COLOURS[fate]}"></span>{fate}: {_MEANING[fate]}'
        for fate in _FATES
    )
    said = quiet(
        "Below, of each picture the window where truth and prediction differ most. True nuclei in "
        "the colour of their fate in the whole picture; thin grey: predictions."
    )
    return table(["run", "true nuclei", *_FATES], body) + f'<p class="quiet">{key}</p>' + said


def _examples(run: RunResult) -> str:
    """Return the best and worst pictures: the window where truth and prediction differ most."""
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


def _counting(run: RunResult) -> str:
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
        f"over pictures); counted as 4-connected pieces, as S2 counts, "
        f"{means['component_count_error']['mean']:.1%}. Bias {apart.mean():+.1f} nuclei per "
        f"picture, 95 % limits of agreement {low:+.1f} to {high:+.1f}."
    )
    return said + plots(
        [
            plot(f"{run.name}: numbers", "true nuclei", "predicted", scatter),
            plot("Bland-Altman", "mean of both", "predicted - true", bland_altman),
        ]
    )


def _pixels(runs: Sequence[RunResult]) -> str:
    """Return the confusion of pixels as shares of all pixels, as S2 shows it."""
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
    return quiet("Shares of the pixels of all pictures together.") + table(head, body)


def _all_scores(run: RunResult) -> tuple[Any, Any]:
    scores = [p.scores for p in run.pictures]
    hits = [p.hits for p in run.pictures]
    return np.concatenate(scores or [np.zeros(0, np.float32)]), np.concatenate(
        hits or [np.zeros(0, bool)]
    )


def _calibration(runs: Sequence[RunResult]) -> str:
    """Return how often nuclei of a score match, against the score."""

    def draw(ax: Any) -> None:  # noqa: ANN401
        ax.plot([0, 1], [0, 1], color="#888", lw=1)
        for colour, run in zip(cycle(SERIES), runs, strict=False):
            rows = _bins(*_all_scores(run), 10)
            if rows:
                ax.plot([r[0] for r in rows], [r[1] for r in rows], "o-", color=colour,
                        label=run.name)  # fmt: skip
        ax.legend(frameon=False, fontsize=8)

    errors = "; ".join(
        f"{run.name}: expected calibration error {calibration_error(*_all_scores(run)):.3f}"
        for run in runs
    )
    said = quiet(
        "The score of a nucleus is the mean foreground probability on it. On the line, it is the "
        f"chance that the nucleus matches a true one. {errors}."
    )
    return said + plots([plot("Calibration", "score", "share that matches", draw)])


def _organs(run: RunResult) -> str:
    rows = [
        [organ, int(m["pictures"]), *(_number(m[k]) for k in _MAIN)]
        for organ, m in run.report.per_organ().items()
    ]
    return f"<h3>{text(run.name)}</h3>" + table(["organ", "pictures", *map(_plain, _MAIN)], rows)


def _classes(run: RunResult) -> str:
    from nucleate.metrics.classes import per_class

    found = per_class([p.score.counts for p in run.pictures])
    if not found:
        return ""
    rows = [
        [name, int(m["nuclei"]), _number(m["pq"]), _number(m["pq_pooled"]),
         _number(m["f1_detection"])]
        for name, m in found.items()
    ]  # fmt: skip
    head = ["class", "nuclei", "PQ, mean over pictures", "PQ, pooled", "detection F1"]
    return heading(f"By class: {run.name}") + table(head, rows)


def _cost(runs: Sequence[RunResult]) -> str:
    names = list(runs[0].cost)
    head = ["run", *(f"{name} ({runs[0].cost[name][1]})" for name in names), "processor"]
    body = [
        [run.name, *(_number(run.cost[name][0]) for name in names),
         f"{run.environment.get('processor', '')}, commit {run.environment.get('commit')}"]
        for run in runs
    ]  # fmt: skip
    return quiet("Times are of the machine that each ran on, and of what else it did.") + table(
        head, body
    )


def _pictures(run: RunResult) -> str:
    rows = [
        [bare_name(p.score.name), p.score.organ, *(_number(p.score.metrics[m]) for m in METRICS)]
        for p in run.pictures
    ]
    inner = table(["picture", "organ", *map(_plain, METRICS)], rows)
    return f"<details><summary>{text(run.name)}: {len(rows)} pictures</summary>{inner}</details>"


def _recipe(run: RunResult) -> str:
    asked = dump_recipe(run.recipe.model_copy(update={"data": run.recipe.data.model_copy(
        update={"root": "."})}))  # fmt: skip
    return f"<details><summary>{text(run.name)}</summary><pre>{text(asked)}</pre></details>"


def _interval(m: dict[str, float]) -> str:
    return "–" if math.isnan(m["mean"]) else f"{m['mean']:.3f} ({m['low']:.3f} to {m['high']:.3f})"


def _number(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}"


def _plain(metric: str) -> str:
    """Return a metric's name as people write it."""
    known = {"aji": "AJI", "aji_plus": "AJI+", "pq": "PQ", "dq": "DQ", "sq": "SQ", "iou": "IoU",
             "dice": "Dice", "f1_detection": "detection F1", "hd95_px": "HD95, px"}  # fmt: skip
    return known.get(metric, metric.replace("_", " "))

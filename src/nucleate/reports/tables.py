"""The tables of a report: for its page, and as CSV and LaTeX for a paper."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nucleate.datasets.splits import bare_name
from nucleate.errors import InputError
from nucleate.evaluation.compare import paired
from nucleate.evaluation.metrics.classes import per_class
from nucleate.evaluation.metrics.nucleus_errors import TRUTH_OUTCOMES
from nucleate.evaluation.score import METRICS
from nucleate.files import write_text
from nucleate.reports.run_results import RunResult

MAIN_METRICS = ("aji", "pq", "dq", "sq", "dice", "iou", "f1_detection", "count_error")
OUTCOMES = (*TRUTH_OUTCOMES, "spurious")
_WORDS = {
    "aji": "AJI", "aji_plus": "AJI+", "pq": "PQ", "dq": "DQ", "sq": "SQ", "iou": "IoU",
    "dice": "Dice", "accuracy": "pixel accuracy", "f1_50": "F1 at IoU 0.5",
    "f1_70": "F1 at IoU 0.7", "f1_detection": "detection F1", "boundary_f": "boundary F1",
    "hd95_px": "HD95, px", "count_error": "counting error",
    "component_count_error": "counting error of connected pieces",
}  # fmt: skip
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "–": "--", "µ": r"\textmu{}",
    "×": r"$\times$", "±": r"$\pm$", "²": r"\textsuperscript{2}",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Table:
    """A table that a page, a spreadsheet and a paper show alike.

    Attributes:
        name: of its files, without an ending.
        title: what it shows, a sentence.
        head: titles of the columns.
        body: cells; None is empty.
    """

    name: str
    title: str
    head: tuple[str, ...]
    body: list[list[Any]]


def metric_name(metric: str) -> str:
    """Return the name of a metric in words.

    Example:
        >>> metric_name("aji_plus"), metric_name("precision")
        ('AJI+', 'precision')
    """
    return _WORDS.get(metric, metric.replace("_", " "))


def file_name(run: RunResult) -> str:
    """Return the name of a run as a part of file names and LaTeX labels."""
    return "".join(letter if letter.isalnum() else "-" for letter in run.name)


def three_digits(value: float) -> str:
    """Return a number as a table shows it."""
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}"


def escape(value: object) -> str:
    r"""Return a cell as LaTeX text.

    Example:
        >>> print(escape("50 % of a_b"), escape("-0.012"))
        50 \% of a\_b $-$0.012
    """
    words = "" if value is None else str(value)
    minus = "$-$" if words.startswith("-") and words[1:2].isdigit() else ""
    return minus + "".join(_LATEX.get(letter, letter) for letter in words[bool(minus) :])


def to_latex(table: Table) -> str:
    """Return a table as LaTeX with the rules of booktabs."""
    rows = [" & ".join(map(escape, row)) + r" \\" for row in (table.head, *table.body)]
    columns = zip(*table.body, strict=True) if table.body else [()] * len(table.head)
    sides = ("r" if all(map(_is_figure, column)) else "l" for column in columns)
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape(table.title)}}}",
            rf"\label{{tab:{table.name}}}",
            rf"\begin{{tabular}}{{{''.join(sides)}}}",
            r"\toprule",
            rows[0],
            r"\midrule",
            *rows[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _is_figure(cell: object) -> bool:
    """Return whether a cell has nothing but figures: such columns are aligned to the right."""
    return cell is None or re.fullmatch(r"[-+\d.,%()– to±]*", str(cell)) is not None


def to_csv(table: Table) -> str:
    """Return a table as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.head)
    writer.writerows(["" if cell is None else cell for cell in row] for row in table.body)
    return text.getvalue()


def write_tables(tables: Sequence[Table], folder: Path) -> None:
    """Write every table as CSV and as LaTeX.

    Raises:
        OutputError: a file cannot be written.
    """
    for table in tables:
        write_text(folder / f"{table.name}.csv", to_csv(table))
        write_text(folder / f"{table.name}.tex", to_latex(table))


def results_table(runs: Sequence[RunResult]) -> Table:
    """Return the main metrics of every run, with intervals."""
    body = []
    for run in runs:
        means = run.report.means()
        body.append([run.name, len(run.images), *(_interval(means[m]) for m in MAIN_METRICS)])
    return Table(
        "results",
        "Mean over images, with its 95 % bootstrap interval over patients or slides.",
        ("run", "images", *map(metric_name, MAIN_METRICS)),
        body,
    )


def comparison_table(runs: Sequence[RunResult]) -> Table:
    """Return the paired comparison of all runs with the first, where the images are the same."""
    body: list[list[Any]] = []
    for other in runs[1:]:
        for metric in ("aji", "pq", "dice"):
            try:
                p = paired(_by_name(runs[0], metric), _by_name(other, metric), _groups(runs[0]))
            except InputError:
                break
            body.append(
                [f"{other.name} - {runs[0].name}", metric_name(metric), f"{p.difference:+.3f}",
                 f"{p.low:+.3f} to {p.high:+.3f}", f"{p.p:.4f}", p.n]
            )  # fmt: skip
    mixed = len({run.part for run in runs}) > 1
    return Table(
        "differences",
        "Paired differences over images, with 95 % bootstrap intervals over patients or slides and "
        "the p value of a permutation test."
        + (" Some runs were chosen on these images, others tested on them." if mixed else ""),
        ("difference", "metric", "mean", "95 % interval", "p", "images"),
        body,
    )


def published_table(runs: Sequence[RunResult]) -> Table:
    """Return the runs beside what others published on the same data sets; empty without such."""
    names = {entry.name for run in runs for entry in run.recipe.data.sets}
    others = [facts for facts in published_figures().values() if facts["data"] in names]
    body: list[list[Any]] = []
    for run in runs if others else ():
        means, pooled = run.report.means(), run.report.pooled()
        body.append(
            [f"{run.name} (this report)", f"{len(run.images)} images it was {run.part}",
             *(three_digits(v) for v in (means["dice"]["mean"], pooled["dice"],
               means["iou"]["mean"], means["component_count_error"]["mean"])), "this report"]
        )  # fmt: skip
    for facts in others:
        keys = ("dice", "pixel_f1", "iou", "component_count_error")
        figures = (three_digits(facts.get(key, math.nan)) for key in keys)
        body.append([facts["system"], facts["images"], *figures, facts["source"]])
    return Table(
        "published",
        "Results beside published ones. The images and the protocols differ as stated.",
        ("system", "images", "Dice, mean", "Dice, pooled", "IoU, mean",
         metric_name("component_count_error"), "source"),
        body,
    )  # fmt: skip


def published_figures() -> dict[str, dict[str, Any]]:
    """Return what others published: name of a recipe without its last word -> figures, source."""
    found: dict[str, dict[str, Any]] = json.loads(
        Path(__file__).with_name("published.json").read_text(encoding="utf-8")
    )
    return found


def errors_table(runs: Sequence[RunResult]) -> Table:
    """Return the outcomes of the true nuclei, and the spurious predictions."""
    body = []
    for run in runs:
        found = outcomes(run)
        true = max(1, sum(found[name] for name in TRUTH_OUTCOMES))
        body.append([run.name, true, *(f"{n} ({n / true:.1%})" for n in found.values())])
    return Table(
        "errors",
        "Outcomes of the true nuclei, and spurious predictions, in per cent of the true nuclei.",
        ("run", "true nuclei", *OUTCOMES),
        body,
    )


def outcomes(run: RunResult) -> dict[str, int]:
    """Return how many true nuclei had which outcome."""
    counts = [p.score.counts for p in run.images]
    return {name: int(sum(c[name] for c in counts)) for name in OUTCOMES}


def pixels_table(runs: Sequence[RunResult]) -> Table:
    """Return the confusion of pixels as shares of all pixels, as Histology-NucleiSeg shows it."""
    body = []
    for run in runs:
        counts = [p.score.counts for p in run.images]
        sums = {k: sum(c[f"pixel_{k}"] for c in counts) for k in ("tp", "fn", "fp", "tn")}
        pooled = run.report.pooled()
        shares = [f"{n / max(1, sum(sums.values())):.3f}" for n in sums.values()]
        scores = [f"{pooled[m]:.3f}" for m in ("precision", "recall", "dice")]
        body.append([run.name, *shares, *scores])
    return Table(
        "pixels",
        "Shares of the pixels of all images together, and pooled scores.",
        ("run", "true positive", "false negative", "false positive", "true negative",
         "precision", "recall", "F1"),
        body,
    )  # fmt: skip


def organs_table(run: RunResult) -> Table:
    """Return the scores per organ."""
    rows = [
        [organ, int(m["images"]), *(three_digits(m[k]) for k in MAIN_METRICS)]
        for organ, m in run.report.per_organ().items()
    ]
    head = ("organ", "images", *map(metric_name, MAIN_METRICS))
    return Table(f"organs-{file_name(run)}", f"{run.name}: means per organ.", head, rows)


def classes_table(run: RunResult) -> Table:
    """Return the scores per class of nuclei; empty without classes."""
    rows = [
        [name, int(m["nuclei"]), three_digits(m["pq"]), three_digits(m["pq_pooled"]),
         three_digits(m["f1_detection"])]
        for name, m in per_class([p.score.counts for p in run.images]).items()
    ]  # fmt: skip
    head = ("class", "nuclei", "PQ, mean over images", "PQ, pooled", "detection F1")
    title = f"{run.name}: scores per class of nuclei."
    return Table(f"classes-{file_name(run)}", title, head, rows)


def cost_table(runs: Sequence[RunResult]) -> Table:
    """Return size, arithmetic, time and memory of every run."""
    names = list(runs[0].cost)
    head = ("run", *(f"{name} ({runs[0].cost[name][1]})" for name in names), "processor")
    body: list[list[Any]] = [
        [run.name, *(three_digits(run.cost[name][0]) for name in names),
         f"{run.environment.get('processor', '')}, commit {run.environment.get('commit')}"]
        for run in runs
    ]  # fmt: skip
    title = "Cost. Times are of the machine that each ran on, and of what else it did."
    return Table("cost", title, head, body)


def images_table(run: RunResult) -> Table:
    """Return all metrics of every image."""
    rows = [
        [bare_name(p.score.name), p.score.organ,
         *(three_digits(p.score.metrics[m]) for m in METRICS)]
        for p in run.images
    ]  # fmt: skip
    head = ("image", "organ", *map(metric_name, METRICS))
    return Table(f"images-{file_name(run)}", f"{run.name}: every image.", head, rows)


def report_tables(runs: Sequence[RunResult]) -> list[Table]:
    """Return all tables of a report that have a row."""
    tables = [results_table(runs), comparison_table(runs), published_table(runs)]
    tables += [errors_table(runs), pixels_table(runs), cost_table(runs)]
    for run in runs:
        tables += [organs_table(run), classes_table(run), images_table(run)]
    return [table for table in tables if table.body]


def _groups(run: RunResult) -> dict[str, str]:
    return {p.score.name: p.score.group or p.score.name for p in run.images}


def _by_name(run: RunResult, metric: str) -> dict[str, float]:
    return {p.score.name: p.score.metrics[metric] for p in run.images}


def _interval(m: dict[str, float]) -> str:
    return "–" if math.isnan(m["mean"]) else f"{m['mean']:.3f} ({m['low']:.3f} to {m['high']:.3f})"

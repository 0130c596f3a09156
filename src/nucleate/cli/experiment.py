"""Crossval, quantise, compare, report: commands for whole recipes and finished results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nucleate.cli.options import ChangesOption, RecipeArgument
from nucleate.cli.terminal import answer, command_line, say, show, show_table, warn
from nucleate.errors import ConfigError


def crossval(
    recipe: RecipeArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder. Default: runs/NAME-cv.")
    ] = None,
    changes: ChangesOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep finished folds, and continue with the others.")
    ] = False,
    jobs: Annotated[
        int, typer.Option(min=1, help="Folds trained at a time, distributed over the GPUs.")
    ] = 1,
    tta: Annotated[
        bool, typer.Option("--tta", help="Also score the mean over 8 views, reported separately.")
    ] = False,
) -> None:
    """Cross-validate a recipe, fold by fold (extra 'train').

    Trains one model per fold and scores it on the images of that fold.

    The recipe's `crossval` defines the split. `-m FOLDER` then runs the ensemble of all folds, if
    they share a stain normaliser or have none.

    Example:
      nucleate crossval recipes/unet-small-cryonuseg-improved.yaml --set data.root=data
    """
    from nucleate.config import load_recipe
    from nucleate.errors import optional
    from nucleate.training.crossval import CrossvalOptions, cross_validate

    optional("torch", "train")
    optional("lightning", "train")
    wanted = load_recipe(recipe, changes)
    folder = out or Path("runs") / f"{wanted.name}-cv"
    options = CrossvalOptions(resume, jobs, tta, command_line())
    found = cross_validate(wanted, Path(), folder, options, say)
    answer(out=folder, **found)
    for key in ("out_of_fold", "out_of_fold_tta"):
        if key in found:
            _show_folds(key.replace("_", " "), found[key])
    show(f"written to {folder}")


def quantise(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    changes: ChangesOption = None,
    most: Annotated[
        float,
        typer.Option(min=0, max=100, help="Points of AJI that int8 may cost on held-out images."),
    ] = 0.3,
) -> None:
    """Quantise a run's model to 8 bits (extra 'train').

    Keeps the 8-bit network only if it costs little accuracy.

    Prints AJI and PQ on the run's held-out images, and the seconds that the network alone takes
    per 1024 × 1024 pixels on one thread, in f32, bf16 and int8.

    Example:
      nucleate quantise runs/laptop --set data.root=data
    """
    from dataclasses import asdict

    from nucleate.errors import optional

    for module in ("torch", "lightning", "nncf"):
        optional(module, "train")
    from nucleate.training.quantise import quantise as into_integers

    found, kept = into_integers(run, changes, most / 100)
    answer(kept=kept, precisions=[asdict(measured) for measured in found])
    for m in found:
        show(f"{m.precision:5s} AJI {m.aji:.4f}  PQ {m.pq:.4f}  {m.seconds:.3f} s")
    lost = 100 * (found[0].aji - found[-1].aji)
    outcome = "kept" if kept else f"more than {most:g}, not kept"
    show(f"int8 costs {lost:.2f} points of AJI: {outcome}")
    if not kept:
        raise typer.Exit(3)


def compare(
    results: Annotated[
        list[Path],
        typer.Argument(help="Results; all are compared with the first."),
    ],
    metrics: Annotated[
        str, typer.Option("--metrics", help="Comma-separated names, as in metrics.json.")
    ] = "aji,pq,dice,count_error",
) -> None:
    """Compare results on the same images, image by image.

    Example:
      nucleate compare runs/a-cv runs/b-cv
    """
    from dataclasses import asdict

    from rich.table import Table

    from nucleate.evaluation.compare import paired
    from nucleate.evaluation.report import seen_note
    from nucleate.evaluation.scores import read_scores

    if len(results) < 2:
        raise ConfigError("compare: fewer than two results. Name at least two.")
    names = [name.strip() for name in metrics.split(",") if name.strip()]
    if not names:
        raise ConfigError(
            "compare: --metrics is empty. Name at least one metric, or omit the option."
        )
    scores = [read_scores(folder) for folder in results]
    compared: list[dict[str, Any]] = []
    for other, folder in zip(scores[1:], results[1:], strict=True):
        table = Table(title=f"{folder.name} - {results[0].name}")
        for column in ("metric", "first", "second", "change", "95 % interval", "p", "n"):
            left = column == "metric"
            table.add_column(column, justify="left" if left else "right", no_wrap=True)
        for name in names:
            known = ", ".join(m for m in other.metrics if m in scores[0].metrics)
            if name not in other.metrics or name not in scores[0].metrics:
                raise ConfigError(f"compare: unknown metric {name!r}. Known: {known}.")
            p = paired(scores[0].metrics[name], other.metrics[name], scores[0].groups)
            compared.append({"first": results[0], "second": folder, "metric": name, **asdict(p)})
            table.add_row(
                name, f"{p.a:.4f}", f"{p.b:.4f}", f"{p.difference:+.3f}",
                f"{p.low:+.3f} to {p.high:+.3f}", f"{p.p:.4f}", str(p.n),
            )  # fmt: skip
        show_table(table)
    seen = {str(f): s.seen for f, s in zip(results, scores, strict=True) if s.seen}
    answer(compared=compared, seen_in_training=seen)
    for where, images in seen.items():
        warn(f"warning: {where}: {seen_note(images, len(scores[0].groups))}")


def _show_folds(title: str, found: dict[str, Any]) -> None:
    """Print one row per fold, and mean ± SD."""
    from rich.table import Table

    shown = ("aji", "pq", "dice", "count_error")
    table = Table(title=title)
    for column in ("fold", "images", *shown):
        table.add_column(column, justify="left" if column == "fold" else "right")
    for name, fold in found["folds"].items():
        table.add_row(name, str(fold["images"]), *(f"{fold[m]:.4f}" for m in shown))
    over = found["over_folds"]
    table.add_row("mean ± SD", "", *(f"{over[m]['mean']:.4f} ± {over[m]['sd']:.4f}" for m in shown))
    show_table(table)


def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of nucleate train or nucleate crossval.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the page, figures and tables.")
    ],
    root: Annotated[str | None, typer.Option(help="Folder of the data, if it has moved.")] = None,
) -> None:
    """Report finished runs: an HTML page, figures and tables.

    index.html has curves, tables, errors, counts, cost and published results, and is
    self-contained. Figures are SVG and PDF, tables CSV and LaTeX.

    Example:
      nucleate report runs/laptop runs/mtl-small -o report/
    """
    from nucleate.errors import optional

    optional("torch", "train")
    optional("matplotlib", "train")
    optional("jinja2", "train")
    from nucleate.reports.page import write_report
    from nucleate.reports.run_results import gather

    names = [run.resolve().name for run in runs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"report: two runs have the name {twice!r}. Rename one of the folders.")
    write_report([gather(run, Path(), root, say) for run in runs], out)
    answer(page=out / "index.html")
    show(f"{out / 'index.html'}")

"""nucleate evaluate."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nucleate.cli.options import (
    BackendOption,
    DeviceOption,
    MppOption,
    OptionsOption,
    PrecisionOption,
    ThreadsOption,
    TileOption,
    TtaOption,
)
from nucleate.cli.terminal import (
    answer,
    command_line,
    say,
    show_table,
    warn,
)
from nucleate.errors import ConfigError

if TYPE_CHECKING:
    from nucleate.datasets.base import Entry
    from nucleate.evaluation.report import Report
    from nucleate.inference.backends import Model

    _Scored = tuple[str, str, list[str], Report]  # model or file, digest, images, scores


_RootOption = Annotated[
    Path | None, typer.Option(help="With --model: folder or zip file of the data set.")
]
_LedgerOption = Annotated[
    Path | None, typer.Option(help="CSV file that records each use of official test images.")
]


def evaluate(
    pred: Annotated[Path | None, typer.Argument(help="Predicted labels or outlines.")] = None,
    truth: Annotated[Path | None, typer.Argument(help="Ground-truth labels or outlines.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Evaluate a model instead of files.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="With --model: name of the data set, see 'data list'. Default: folder."),
    ] = None,
    root: _RootOption = None,
    options: OptionsOption = None,
    mpp: MppOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for metrics.json, per_image.csv.")
    ] = None,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = 0,
    tile_px: TileOption = None,
    tta: TtaOption = False,
    ledger: _LedgerOption = None,
) -> None:
    """Score predictions, or a model on a data set.

    Examples:
      nucleate evaluate out/ truth/
      nucleate evaluate -m mtl-small --data cryonuseg --root CryoNuSeg -o scores/
      nucleate evaluate -m mtl-small --root mydata --mpp 0.25 --option "group=^([0-9]+)_"
    """
    from nucleate.datasets.test_sets import is_official_test
    from nucleate.environment import git_commit
    from nucleate.evaluation.ledger import log_test_use
    from nucleate.evaluation.report import seen_note
    from nucleate.files import check_folder

    if out is not None:
        check_folder(out)
    if model is None:
        if options or data is not None or tta:
            raise ConfigError(
                "evaluate: --option, --data and --tta require --model and --root. Add those, or "
                "omit these."
            )
        if root is not None:
            raise ConfigError("evaluate: --root requires --model. Name a model, or omit --root.")
        name, digest, names, report = _score_files(pred, truth, mpp)
    else:
        if root is None or pred is not None:
            raise ConfigError(
                "evaluate: --model and files exclude each other. Name the data with --root, and "
                "omit the files."
            )
        from nucleate.inference.ensembles import with_tta
        from nucleate.inference.loading import load_model

        reader = data or "folder"
        entries = _entries(reader, root, options, mpp, ledger)
        ready = load_model(model, device, backend, precision, threads)
        ready = with_tta(ready) if tta else ready
        name, digest, names, report = _score_model(ready, entries, reader, tile_px)
        report.about["data"] = {"reader": reader, "root": root.name}
    if any(is_official_test(image) for image in names):
        if ledger is not None:
            log_test_use(ledger, name, digest, report, command_line(root))
        noted = "not recorded; --ledger FILE does" if ledger is None else f"recorded in {ledger}"
        say(f"official test images: this use is {noted}")
    report.about.update(
        command=command_line(root), commit=git_commit(), date=time.strftime("%Y-%m-%d")
    )
    if out is not None:
        report.write(out)
    answer(report.content, out=out)
    _show_report(report)
    for doubt in report.about.get("warnings", ()):
        warn(f"warning: {doubt}")
    if report.seen:
        warn(f"warning: {seen_note(report.seen, len(report.images))}")


def _score_files(pred: Path | None, truth: Path | None, mpp: float | None) -> _Scored:
    """Score predicted files against ground truth."""
    from nucleate.evaluation.evaluate import evaluate_files

    if pred is None or truth is None:
        raise ConfigError(
            "evaluate: no input. Name predictions and ground truth, or use --model and --root; "
            "see nucleate evaluate --help."
        )
    report = evaluate_files(pred, truth, say, mpp)
    return pred.name, "files", [image.name for image in report.images], report


def _entries(
    reader: str, root: Path, options: list[str] | None, mpp: float | None, ledger: Path | None
) -> list[Entry]:
    """List the images of a data set; the ledger must be writable if any is an official test."""
    from nucleate.datasets.loading import list_entries
    from nucleate.evaluation.ledger import check_ledger
    from nucleate.options import parse_options

    parsed = parse_options(options)
    if mpp is not None and "mpp" in parsed:
        raise ConfigError("evaluate: --mpp and --option mpp set the same value. Omit one of them.")
    entries = list_entries(reader, root, parsed if mpp is None else {**parsed, "mpp": mpp})
    if ledger is not None and any(entry.test_only for entry in entries):
        check_ledger(ledger)
    return entries


def _score_model(model: Model, entries: list[Entry], reader: str, tile_px: int | None) -> _Scored:
    """Score a model on the images of a data set."""
    from nucleate.datasets.loading import OWN_DATA
    from nucleate.evaluation.evaluate import evaluate_model
    from nucleate.inference.pipeline import EngineOptions
    from nucleate.models.card import weights_digest

    own_names = reader not in OWN_DATA
    report = evaluate_model(model, entries, say, EngineOptions(tile_px), own_names=own_names)
    name = model.card.name + (", int8" if "int8" in model.backend.about else "")
    return name, weights_digest(model.card), [entry.name for entry in entries], report


def _show_report(report: Any) -> None:  # noqa: ANN401
    """Print means with intervals, pooled values, and the number of images scored."""
    from rich.table import Table

    table = Table(title=f"{len(report.images)} images")
    for column in ("metric", "mean", "95 % interval", "pooled", "n"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    pooled = report.pooled()
    for name, m in report.means().items():
        table.add_row(
            name,
            f"{m['mean']:.4f}",
            f"{m['low']:.4f} to {m['high']:.4f}",
            f"{pooled[name]:.4f}",
            str(m["n"]),
        )
    show_table(table)
    if report.coco is not None:
        columns = {
            f"{kind}, {limit} per image": values
            for kind, limits in report.coco.items()
            for limit, values in limits.items()
        }
        table = Table("COCO, %", title="all images together")
        for column in columns:
            table.add_column(column, justify="right")
        for name in next(iter(columns.values())):
            table.add_row(name, *(f"{100 * values[name]:.1f}" for values in columns.values()))
        show_table(table)

"""Segment, demo, train, evaluate, doctor. Heavy modules are imported by the command that runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from nucleate.cli.options import (
    BackendOption,
    ChangesOption,
    DeviceOption,
    ModelOption,
    MppOption,
    OptionsOption,
    PrecisionOption,
    RecipeArgument,
    ThreadsOption,
    TileOption,
    TtaOption,
    model_names,
)
from nucleate.cli.terminal import (
    Bar,
    answer,
    command_line,
    counted,
    say,
    show,
    show_table,
    warn,
)
from nucleate.errors import ConfigError


def segment(
    sources: Annotated[list[str], typer.Argument(help="Pictures, slides, folders, globs.")],
    out: Annotated[str, typer.Option("--out", "-o", help="Folder for the results, or its URL.")],
    mpp: MppOption = None,
    override_mpp: Annotated[
        bool,
        typer.Option("--override-mpp", help="Use --mpp although a file states another value."),
    ] = False,
    model: ModelOption = "mtl-small",
    formats: Annotated[
        str | None,
        typer.Option(
            help="Besides Parquet, comma-separated: labels, overlay, csv, geojson, geojson.gz, "
            "ome-zarr, spatialdata, annotation-store. Default: the first four of a picture, none "
            "of a slide."
        ),
    ] = None,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = 0,
    tile_px: TileOption = 1536,
    batch: Annotated[int, typer.Option(min=1, help="Tiles per call of the network.")] = 1,
    readers: Annotated[int, typer.Option(min=1, help="Threads that read ahead.")] = 2,
    decoders: Annotated[
        int, typer.Option(min=0, help="Processes that decode; 0: a thread of this one.")
    ] = 0,
    tissue_mask: Annotated[
        bool, typer.Option(help="Of slides: leave out glass, pen and folds.")
    ] = True,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an earlier run stopped.")
    ] = False,
    max_memory: Annotated[
        str | None, typer.Option(help="As 3G: refuse at once what would need more.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler, whose workers do it.")
    ] = None,
    slurm: Annotated[
        Path | None, typer.Option(help="Profile of Slurm jobs, which do it; a YAML file.")
    ] = None,
    tta: TtaOption = False,
) -> None:
    """Find all nuclei of pictures and slides; write tables, overlay, labels and GeoJSON.

    Examples:
      nucleate segment tile.png --mpp 0.25 -o out/
      nucleate segment slides/*.svs -o out/ --resume
    """
    from nucleate.inference.batch import expand_sources, segment_files
    from nucleate.inference.cluster import ModelSpec, connect
    from nucleate.inference.memory import check_memory, parse_bytes
    from nucleate.inference.pipeline import EngineOptions
    from nucleate.inference.source_run import BatchOptions

    chosen = None if formats is None else tuple(f.strip() for f in formats.split(",") if f.strip())
    if chosen == ():
        raise ConfigError("segment: --formats is empty. Name some, or leave it away.")
    if override_mpp and mpp is None:
        raise ConfigError("segment: --override-mpp needs --mpp. Add it, or omit both.")
    if scheduler is not None and slurm is not None:
        raise ConfigError("segment: --scheduler and --slurm are two ways to workers. Choose one.")
    if max_memory is not None and (scheduler is not None or slurm is not None):
        raise ConfigError(
            "segment: --max-memory is about this machine. Give workers a limit of their own: dask "
            "worker --memory-limit."
        )
    limit = None if max_memory is None else parse_bytes(max_memory)
    engine = EngineOptions(tile_px, batch, readers, decoders)
    options = BatchOptions(mpp, chosen, engine, tissue_mask, resume, override_mpp)
    found = expand_sources(sources, out)
    spec = ModelSpec(model, device, backend, precision, threads, tta)
    many = counted(len(found), "source")
    with Bar() as bar:
        if scheduler is not None or slurm is not None:
            with connect(scheduler, slurm, spec, say) as workers:
                ready = workers.model()
                say(f"{many}, model {ready.card.name}, {ready.backend.about}")
                summary = segment_files(found, out, ready, options, bar.say, bar.show, workers)
        else:
            ready = spec.load()
            if limit is not None:
                check_memory(ready, engine, limit)
            say(f"{many}, model {ready.card.name}, {ready.backend.about}")
            summary = segment_files(found, out, ready, options, bar.say, bar.show)
    answer(out=out, **summary)
    totals = summary["totals"]
    finished = totals["done"] + totals["incomplete"]
    show(f"{totals['nuclei']} nuclei in {counted(finished, 'source')}, written to {out}")
    if totals["incomplete"]:
        warn(f"tiles of {counted(totals['incomplete'], 'source')} cannot be read: see summary.json")
    if totals["failed"]:
        failed = counted(totals["failed"], "source")
        warn(f"{failed} failed; the reasons are in {out.rstrip('/')}/summary.json")
    if totals["failed"] or totals["incomplete"]:
        raise typer.Exit(3)


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path(
        "nucleate-demo"
    ),
) -> None:
    """Segment the bundled example with the bundled model, and say where to look.

    Example:
      nucleate demo -o somewhere/
    """
    from nucleate.checkpoint import DEFAULT_MODEL, EXAMPLE
    from nucleate.inference.batch import segment_files
    from nucleate.inference.load import load_model
    from nucleate.inference.source_run import BatchOptions

    model = load_model(DEFAULT_MODEL, device="cpu")
    with Bar() as bar:
        summary = segment_files([EXAMPLE], out, model, BatchOptions(), bar.say, bar.show)
    answer(out=out, **summary)
    row = summary["sources"][0]
    show(
        f"Found {row['nuclei']} nuclei ({row['nuclei_per_mm2']:.0f} per mm², mean area "
        f"{row['mean_area_um2']} um²) in {row['width']} × {row['height']} pixels at "
        f"{row['mpp']:.3f} um/px, in {row['seconds']:.1f} s with {summary['engine']}."
    )
    show("Look at:")
    about = {
        "overlay": "the picture with every nucleus outlined",
        "labels": "label image, int32, one number per nucleus",
        "csv": "one row per nucleus: position, size, shape, stain",
        "parquet": "the same table, for programs",
        "geojson": "drag it onto the picture in QuPath",
    }
    for name, meaning in about.items():
        show(f"  {out / row['files'][name]}  {meaning}")
    show(f"  {out}/summary.json  what was run, and on what")
    show(f"The model's weights are {model.card.licence}: not for commercial use. The code is MIT.")


def export(
    result: Annotated[
        Path, typer.Argument(help="Folder that nucleate segment wrote, or one .nuclei.parquet.")
    ],
    to: Annotated[
        str,
        typer.Option(
            help="coco, geojson, geojson.gz, csv, labels, ome-zarr, spatialdata, annotation-store."
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            help="File to write; of several pictures coco and csv make one file, other forms one "
            "each: name a folder, as FOLDER/.",
        ),
    ],
    truth: Annotated[
        Path | None,
        typer.Option(help="COCO file of the same pictures: write a list of results for it."),
    ] = None,
) -> None:
    """Write the nuclei of a result for another program; coco and csv have all pictures in one file.

    Examples:
      nucleate export out/slide.nuclei.parquet --to geojson.gz -o slide.geojson.gz
      nucleate export out/ --to csv -o all.csv
      nucleate export out/ --to coco -o results.json --truth annotations.json
    """
    from dataclasses import asdict

    from nucleate.io.results import export_results

    done = export_results(result, to, out, truth)
    answer(file=out, **asdict(done))
    show(f"{done.nuclei} nuclei of {counted(done.pictures, 'picture')} written to {out}")
    if done.left_out:
        say(f"{done.left_out} pictures are not in {truth} and were left out")
    if truth is not None and done.without:
        say(f"{done.without} pictures of {truth} are not in {result}")


def package(
    model: Annotated[
        str,
        typer.Argument(
            help="Bundled model by name, model folder, or run folder.", autocompletion=model_names
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write (.zip).")],
    authors: Annotated[
        list[str] | None,
        typer.Option("--author", help="Who made it; repeat for more. Known of bundled models."),
    ] = None,
    cite: Annotated[
        list[str] | None,
        typer.Option("--cite", help="Reference with a DOI or an address; repeat for more."),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option("--licence", help="SPDX name, for a model whose card states no licence."),
    ] = None,
) -> None:
    """Write a model as a package of bioimage.io, whose programs run its network.

    Examples:
      nucleate package mtl-small -o mtl-small.zip
      nucleate package runs/mine -o mine.zip --author "A. Smith" --cite "Smith 2026, https://..."
    """
    from nucleate.bioimageio import Origin, write_package

    inside = write_package(model, out, Origin(tuple(authors or ()), tuple(cite or ()), licence))
    answer(file=out, inside=inside)
    show(f"{out}: {', '.join(inside)}")


def train(
    recipe: RecipeArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Run folder. Default: runs/NAME.")
    ] = None,
    changes: ChangesOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run from its last checkpoint.")
    ] = False,
) -> None:
    """Train a network by a recipe; needs the extra 'train'.

    Examples:
      nucleate train recipes/laptop.yaml --set data.root=data
      nucleate train recipes/laptop.yaml --resume
    """
    from nucleate.checkpoint import read_card
    from nucleate.config import load_recipe
    from nucleate.errors import optional

    optional("torch", "train")
    optional("lightning", "train")
    from nucleate.train import train_recipe

    model = train_recipe(load_recipe(recipe, changes), Path(), out, resume)
    answer(model=model, metrics=read_card(model).metrics)
    show(f"{model}")


def evaluate(
    pred: Annotated[Path | None, typer.Argument(help="Predicted labels or outlines.")] = None,
    truth: Annotated[Path | None, typer.Argument(help="True labels or outlines.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Evaluate a model instead of files.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="With --model: reader of the data set, see 'data list'; else folder."),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="With --model: folder or zip file of the data set.")
    ] = None,
    options: OptionsOption = None,
    mpp: MppOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for metrics.json, per_picture.csv.")
    ] = None,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = 0,
    tile_px: TileOption = 1536,
    tta: TtaOption = False,
    ledger: Annotated[
        Path | None, typer.Option(help="CSV file that gets a row if official test images are used.")
    ] = None,
) -> None:
    """Score predictions against truth, or a model on a data set.

    Examples:
      nucleate evaluate out/ truth/
      nucleate evaluate -m mtl-small --data cryonuseg --root CryoNuSeg -o scores/
      nucleate evaluate -m mtl-small --root mydata --mpp 0.25 --option "group=^([0-9]+)_"
    """
    from nucleate.checkpoint import weights_digest
    from nucleate.datasets.monuseg import is_official_test
    from nucleate.evaluate import check_ledger, evaluate_files, evaluate_model, log_test_use
    from nucleate.io.files import check_folder
    from nucleate.metrics.report import seen_note
    from nucleate.run_folder import git_commit

    if out is not None:
        check_folder(out)
    if model is None:
        if options or data is not None or tta:
            raise ConfigError(
                "evaluate: --option, --data and --tta go with --model and --root. Leave them away."
            )
        if pred is None or truth is None:
            raise ConfigError(
                "evaluate: name the predictions and the truth, or use --model and "
                "--root. See nucleate evaluate --help."
            )
        if root is not None:
            raise ConfigError("evaluate: --root goes with --model. Leave it away, or name a model.")
        report = evaluate_files(pred, truth, say, mpp)
        name, digest = pred.name, "files"
        names = [picture.name for picture in report.pictures]
    else:
        if root is None or pred is not None:
            raise ConfigError("evaluate: with --model name the data by --root, and no files.")
        from nucleate.config import parse_options
        from nucleate.datasets.collect import OWN_DATA, list_entries
        from nucleate.inference.combine import with_tta
        from nucleate.inference.load import load_model
        from nucleate.inference.pipeline import EngineOptions

        parsed = parse_options(options)
        if mpp is not None and "mpp" in parsed:
            raise ConfigError("evaluate: --mpp and --option mpp say the same. Leave one away.")
        reader = data or "folder"
        entries = list_entries(reader, root, parsed if mpp is None else {**parsed, "mpp": mpp})
        if ledger is not None and any(entry.test_only for entry in entries):
            check_ledger(ledger)
        ready = load_model(model, device, backend, precision, threads)
        ready = with_tta(ready) if tta else ready
        report = evaluate_model(
            ready, entries, say, EngineOptions(tile_px), own_names=reader not in OWN_DATA
        )
        report.about["data"] = {"reader": reader, "root": root.name}
        name = ready.card.name + (", int8" if "int8" in ready.backend.about else "")
        digest = weights_digest(ready.card)
        names = [entry.name for entry in entries]
    if any(is_official_test(picture) for picture in names):
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
    if report.seen:
        warn(f"warning: {seen_note(report.seen, len(report.pictures))}")


def doctor() -> None:
    """Say what is installed, which engines and devices work, and what is missing.

    Example:
      nucleate doctor
    """
    from nucleate.doctor import diagnose

    lines, healthy = diagnose()
    answer(healthy=healthy, lines=lines)
    for line in lines:
        show(line)
    if not healthy:
        raise typer.Exit(2)


def _show_report(report: Any) -> None:  # noqa: ANN401
    """Print means with intervals and pooled values, and the number of pictures that count."""
    from rich.table import Table

    table = Table(title=f"{len(report.pictures)} pictures")
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
            f"{kind}, {limit} per picture": values
            for kind, limits in report.coco.items()
            for limit, values in limits.items()
        }
        table = Table("COCO, %", title="all pictures together")
        for column in columns:
            table.add_column(column, justify="right")
        for name in next(iter(columns.values())):
            table.add_row(name, *(f"{100 * values[name]:.1f}" for values in columns.values()))
        show_table(table)

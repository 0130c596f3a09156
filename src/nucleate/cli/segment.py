"""nucleate segment and demo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nucleate.cli.options import (
    BackendOption,
    DeviceOption,
    ModelOption,
    MppOption,
    PrecisionOption,
    SensitivityOption,
    ThreadsOption,
    TileOption,
    TtaOption,
)
from nucleate.cli.terminal import (
    Bar,
    answer,
    counted,
    is_hushed,
    say,
    show,
    warn,
)
from nucleate.errors import ConfigError

if TYPE_CHECKING:
    from nucleate.inference.suggest_mpp import Suggestion
    from nucleate.slides.outputs import BatchOptions
    from nucleate.slides.worker import ModelSpec

_NAMED = 5  # most sources named on one line


_OverrideOption = Annotated[
    bool,
    typer.Option("--override-mpp", help="Use --mpp even if a file states another value."),
]
_PlaneOption = Annotated[
    int | None,
    typer.Option(min=1, help="Plane of a TIFF with focal planes or time points, from 1."),
]
_FormatsOption = Annotated[
    str | None,
    typer.Option(
        help="Formats besides Parquet, comma-separated: labels, overlay, csv, geojson, geojson.gz, "
        "ome-zarr, spatialdata, annotation-store. Default: the first four for images, none "
        "for slides."
    ),
]
_ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Continue where an earlier run stopped.")
]
_MemoryOption = Annotated[
    str | None,
    typer.Option(help="Memory limit, such as 3G; a run that needs more is refused."),
]
_SchedulerOption = Annotated[
    str | None, typer.Option(help="Address of a Dask scheduler; its workers segment.")
]
_SlurmOption = Annotated[
    Path | None, typer.Option(help="YAML file with a profile of the Slurm jobs that segment.")
]
_ThresholdOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="A threshold of the decoder instead of the model's, such as ink=1; repeatable.",
    ),
]
_SuggestOption = Annotated[
    bool,
    typer.Option(
        "--suggest-mpp",
        help="Try resolutions on a few tiles, print the most plausible, and write a contact "
        "sheet; segment nothing else.",
    ),
]


def segment(
    sources: Annotated[list[str], typer.Argument(help="Images, slides, folders, globs.")],
    out: Annotated[str, typer.Option("--out", "-o", help="Folder or URL for the results.")],
    mpp: MppOption = None,
    override_mpp: _OverrideOption = False,
    plane: _PlaneOption = None,
    model: ModelOption = "mtl-small",
    formats: _FormatsOption = None,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = 0,
    tile_px: TileOption = None,
    batch: Annotated[int, typer.Option(min=1, help="Tiles per call of the network.")] = 1,
    readers: Annotated[int, typer.Option(min=1, help="Threads that read tiles ahead.")] = 2,
    decoders: Annotated[int, typer.Option(min=0, help="Processes that decode; 0: one thread.")] = 0,
    tissue_mask: Annotated[bool, typer.Option(help="Omit glass, pen and folds of slides.")] = True,
    resume: _ResumeOption = False,
    max_memory: _MemoryOption = None,
    scheduler: _SchedulerOption = None,
    slurm: _SlurmOption = None,
    tta: TtaOption = False,
    sensitivity: SensitivityOption = "normal",
    threshold: _ThresholdOption = None,
    suggest_mpp: _SuggestOption = False,
) -> None:
    """Segment all nuclei of images and slides.

    Writes a table, an overlay, labels and GeoJSON.

    Examples:
      nucleate segment tile.png --mpp 0.25 -o out/
      nucleate segment slides/*.svs -o out/ --resume
      nucleate segment tile.png -o out/ --suggest-mpp
    """
    from nucleate.inference.pipeline import EngineOptions
    from nucleate.options import parse_options
    from nucleate.readers.remote import shown
    from nucleate.slides.find_sources import expand_sources
    from nucleate.slides.memory import parse_bytes
    from nucleate.slides.outputs import BatchOptions
    from nucleate.slides.worker import ModelSpec

    chosen = None if formats is None else tuple(f.strip() for f in formats.split(",") if f.strip())
    remote = scheduler is not None or slurm is not None
    if chosen == ():
        raise ConfigError(
            "segment: --formats is empty. Name at least one format, or omit the option."
        )
    if override_mpp and mpp is None:
        raise ConfigError("segment: --override-mpp needs --mpp. Add it, or omit both.")
    if scheduler is not None and slurm is not None:
        raise ConfigError("segment: --scheduler and --slurm exclude each other. Omit one of them.")
    if max_memory is not None and remote:
        raise ConfigError(
            "segment: --max-memory limits this machine only. Limit workers with dask worker "
            "--memory-limit."
        )
    limit = None if max_memory is None else parse_bytes(max_memory)
    engine = EngineOptions(tile_px, batch, readers, decoders)
    options = BatchOptions(mpp, chosen, engine, tissue_mask, resume, override_mpp, plane)
    found = expand_sources(sources, out)
    thresholds = tuple(parse_options(threshold, "--threshold").items())
    for name, value in thresholds:
        if not isinstance(value, int | float):
            raise ConfigError(f"segment: --threshold {name}={value} needs a number, such as 0.4.")
    spec = ModelSpec(model, device, backend, precision, threads, tta, sensitivity, thresholds)
    if suggest_mpp:
        if mpp is not None or remote:
            raise ConfigError(
                "segment: --suggest-mpp estimates the mpp, on this machine. Omit --mpp, "
                "--scheduler and --slurm."
            )
        _suggest(found, out, spec)
    elif remote:
        _report(_run_on_workers(found, out, spec, options, (scheduler, slurm)), shown(out))
    else:
        _report(_run_here(found, out, spec, options, limit), shown(out))


def _run_here(
    sources: list[Path | str], out: str, spec: ModelSpec, options: BatchOptions, limit: int | None
) -> dict[str, Any]:
    """Segment on this machine, within a limit of memory in bytes, and return the summary."""
    from nucleate.slides.memory import IMAGE_BYTES, check_memory
    from nucleate.slides.segment_many import run_batch

    with Bar() as bar:
        model = spec.load()
        if limit is not None:
            needed = check_memory(model, options.engine, limit)
            options = replace(options, most_pixels=(limit - needed) // IMAGE_BYTES)
        say(f"{counted(len(sources), 'source')}, model {model.card.name}, {model.backend.about}")
        return run_batch(sources, out, model, options, bar.say, bar.show)


def _run_on_workers(
    sources: list[Path | str],
    out: str,
    spec: ModelSpec,
    options: BatchOptions,
    cluster: tuple[str | None, Path | None],
) -> dict[str, Any]:
    """Segment on a Dask scheduler or Slurm profile, and return the summary."""
    from nucleate.slides.cluster import connect
    from nucleate.slides.segment_many import run_batch

    with Bar() as bar, connect(*cluster, spec, say) as workers:
        model = workers.model()
        say(f"{counted(len(sources), 'source')}, model {model.card.name}, {model.backend.about}")
        return run_batch(sources, out, model, options, bar.say, bar.show, workers)


def _report(summary: dict[str, Any], out: str) -> None:
    """Print what was found, and exit with 3 if sources failed or are incomplete."""
    answer(out=out, **summary)
    _warn_of(summary["sources"], out)
    totals = summary["totals"]
    finished = totals["done"] + totals["incomplete"]
    about = _figures(summary["sources"][0]) if len(summary["sources"]) == 1 else ""
    show(f"{totals['nuclei']} nuclei in {counted(finished, 'source')}{about}, written to {out}")
    if totals["incomplete"]:
        warn(f"tiles of {counted(totals['incomplete'], 'source')} cannot be read: see summary.json")
    if totals["failed"]:
        failed = counted(totals["failed"], "source")
        warn(f"{failed} failed; the reasons are in {out.rstrip('/')}/summary.json")
    if totals["failed"] or totals["incomplete"]:
        raise typer.Exit(3)


def _figures(row: dict[str, Any]) -> str:
    """Return density and mean area of a source, in parentheses."""
    if not row.get("nuclei") or not row.get("nuclei_per_mm2"):
        return ""
    return f" ({row['nuclei_per_mm2']:.0f} per mm², mean area {row['mean_area_um2']:.1f} µm²)"


def _warn_of(rows: list[dict[str, Any]], out: str) -> None:
    """Name the sources that have notes; print the notes of a single source if not yet shown."""
    noted = [row for row in rows if row.get("notes")]
    if len(rows) > 1 and noted:
        names = ", ".join(Path(row["source"]).name for row in noted[:_NAMED])
        more = f" and {len(noted) - _NAMED} more" if len(noted) > _NAMED else ""
        warn(f"notes on {names}{more}: see {out.rstrip('/')}/summary.json")
    elif noted and is_hushed():
        warn("; ".join(noted[0]["notes"]))


def _suggest(sources: list[Path | str], out: str, spec: ModelSpec) -> None:
    """Print the most plausible mpp of each source, and write its contact sheet."""
    from nucleate.inference.suggest_mpp import contact_sheet, suggest_mpp
    from nucleate.readers.opening import open_source
    from nucleate.readers.remote import is_url
    from nucleate.results.images import write_png
    from nucleate.results.names import SCALES
    from nucleate.slides.find_sources import result_stems

    if is_url(out) or any(is_url(str(source)) for source in sources):
        raise ConfigError("segment: --suggest-mpp does not support URLs. Name local files.")
    model, stems, rows = spec.load(), result_stems(sources), []
    for source in sources:
        suggestion = suggest_mpp(open_source(Path(source)), model)
        sheet = Path(out) / f"{stems[source]}{SCALES}"
        write_png(sheet, contact_sheet(suggestion))
        rows.append(
            {
                "source": str(source),
                "mpp": [mpp for mpp, _ in suggestion.found],
                "estimate": suggestion.estimate,
                "votes": [round(share, 2) for _, share in suggestion.found],
                "tried": [
                    {"mpp": one.mpp, "nuclei": one.nuclei, "median_area_um2": one.median_um2}
                    for one in suggestion.tried
                ],
                "contact_sheet": sheet,
            }
        )
        show(f"{Path(source).name}: {_said(suggestion)}; see {sheet}")
    answer(sources=rows)


def _said(suggestion: Suggestion) -> str:
    """Describe the most plausible mpp and its alternatives in a phrase.

    Example:
        >>> from nucleate.inference.suggest_mpp import Suggestion
        >>> _said(Suggestion([(0.25, 0.7), (0.5, 0.3)], 0.28, []))
        '0.25 um/px (a 40x scan) is most plausible: its nuclei look like 0.28; 0.5 next'
        >>> _said(Suggestion([], None, []))
        'no resolution fits: too few nuclei at each'
    """
    from nucleate.quality.scale import usual_scan

    if not suggestion.found:
        return "no resolution fits: too few nuclei at each"
    (best, _), *others = suggestion.found
    next_ = f"; {', '.join(f'{mpp:g}' for mpp, _ in others)} next" if others else ""
    return (
        f"{best:g} um/px (a {usual_scan(best)[1]}x scan) is most plausible: its nuclei look like "
        f"{suggestion.estimate:.2g}{next_}"
    )


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path(
        "nucleate-demo"
    ),
) -> None:
    """Segment the bundled example image.

    Example:
      nucleate demo -o somewhere/
    """
    from nucleate.inference.loading import load_model
    from nucleate.models.card import DEFAULT_MODEL, EXAMPLE, OPEN_MODEL
    from nucleate.slides.outputs import BatchOptions
    from nucleate.slides.segment_many import run_batch

    say("segmenting the bundled example; the first run on a machine compiles code and is slower")
    model = load_model(DEFAULT_MODEL, device="cpu")
    with Bar() as bar:
        summary = run_batch([EXAMPLE], out, model, BatchOptions(), bar.say, bar.show)
    answer(out=out, **summary)
    row = summary["sources"][0]
    show(
        f"Found {row['nuclei']} nuclei ({row['nuclei_per_mm2']:.0f} per mm², mean area "
        f"{row['mean_area_um2']} µm²) in {row['width']} × {row['height']} pixels at "
        f"{row['mpp']:.3f} µm/px, in {row['seconds']:.1f} s with {summary['engine']}."
    )
    show("Results:")
    about = {
        "overlay": "the image with its nuclei outlined; enlarged if it is coarse",
        "labels": "label image, int32, one number per nucleus",
        "csv": "one row per nucleus: position, size, shape, stain",
        "parquet": "the same table, for programs",
        "geojson": "for QuPath: drag it onto the image",
    }
    for name, meaning in about.items():
        show(f"  {out / row['files'][name]}  {meaning}")
    show(f"  {out}/summary.json  settings and statistics of the run")
    show(
        "Check the outlines before you trust a count: the model also finds false nuclei in "
        "keratin, ink and folds, misses pale ones, and merges some that overlap "
        "(docs/how-to/failure-modes.md)."
    )
    show(
        f"The weights of {DEFAULT_MODEL} are {model.card.licence}: not for commercial use. "
        f"{OPEN_MODEL} may be used commercially; it finds less. The code is MIT."
    )

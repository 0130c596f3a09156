"""One source, from its file to all files of its results: start, units, end."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nucleate.cards import ModelCard
from nucleate.errors import ConfigError, InputError, OutputError, explain_os_error
from nucleate.features import COLUMNS
from nucleate.inference import engine
from nucleate.inference.backends import Model
from nucleate.inference.engine import InMemory, Sink
from nucleate.inference.inputs import as_reader, frame_of, stain_transform
from nucleate.inference.pipeline import Done, EngineOptions
from nucleate.inference.segment import doubts_about, notes
from nucleate.inference.units import Unit, plan_units
from nucleate.quality.plausibility import Doubt
from nucleate.quality.tissue import SLIDE_PIXELS, Survey, Tissue, survey
from nucleate.readers.opening import open_source
from nucleate.readers.reader import Reader
from nucleate.readers.remote import shown
from nucleate.readers.source import notes_of
from nucleate.results.formats import EXPORTERS
from nucleate.results.images import write_png
from nucleate.results.parquet import NucleiFile, open_nuclei, writer
from nucleate.slides.manifest import (
    check_job,
    check_same,
    is_begun,
    job_digest,
    job_facts,
    read_tissue,
    write_job,
)
from nucleate.slides.memory import give_back
from nucleate.slides.outputs import BatchOptions, Outputs
from nucleate.slides.overview import Heat, draw_overview
from nucleate.slides.unit_files import (
    UnitFiles,
    Written,
    is_written,
    lost_in,
    unit_file,
    unit_files,
    write_merged,
)
from nucleate.stain.normalise import Transform
from nucleate.types import Float32, Instances

_LARGE_PIXELS = 25_000_000  # from here on a PNG of an overlay takes seconds
RASTER_PIXELS = SLIDE_PIXELS  # tissue first, and no other files
_SHOWN_PIXELS = 1 << 29  # more do not fit into one PNG, nor into the memory of a laptop
STAGES = ("read", "network", "decode", "write")


@dataclass(slots=True)
class Run:
    """A source that is being worked on.

    Attributes:
        path: of the source, here.
        name: of the source, as the user calls it: an address with its signature.
        reader: opened.
        seen: what a slide looks like from afar; None for an image.
        tissue: where to look; None for everywhere.
        outputs: of the results.
        job: everything that the result depends on.
        digest: of the job.
        colours: what the stain of the whole source is changed by.
        memory: what keeps the units of an image; None where they are files, which can be resumed.
        units: all of them.
        left: those to do.
        begun: when.
        is_done: whether the result was there already.
        spent: seconds per stage.
    """

    path: Path
    name: str
    reader: Reader
    seen: Survey | None
    tissue: Tissue | None
    outputs: Outputs
    job: dict[str, Any]
    digest: str
    colours: Transform
    memory: InMemory | None
    units: list[Unit]
    left: list[Unit]
    begun: float
    is_done: bool = False
    spent: list[float] = field(default_factory=lambda: [0.0] * len(STAGES))

    def add(self, seconds: Sequence[float]) -> None:
        """Count what a unit took, stage by stage."""
        self.spent = [a + b for a, b in zip(self.spent, seconds, strict=True)]


def start(
    path: Path, name: str, outputs: Outputs, model: Model, options: BatchOptions, spread: bool
) -> Run:
    """Open a source and find out what there is to do; make the folder of its units.

    Args:
        path: of the source, here.
        name: of the source, as the user calls it: an address with its signature.
        outputs: of the results.
        model: to segment with.
        options: of the call.
        spread: whether other processes segment its units, which are files then.

    Raises:
        InputError: it cannot be read, has no resolution, or a name that is too long.
        ConfigError: with `resume`, what was started was started differently; an overlay of a slide.
    """
    begun = time.monotonic()
    source = open_source(path, options.plane, options.most_pixels)
    reader = as_reader(source, model.card, options.mpp, options.override_mpp)
    pixels = source.width * source.height
    is_slide = pixels >= RASTER_PIXELS
    outputs = replace(outputs, is_slide=is_slide, is_large=pixels >= _LARGE_PIXELS)
    outputs.check_names()
    if pixels > _SHOWN_PIXELS and "overlay" in (options.formats or ()):
        raise ConfigError(
            f"{shown(name)}: {source.width} × {source.height} pixels are too many for an overlay. "
            "Omit this format: the overview shows the slide, and geojson.gz opens in QuPath."
        )
    seen = None
    if is_slide:  # opened once more: what is kept of pieces of coarse levels goes with it
        seen = survey(Reader(open_source(path, options.plane), reader.mpp))
    tissue = seen.tissue if seen is not None and options.tissue_mask else None
    job = job_facts(path, reader, model, options.engine, tissue is not None, options.plane)
    digest = job_digest(job)
    colours = stain_transform(source, model.card)
    memory = None if is_slide or spread else InMemory()
    run = Run(
        path, name, reader, seen, tissue, outputs, job, digest, colours, memory, [], [], begun
    )
    if options.resume:
        _resume(run)
    if not run.is_done:
        run.units = plan_units(reader, model.card, options.engine, run.tissue)
        run.left = run.units
        if memory is None:
            _make_folder(run, options.resume)
    if is_slide:
        give_back()
    return run


def _resume(run: Run) -> None:
    """Find what an earlier run has left: units, or a result."""
    outputs = run.outputs
    outputs.out.pull(outputs.units_name)
    outputs.out.pull_file(outputs.parquet_name)
    if is_begun(outputs.units):
        check_job(outputs.units, run.job)
        run.tissue = read_tissue(outputs.units, run.reader)
    elif outputs.parquet.is_file():
        check_same(open_nuclei(outputs.parquet).facts.get("job"), run.job, outputs.parquet)
        run.is_done = True


def _make_folder(run: Run, resume: bool) -> None:
    """Make the folder of the units, or find out which of them are there."""
    outputs = run.outputs
    if not (resume and is_begun(outputs.units)):
        outputs.out.remove(outputs.units_name)
        write_job(outputs.units, run.job, run.tissue)
        outputs.out.push(outputs.units_name)
    run.left = [unit for unit in run.units if not is_written(outputs.units, unit, run.digest)]


def segment_here(
    run: Run, model: Model, options: EngineOptions, tell: Callable[[Done], None]
) -> None:
    """Segment what is left of a source in this process."""
    outputs = run.outputs

    def written(unit: Written) -> None:
        run.add(unit.seconds)
        outputs.out.push(f"{outputs.units_name}/{unit_file(unit.unit)}")

    sink: Sink = run.memory or UnitFiles(
        outputs.units, run.digest, frame_of(run.reader), tuple(model.card.classes), written
    )
    engine.run(run.reader, model, options, sink, run.left, run.tissue, run.colours, tell)


def finish(run: Run, card: ModelCard) -> dict[str, Any]:
    """Write all files of a source whose units are done, and return its row of the summary.

    Raises:
        InputError: nothing of it could be read.
        OutputError: a file cannot be written.
    """
    outputs, notes = run.outputs, list[str]()
    if run.is_done:
        found = open_nuclei(outputs.parquet)
        notes.append("was there already")
    else:
        if outputs.is_slide:
            give_back()
        found, cut = _merge(run, card)
        notes += _notes(run, cut, found)
    if outputs.is_slide:
        give_back()
    files = outputs.files()
    if not found.count and "spatialdata" in files:
        del files["spatialdata"]
        notes.append("spatialdata omitted: it cannot store a table without nuclei")
    _write_all(found, run, files)
    for name in outputs.overview().values():
        _draw(found, run, outputs.out.folder / name)
    if not run.is_done:
        try:
            found.path.replace(outputs.parquet)
        except OSError as error:
            raise OutputError(explain_os_error(error, outputs.parquet)) from error
        found = replace(found, path=outputs.parquet)
        shutil.rmtree(outputs.units, ignore_errors=True)
    outputs.out.push(*files.values(), *outputs.overview().values(), outputs.parquet_name)
    outputs.out.remove(outputs.units_name)
    stages = dict(zip(STAGES, (round(s, 2) for s in run.spent), strict=True))
    return _row(run, found, files) | {
        "seconds": round(time.monotonic() - run.begun, 2),
        "stages": stages,
        "notes": notes,
    }


def _merge(run: Run, card: ModelCard) -> tuple[NucleiFile, int]:
    """Write the file of all nuclei, under its unfinished name; and return how many were cut.

    Raises:
        InputError: nothing of the source could be read.
        OutputError: it cannot be written.
    """
    outputs, begun = run.outputs, time.perf_counter()
    frame, classes = frame_of(run.reader), tuple(card.classes)
    facts: dict[str, Any] = {"source": run.path.name, "job": run.job}
    if run.memory is None:
        outputs.out.pull(outputs.units_name)  # what other machines have written
        lost = lost_in(outputs.units, run.units, run.digest)
    else:
        lost = run.memory.lost
    if lost and len(lost) == sum(len(unit.tiles) for unit in run.units):
        raise InputError(f"No tile could be read: {lost[0]['reason']}")
    facts["lost"] = lost
    if run.memory is None:
        units = unit_files(outputs.units, run.units, run.digest)
        cut = write_merged(units, outputs.unfinished, frame, classes, facts)
        found = open_nuclei(outputs.unfinished)
    else:
        nuclei, cut = run.memory.nuclei(frame, classes)
        with writer(outputs.unfinished, nuclei, facts) as file:
            file.write(nuclei)
        found = replace(open_nuclei(outputs.unfinished), kept=nuclei)
        for one in run.memory.units:
            run.add((*one.seconds, 0.0))
    run.spent[STAGES.index("write")] += time.perf_counter() - begun
    return found, cut


def abandon(run: Run) -> None:
    """Remove what is unfinished, unless it can be resumed."""
    run.outputs.unfinished.unlink(missing_ok=True)
    if not run.outputs.is_slide or not any(run.outputs.units.glob("unit-*.parquet")):
        shutil.rmtree(run.outputs.units, ignore_errors=True)
        folder = run.outputs.units.parent
        while folder != run.outputs.out.folder:  # those that were made for it
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()
            folder = folder.parent


def _notes(run: Run, cut: int, nuclei: NucleiFile) -> list[str]:
    found = []
    if len(run.left) < len(run.units):
        there = len(run.units) - len(run.left)
        found.append(f"{there} of {len(run.units)} units were there already")
    found += notes_of(run.reader.source)
    found += notes(cut, nuclei.facts["lost"], run.colours.note)
    found += [doubt.reason for doubt in _doubts(run, nuclei)]
    if run.outputs.is_slide and run.outputs.formats is None:
        found.append("labels, overlay, csv and geojson omitted for its size; see export")
    return found


def _doubts(run: Run, nuclei: NucleiFile) -> list[Doubt]:
    """Return why a source cannot be what it is said to be; of a slide, by its first nuclei."""
    some, seen = next(nuclei.groups(), Instances.empty(nuclei.frame)), run.seen
    if seen is not None:
        seen = replace(seen, mm2=seen.mm2 * max(1, len(some)) / max(1, nuclei.count))
    return doubts_about(run.reader, some, seen)


def _write_all(found: NucleiFile, run: Run, files: dict[str, str]) -> None:
    """Write some files of a source, or none of them."""
    written: list[Path] = []
    try:
        for name, file in files.items():
            path = run.outputs.out.folder / file
            if path.is_dir():  # of an earlier run
                shutil.rmtree(path)
            EXPORTERS[name].write(found, run.reader.source, path)
            written.append(path)
    except BaseException:
        for path in written:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        raise


def _draw(found: NucleiFile, run: Run, path: Path) -> None:
    """Draw the overview of a slide."""
    if run.seen is None:
        return
    heat = Heat(found.frame)
    for nuclei in found.groups():
        heat.add(nuclei)
    title = f"{run.path.name}: {found.count:,} nuclei, {run.seen.mm2:.1f} mm2 of tissue"
    lost = [tuple(entry["box"]) for entry in found.facts["lost"]]
    write_png(path, draw_overview(run.seen, heat, lost, title))


def _row(run: Run, found: NucleiFile, files: dict[str, str]) -> dict[str, Any]:
    """Return what the summary states about a source."""
    frame, reader, lost = found.frame, run.reader, found.facts["lost"]
    square_mm = frame.width * frame.height * reader.mpp**2 / 1e6
    row: dict[str, Any] = {
        "source": shown(run.name),
        "status": "incomplete" if lost else "done",
        "width": frame.width,
        "height": frame.height,
        "mpp": reader.mpp,
        "mpp_from": _mpp_from(reader),
        "nuclei": found.count,
        "nuclei_per_mm2": round(found.count / square_mm, 1),
        "mean_area_um2": round(float(found.column("area_um2").mean()), 2) if found.count else None,
        "files": {"parquet": run.outputs.parquet_name, **files, **run.outputs.overview()},
        "lost": lost,
    }
    if run.seen is not None:
        row["tissue_mm2"] = round(run.seen.mm2, 3)
        row["nuclei_per_mm2_of_tissue"] = round(found.count / max(run.seen.mm2, 1e-9), 1)
        row["features"] = {name: _quantiles(found.column(name)) for name in COLUMNS}
    return row


def _mpp_from(reader: Reader) -> str:
    """Return where the resolution of a slide is from."""
    if reader.mpp == reader.source.mpp:
        return "file"
    return "option" if reader.source.mpp is None else "override"


def _quantiles(values: Float32) -> dict[str, float | None]:
    """Return mean and quantiles of a feature; None without any value.

    Example:
        >>> _quantiles(np.array([1, 2, 3, np.nan], np.float32))["q50"]
        2.0
    """
    names = ("q05", "q25", "q50", "q75", "q95")
    known = values[np.isfinite(values)]
    if not len(known):
        return dict.fromkeys(("mean", *names))
    spread = np.quantile(known, (0.05, 0.25, 0.5, 0.75, 0.95))
    told = {"mean": float(known.mean()), **dict(zip(names, spread.tolist(), strict=True))}
    return {name: round(value, 4) for name, value in told.items()}

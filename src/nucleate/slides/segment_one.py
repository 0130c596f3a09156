"""One source, from its file to its work units: start, segment, give up."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nucleate.errors import ConfigError
from nucleate.inference import engine
from nucleate.inference.backends import Model
from nucleate.inference.engine import InMemory, Sink
from nucleate.inference.inputs import as_reader, frame_of, stain_transform
from nucleate.inference.pipeline import Done, EngineOptions
from nucleate.inference.units import Unit, plan_units
from nucleate.quality.tissue import SLIDE_PIXELS, Survey, Tissue, survey
from nucleate.readers.opening import open_source
from nucleate.readers.reader import Reader
from nucleate.readers.remote import shown
from nucleate.results.parquet import open_nuclei
from nucleate.slides.manifest import (
    check_job,
    check_same,
    is_started,
    job_digest,
    job_facts,
    read_tissue,
    write_job,
)
from nucleate.slides.memory import give_back
from nucleate.slides.outputs import BatchOptions, Outputs
from nucleate.slides.unit_files import (
    UnitFiles,
    Written,
    is_written,
    unit_file,
)
from nucleate.stain.normalise import Transform

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
        started: when.
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
    started: float
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
    started = time.monotonic()
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
        path, name, reader, seen, tissue, outputs, job, digest, colours, memory, [], [], started
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
    if is_started(outputs.units):
        check_job(outputs.units, run.job)
        run.tissue = read_tissue(outputs.units, run.reader)
    elif outputs.parquet.is_file():
        check_same(open_nuclei(outputs.parquet).facts.get("job"), run.job, outputs.parquet)
        run.is_done = True


def _make_folder(run: Run, resume: bool) -> None:
    """Make the folder of the units, or find out which of them are there."""
    outputs = run.outputs
    if not (resume and is_started(outputs.units)):
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

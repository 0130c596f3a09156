"""Start, segment and abandon one source, from its file to its work units."""

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
from nucleate.slides.memory import give_back
from nucleate.slides.outputs import BatchOptions, Outputs
from nucleate.slides.resume import (
    check_job,
    check_same,
    is_started,
    job_digest,
    job_facts,
    read_tissue,
    write_job,
)
from nucleate.slides.unit_files import (
    UnitFiles,
    Written,
    is_written,
    unit_file,
)
from nucleate.stain.normalise import Transform

_LARGE_PIXELS = 25_000_000  # above this, an overlay as PNG takes seconds
RASTER_PIXELS = SLIDE_PIXELS  # above this, tissue is detected and no pixel files are written
_SHOWN_PIXELS = 1 << 29  # more do not fit into one PNG, nor into the memory of a laptop
STAGES = ("read", "network", "decode", "write")


@dataclass(slots=True)
class Run:
    """A source in progress.

    Attributes:
        path: local path of the source.
        name: name of the source as given by the user, such as a URL with its signature.
        reader: reader of the source.
        seen: survey of a slide; None for an image.
        tissue: area to segment; None for everywhere.
        outputs: paths of the results.
        job: all inputs and settings that determine the result.
        digest: digest of the job.
        colours: stain transform of the whole source.
        memory: sink for the units of an image; None if they are files, which can be resumed.
        units: all units.
        left: units to do.
        started: start time, monotonic clock.
        is_done: whether the result already existed.
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
        """Add the seconds that a unit took per stage."""
        self.spent = [a + b for a, b in zip(self.spent, seconds, strict=True)]


def start(
    path: Path, name: str, outputs: Outputs, model: Model, options: BatchOptions, spread: bool
) -> Run:
    """Open a source, determine the units to do, and create their folder.

    Args:
        path: local path of the source.
        name: name of the source as given by the user, such as a URL with its signature.
        outputs: paths of the results.
        model: the model to run.
        options: options of the call.
        spread: whether other processes segment its units, which are then stored as files.

    Raises:
        InputError: the source cannot be read, has no resolution, or its name is too long.
        ConfigError: `resume` of a run with other settings; an overlay of a large slide.
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
    if is_slide:  # opened separately, so that its cache of coarse levels is freed
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
    """Find the units or the result of an earlier run."""
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
    """Create the folder of the units, or find those that are already written."""
    outputs = run.outputs
    if not (resume and is_started(outputs.units)):
        outputs.out.remove(outputs.units_name)
        write_job(outputs.units, run.job, run.tissue)
        outputs.out.push(outputs.units_name)
    run.left = [unit for unit in run.units if not is_written(outputs.units, unit, run.digest)]


def segment_here(
    run: Run, model: Model, options: EngineOptions, tell: Callable[[Done], None]
) -> None:
    """Segment the remaining units of a source in this process."""
    outputs = run.outputs

    def written(unit: Written) -> None:
        run.add(unit.seconds)
        outputs.out.push(f"{outputs.units_name}/{unit_file(unit.unit)}")

    sink: Sink = run.memory or UnitFiles(
        outputs.units, run.digest, frame_of(run.reader), tuple(model.card.classes), written
    )
    engine.run(run.reader, model, options, sink, run.left, run.tissue, run.colours, tell)


def abandon(run: Run) -> None:
    """Remove unfinished files, unless they can be resumed."""
    run.outputs.unfinished.unlink(missing_ok=True)
    if not run.outputs.is_slide or not any(run.outputs.units.glob("unit-*.parquet")):
        shutil.rmtree(run.outputs.units, ignore_errors=True)
        folder = run.outputs.units.parent
        while folder != run.outputs.out.folder:  # folders created for it
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()
            folder = folder.parent

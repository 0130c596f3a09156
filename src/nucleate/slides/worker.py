"""What a worker of a cluster does: load the model, open a slide, segment one unit."""

from __future__ import annotations

import json
import tempfile
import threading
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from nucleate.cards import ModelCard
from nucleate.errors import optional
from nucleate.inference import engine
from nucleate.inference.backends import Model, Precision
from nucleate.inference.ensembles import with_tta
from nucleate.inference.inputs import as_reader, frame_of, stain_transform
from nucleate.inference.loading import Device, Sensitivity, at_sensitivity, load_model
from nucleate.inference.pipeline import EngineOptions
from nucleate.inference.units import Unit, plan_units
from nucleate.quality.tissue import Tissue
from nucleate.readers.opening import open_source
from nucleate.readers.reader import Reader
from nucleate.readers.remote import Mirror, fetch, is_url
from nucleate.slides.manifest import TISSUE, check_same, job_digest, job_facts, read_tissue
from nucleate.slides.unit_files import UnitFiles, Written, unit_file
from nucleate.stain.normalise import Transform

_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """How a worker loads the model.

    Attributes:
        name: as of `load_model`; a folder must be on a disk that all machines share.
        device: likewise.
        backend: likewise.
        precision: likewise.
        threads: likewise; 0 takes those that the worker was started with.
        tta: whether eight views are averaged.
        sensitivity: as of `at_sensitivity`.
    """

    name: str
    device: Device = "auto"
    backend: Any = "auto"
    precision: Precision | Literal["auto"] = "auto"
    threads: int = 0
    tta: bool = False
    sensitivity: Sensitivity = "normal"

    def load(self, threads: int = 0) -> Model:
        """Return the model, on `threads` where the spec states none."""
        model = load_model(
            self.name, self.device, self.backend, self.precision, self.threads or threads
        )
        model = at_sensitivity(model, self.sensitivity)
        return with_tta(model) if self.tta else model


@dataclass(frozen=True, slots=True)
class Work:
    """All that a worker has to know to do units of one source.

    Attributes:
        source: path on a shared disk, or URL.
        mpp: micrometres per pixel, as asked for.
        override_mpp: whether it counts against what the file states.
        model: to load.
        job: everything that the result depends on, so that all units are made alike.
        options: how to tile.
        store: folder of the units on a shared disk, or URL.
    """

    source: str = field(repr=False)  # Dask writes what fails into its log: no signatures there
    mpp: float | None
    override_mpp: bool
    model: ModelSpec
    job: str
    options: EngineOptions
    store: str = field(repr=False)


def describe_model(spec: ModelSpec) -> tuple[ModelCard, str]:
    """Return the card of a model and what its engine states of itself; runs on a worker."""
    model = spec.load(_threads())
    return model.card, model.backend.about


def run_on_worker(work: Work, key: tuple[int, int]) -> Written:
    """Segment one unit and write its file; runs on a worker.

    Raises:
        NucleateError: it cannot be done.
    """
    job = json.loads(work.job)
    with _LOCK:  # a worker of several threads loads and opens once
        model = _model(work.model, job["model_card"], _threads())
        reader, tissue, units, colours = _opened(work)
    now = job_facts(
        slide_file(work), reader, model, work.options, job["tissue_mask"], job.get("plane")
    )
    check_same(job, now, Path(work.source))
    with tempfile.TemporaryDirectory(prefix="nucleate-") as scratch:
        folder = Path(scratch) if is_url(work.store) else Path(work.store)
        written: list[Written] = []
        classes = tuple(model.card.classes)
        sink = UnitFiles(folder, job_digest(job), frame_of(reader), classes, written.append)
        engine.run(reader, model, work.options, sink, [units[key]], tissue, colours)
        if is_url(work.store):
            Mirror(folder, work.store).push(unit_file(units[key]))
    return written[0]


@lru_cache(maxsize=1)
def _model(spec: ModelSpec, card: str, threads: int) -> Model:
    """Return a model; `card`, the digest of its card, makes a retrained one another."""
    return spec.load(threads)


@lru_cache(maxsize=2)
def _opened(
    work: Work,
) -> tuple[Reader, Tissue | None, dict[tuple[int, int], Unit], Transform]:
    """Return a slide, where to look, its units and colours; kept for the next unit."""
    job = json.loads(work.job)
    model = _model(work.model, job["model_card"], _threads())
    reader = as_reader(
        open_source(slide_file(work), job.get("plane")), model.card, work.mpp, work.override_mpp
    )
    with tempfile.TemporaryDirectory(prefix="nucleate-") as scratch:
        folder = Path(scratch) if is_url(work.store) else Path(work.store)
        if is_url(work.store):
            Mirror(folder, work.store).pull_file(TISSUE)
        tissue = read_tissue(folder, reader)
    units = plan_units(reader, model.card, work.options, tissue)
    colours = stain_transform(reader.source, model.card)
    return reader, tissue, {unit.key: unit for unit in units}, colours


def slide_file(work: Work) -> Path:
    """Return where the slide is on this machine; one behind a URL is copied here first."""
    if is_url(work.source):
        return fetch(work.source, Path(tempfile.gettempdir()) / "nucleate-slides")
    return Path(work.source)


def _threads() -> int:
    """Return the threads of the worker that this runs on; 0 where it runs on none."""
    distributed: Any = optional("distributed", "cluster")
    try:
        return int(distributed.get_worker().state.nthreads)
    except ValueError:
        return 0

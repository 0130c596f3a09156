"""Code that runs on the workers of a cluster: load the model, open a slide, segment one unit."""

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
from nucleate.inference.loading import (
    Device,
    Sensitivity,
    at_sensitivity,
    load_model,
    with_thresholds,
)
from nucleate.inference.pipeline import EngineOptions
from nucleate.inference.units import Unit, plan_units
from nucleate.quality.tissue import Tissue
from nucleate.readers.opening import open_source
from nucleate.readers.reader import Reader
from nucleate.readers.remote import Mirror, fetch, is_url
from nucleate.slides.resume import TISSUE, check_same, job_digest, job_facts, read_tissue
from nucleate.slides.unit_files import UnitFiles, Written, unit_file
from nucleate.stain.normalise import Transform

_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Arguments with which a worker loads the model.

    Attributes:
        name: as in `load_model`; a folder must be on a shared disk.
        device: as in `load_model`.
        backend: as in `load_model`.
        precision: as in `load_model`.
        threads: as in `load_model`; 0 uses the threads of the worker.
        tta: whether to average eight views.
        sensitivity: as in `at_sensitivity`.
        thresholds: names and values, as in `with_thresholds`.
    """

    name: str
    device: Device = "auto"
    backend: Any = "auto"
    precision: Precision | Literal["auto"] = "auto"
    threads: int = 0
    tta: bool = False
    sensitivity: Sensitivity = "normal"
    thresholds: tuple[tuple[str, float], ...] = ()

    def load(self, threads: int = 0) -> Model:
        """Load the model, with `threads` if the spec states none."""
        model = load_model(
            self.name, self.device, self.backend, self.precision, self.threads or threads
        )
        model = at_sensitivity(model, self.sensitivity)
        if self.thresholds:
            model = with_thresholds(model, dict(self.thresholds))
        return with_tta(model) if self.tta else model


@dataclass(frozen=True, slots=True)
class Work:
    """Everything that a worker needs to segment units of one source.

    Attributes:
        source: path on a shared disk, or URL.
        mpp: micrometres per pixel, as requested.
        override_mpp: whether it overrides a different value in the file.
        model: the model to load.
        job: all inputs and settings that determine the result, so that units are consistent.
        options: tiling, threads and processes.
        store: folder of the units on a shared disk, or URL.
    """

    source: str = field(repr=False)  # Dask logs failing tasks: keep signatures out
    mpp: float | None
    override_mpp: bool
    model: ModelSpec
    job: str
    options: EngineOptions
    store: str = field(repr=False)


def describe_model(spec: ModelSpec) -> tuple[ModelCard, str]:
    """Return the card of a model and the description of its engine; runs on a worker."""
    model = spec.load(_threads())
    return model.card, model.backend.about


def run_on_worker(work: Work, key: tuple[int, int]) -> Written:
    """Segment one unit and write its file; runs on a worker.

    Raises:
        NucleateError: the unit cannot be segmented.
    """
    job = json.loads(work.job)
    with _LOCK:  # load and open only once per worker, even with several threads
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
    """Load a model; `card`, the digest of its card, invalidates the cache after retraining."""
    return spec.load(threads)


@lru_cache(maxsize=2)
def _opened(
    work: Work,
) -> tuple[Reader, Tissue | None, dict[tuple[int, int], Unit], Transform]:
    """Open a slide; return it with its tissue, units and stain transform, cached between units."""
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
    """Return the local path of the slide, after downloading it if it is a URL."""
    if is_url(work.source):
        return fetch(work.source, Path(tempfile.gettempdir()) / "nucleate-slides")
    return Path(work.source)


def _threads() -> int:
    """Return the number of threads of the current worker; 0 outside a worker."""
    distributed: Any = optional("distributed", "cluster")
    try:
        return int(distributed.get_worker().state.nthreads)
    except ValueError:
        return 0

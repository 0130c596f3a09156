"""Units of many slides on many machines, by Dask.

Dask sends code and arguments as pickles: its scheduler must be reachable by people you trust only.
"""

from __future__ import annotations

import json
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml

from nucleate.cards import ModelCard
from nucleate.config import load_yaml
from nucleate.errors import ConfigError, InputError, ModelError, NucleateError, optional
from nucleate.files import read_text
from nucleate.inference import engine
from nucleate.inference.backends import Backend, Model, Precision
from nucleate.inference.ensembles import with_tta
from nucleate.inference.inputs import as_reader, frame_of, stain_transform
from nucleate.inference.loading import Device, Sensitivity, at_sensitivity, load_model
from nucleate.inference.pipeline import EngineOptions
from nucleate.inference.units import Unit, plan_units
from nucleate.quality.tissue import Tissue
from nucleate.readers.opening import open_source
from nucleate.readers.reader import Reader
from nucleate.readers.remote import Mirror, fetch, is_url, shown
from nucleate.slides.manifest import TISSUE, check_same, job_digest, job_facts, read_tissue
from nucleate.slides.outputs import BatchOptions
from nucleate.slides.segment_one import Run
from nucleate.slides.unit_files import UnitFiles, Written, unit_file
from nucleate.stain.normalise import Transform
from nucleate.types import Maps, UInt8

_RESOURCE = "GPU"
_LOCK = threading.Lock()
_ADDRESS = re.compile(r"(?:\w+://)?\S+:\d{1,5}|inproc://\S+")


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


class Elsewhere:
    """A backend that runs on other machines only."""

    def __init__(self, about: str) -> None:
        self.about = about

    def __call__(self, batch: UInt8) -> Maps:
        """Refuse."""
        raise ModelError(
            "The model runs on the workers only. Run without --scheduler to use it on this machine."
        )


class Cluster:
    """Workers of a Dask scheduler; use `connect`."""

    def __init__(self, client: Any, spec: ModelSpec) -> None:  # noqa: ANN401
        self._client, self._spec = client, spec
        self._futures: dict[int, list[Any]] = {}
        self._needs = {"resources": {_RESOURCE: 1}} if spec.device == "cuda" else {}

    def model(self, timeout_s: float = 600.0) -> Model:
        """Return the card of the model as a worker loads it, without the network.

        Args:
            timeout_s: how long to wait for a worker.

        Raises:
            ModelError: no worker comes, or it cannot load the model.
        """
        future = self._client.submit(_describe, self._spec, pure=False, **self._needs)
        try:
            card, about = future.result(timeout=timeout_s)
        except TimeoutError as error:
            future.cancel()
            wanted = ' with a GPU (started with --resources "GPU=1")' if self._needs else ""
            raise ModelError(
                f"No worker{wanted} connected within {timeout_s:.0f} s. Start workers, or check "
                "their logs."
            ) from error
        backend: Backend = Elsewhere(about)
        return Model(card, backend)

    def run(
        self, runs: Iterator[tuple[int, Run]], options: BatchOptions, out: Mirror
    ) -> Iterator[tuple[int, Written | NucleateError]]:
        """Yield written units of runs as they come, or why a run cannot be finished.

        The next run is started when less than twice what the workers do at a time is waiting.
        """
        distributed: Any = optional("distributed", "cluster")
        done = distributed.as_completed(loop=self._client.loop)
        owner: dict[str, tuple[int, str]] = {}
        more = True
        while more or not done.is_empty():
            while more and done.count() < 2 * max(1, sum(self._client.nthreads().values())):
                begun = next(runs, None)
                more = begun is not None
                if begun is not None:
                    i, run = begun
                    self._futures[i] = self._submit(run, options, out)
                    owner |= {future.key: (i, shown(run.name)) for future in self._futures[i]}
                    done.update(self._futures[i])
            if done.is_empty():
                break
            future = next(done)
            i, name = owner.pop(future.key)
            if not future.cancelled():
                yield i, _outcome(future, name)

    def _submit(self, run: Run, options: BatchOptions, out: Mirror) -> list[Any]:
        folder = run.outputs.units
        store = str(folder.resolve()) if out.url is None else f"{out.url}/{run.outputs.units_name}"
        source = run.name if is_url(run.name) else str(run.path.resolve())
        told = json.dumps(run.job, sort_keys=True)
        work = Work(
            source, options.mpp, options.override_mpp, self._spec, told, options.engine, store
        )
        return [
            self._client.submit(run_on_worker, work, unit.key, pure=False, **self._needs)
            for unit in sorted(run.left, key=lambda unit: -len(unit.tiles))
        ]

    def forget(self, number: int) -> None:
        """Let go of a run; what is left of it is given up."""
        self._client.cancel(self._futures.pop(number, []))


def _outcome(future: Any, name: str) -> Written | NucleateError:  # noqa: ANN401
    """Return what a worker gives for a unit of the source `name`, or why it gives nothing."""
    distributed: Any = optional("distributed", "cluster")
    try:
        finished: Written = future.result()
    except NucleateError as error:
        return error
    except distributed.KilledWorker:
        return InputError(
            f"{name}: workers died repeatedly on one unit, probably for lack of memory. Lower "
            "--tile-px or give the workers more memory, and continue with --resume."
        )
    except Exception as error:  # what a worker's machine does to it
        return InputError(
            f"{name}: a worker failed ({type(error).__name__}: {error}). See its log, and continue "
            "with --resume."
        )
    return finished


class connect:  # noqa: N801  # a context manager, used as a function
    """Give the workers of a scheduler, or of a Slurm profile.

    Args:
        scheduler: address, as tcp://host:8786; None to start workers by `profile`.
        profile: YAML file, see `read_profile`.
        spec: the model.
        tell: is given a line about the workers.
        timeout_s: how long to wait for the scheduler.

    Raises:
        ConfigError: no scheduler answers, or a damaged profile.
    """

    def __init__(
        self,
        scheduler: str | None,
        profile: Path | None,
        spec: ModelSpec,
        tell: Callable[[str], None] = lambda _: None,
        timeout_s: float = 30.0,
    ) -> None:
        self._scheduler, self._profile, self._spec, self._tell = scheduler, profile, spec, tell
        self._timeout_s = timeout_s
        self._open: list[Any] = []

    def __enter__(self) -> Cluster:
        distributed: Any = optional("distributed", "cluster")
        address: Any = self._scheduler
        if address is not None and not _ADDRESS.fullmatch(address):
            raise ConfigError(
                f"--scheduler {address!r}: is not an address. Write it as tcp://HOST:PORT, as "
                "'dask scheduler' prints it."
            )
        if self._profile is not None:
            address = start_slurm(read_profile(self._profile))
            self._open.append(address)
        try:
            client = distributed.Client(address, timeout=self._timeout_s, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            self.__exit__()
            raise ConfigError(
                f"--scheduler {self._scheduler}: no Dask scheduler answers there. Start one with "
                "'dask scheduler', and workers with 'dask worker ADDRESS'."
            ) from error
        self._open.append(client)
        count = len(client.nthreads())
        self._tell(f"{count} workers of {client.scheduler.address}")
        return Cluster(client, self._spec)

    def __exit__(self, *_: object) -> None:
        for thing in reversed(self._open):
            thing.close()


def read_profile(path: Path) -> dict[str, Any]:
    """Return a Slurm profile: `jobs` and the keyword arguments of dask-jobqueue's SLURMCluster.

    Raises:
        InputError: it cannot be read.
        ConfigError: it is no mapping, or has no `jobs`, `cores` or `memory`.
    """
    try:
        found = load_yaml(read_text(path), yaml.SafeLoader, path)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{path}: is not valid YAML ({str(error).splitlines()[0]}). Correct the file."
        ) from error
    known = found if isinstance(found, dict) else {}
    lacking = [key for key in ("jobs", "cores", "memory") if key not in known]
    if lacking:
        raise ConfigError(f"{path}: lacks {lacking[0]!r}. Add jobs, cores and memory.")
    jobs = known["jobs"]
    if not isinstance(jobs, int) or isinstance(jobs, bool) or not 1 <= jobs <= 10_000:
        raise ConfigError(f"{path}: jobs = {jobs!r}: must be a number from 1 to 10000.")
    return dict(known)


def start_slurm(profile: dict[str, Any], start: bool = True) -> Any:  # noqa: ANN401
    """Return a cluster whose workers are Slurm jobs.

    Args:
        profile: from `read_profile`.
        start: whether jobs are submitted; without, its `job_script()` can be looked at.

    Raises:
        ConfigError: dask-jobqueue does not know a key.
    """
    jobqueue: Any = optional("dask_jobqueue", "cluster")
    wanted = {"processes": 1, **profile}
    jobs = wanted.pop("jobs")
    try:
        cluster = jobqueue.SLURMCluster(**wanted)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The Slurm profile is invalid ({error}). Correct it.") from error
    if start:
        cluster.scale(jobs=jobs)
    return cluster


def _describe(spec: ModelSpec) -> tuple[ModelCard, str]:
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

"""Segment the units of many slides on many machines with Dask.

Dask sends code and arguments as pickles: only people you trust may reach its scheduler.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nucleate.errors import ConfigError, InputError, ModelError, NucleateError, optional
from nucleate.inference.backends import Backend, Model
from nucleate.readers.remote import Mirror, is_url, shown
from nucleate.slides.outputs import BatchOptions
from nucleate.slides.segment_one import Run
from nucleate.slides.slurm import read_profile, start_slurm
from nucleate.slides.unit_files import Written
from nucleate.slides.worker import ModelSpec, Work, describe_model, run_on_worker
from nucleate.types import Maps, UInt8

_RESOURCE = "GPU"
_ADDRESS = re.compile(r"(?:\w+://)?\S+:\d{1,5}|inproc://\S+")


class Elsewhere:
    """A backend that runs only on other machines."""

    def __init__(self, about: str) -> None:
        self.about = about

    def __call__(self, batch: UInt8) -> Maps:
        """Raise a `ModelError`."""
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
        """Return the model card as loaded by a worker, without the network.

        Args:
            timeout_s: seconds to wait for a worker.

        Raises:
            ModelError: no worker connects, or it cannot load the model.
        """
        future = self._client.submit(describe_model, self._spec, pure=False, **self._needs)
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
        """Yield units of runs as they are written, or the error that prevents a run from finishing.

        The next run is started when fewer units are pending than twice the number of threads.
        """
        distributed: Any = optional("distributed", "cluster")
        done = distributed.as_completed(loop=self._client.loop)
        owner: dict[str, tuple[int, str]] = {}
        more = True
        while more or not done.is_empty():
            while more and done.count() < 2 * max(1, sum(self._client.nthreads().values())):
                started = next(runs, None)
                more = started is not None
                if started is not None:
                    i, run = started
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
        job_text = json.dumps(run.job, sort_keys=True)
        work = Work(
            source, options.mpp, options.override_mpp, self._spec, job_text, options.engine, store
        )
        return [
            self._client.submit(run_on_worker, work, unit.key, pure=False, **self._needs)
            for unit in sorted(run.left, key=lambda unit: -len(unit.tiles))
        ]

    def forget(self, number: int) -> None:
        """Cancel the remaining units of a run."""
        self._client.cancel(self._futures.pop(number, []))


def _outcome(future: Any, name: str) -> Written | NucleateError:  # noqa: ANN401
    """Return the result of a worker for a unit of the source `name`, or its error."""
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
    except Exception as error:  # any failure of a worker's machine
        return InputError(
            f"{name}: a worker failed ({type(error).__name__}: {error}). See its log, and continue "
            "with --resume."
        )
    return finished


class connect:  # noqa: N801  # a context manager, used as a function
    """Connect to the workers of a scheduler, or start workers from a Slurm profile.

    Args:
        scheduler: address, such as tcp://host:8786; None to start workers from `profile`.
        profile: YAML file, see `read_profile`.
        spec: the model.
        tell: called with a line about the workers.
        timeout_s: seconds to wait for the scheduler.

    Raises:
        ConfigError: no scheduler answers, or the profile is damaged.
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

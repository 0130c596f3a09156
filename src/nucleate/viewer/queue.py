"""Segment images dropped on the page, one at a time, and keep a few results in memory."""

from __future__ import annotations

import contextlib
import queue
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from nucleate.errors import InputError, NucleateError
from nucleate.inference.backends import Model
from nucleate.inference.pipeline import EngineOptions
from nucleate.inference.segment import find_nuclei
from nucleate.readers.array import ArraySource
from nucleate.readers.images import IMAGES, read_image
from nucleate.resolution import no_mpp
from nucleate.results.names import PARQUET
from nucleate.viewer.contents import Content, keep
from nucleate.viewer.pixels import Pyramid
from nucleate.viewer.table import Table

WAITING = 8  # maximum number of waiting images
KEPT = 8  # finished images kept in memory; the oldest are dropped


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on dropped images.

    Attributes:
        megabytes: maximum size of a file.
        megapixels: maximum size of an image.
        seconds: maximum time for segmenting one image.
    """

    megabytes: int = 64
    megapixels: int = 100
    seconds: float = 600.0


@dataclass(slots=True)
class Job:
    """One dropped image.

    Attributes:
        name: file name sent by the browser.
        state: `waiting`, `running`, `done` or `failed`.
        done: number of finished tiles.
        tiles: total number of tiles; 0 until it is known.
        error: message, if it failed.
        shown: content to show, if it is done.
    """

    name: str
    state: str = "waiting"
    done: int = 0
    tiles: int = 0
    error: str = ""
    shown: Content | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the state for the page."""
        return {
            "name": self.name, "state": self.state, "done": self.done, "tiles": self.tiles,
            "error": self.error,
        }  # fmt: skip


class OverTimeError(NucleateError):
    """Segmenting an image exceeds the time limit, or the server stops."""


class Queue:
    """Segments images one at a time in a separate thread.

    Args:
        model: the model to run.
        limits: limits on images.
        scratch: folder for tables of nuclei; each is deleted with its image.
        clock: monotonic clock in seconds.
    """

    def __init__(
        self, model: Model, limits: Limits, scratch: Path, clock: Callable[[], float]
    ) -> None:
        self.model, self.limits = model, limits
        self._scratch, self._clock = scratch, clock
        self._jobs: dict[int, Job] = {}
        self._next, self._stopping = 0, False
        self._lock = threading.Lock()
        self._waiting: queue.Queue[tuple[int, bytes, float | None] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._work, name="segment", daemon=True)
        self._thread.start()

    def add(self, name: str, data: bytes, mpp: float | None) -> int:
        """Add an image to the queue; return its number.

        Raises:
            InputError: too many images are waiting, or the file ending is not supported.
        """
        name = PurePosixPath(name.replace("\\", "/")).name[:120] or "image"
        if not name.lower().endswith(IMAGES):
            raise InputError(
                f"{name}: is not a supported image format. Supported: {' '.join(IMAGES)}"
            )
        with self._lock:
            number = self._next
            self._jobs[number] = Job(name)  # first, because it may start at once
            try:
                self._waiting.put_nowait((number, data, mpp))
            except queue.Full:
                del self._jobs[number]
                raise InputError(
                    f"{name}: {WAITING} images are already waiting. Try again later."
                ) from None
            self._next += 1
        return number

    def finished(self) -> list[tuple[int, Content]]:
        """Return the finished images, with their numbers."""
        with self._lock:
            return [(n, job.shown) for n, job in self._jobs.items() if job.shown is not None]

    def _forget(self) -> None:
        """Drop the oldest finished images beyond `KEPT`."""
        with self._lock:
            over = []
            for state in ("done", "failed"):  # separately, so that failures do not displace results
                ended = [n for n, job in self._jobs.items() if job.state == state]
                over += ended[: max(0, len(ended) - KEPT)]
            for old in over:
                gone = self._jobs.pop(old)
                for table in gone.shown.layers.values() if gone.shown is not None else ():
                    table.file.path.unlink(missing_ok=True)

    def job(self, number: int) -> Job:
        """Return an image by its number.

        Raises:
            InputError: there is no such image, or it was dropped.
        """
        with self._lock:
            if number not in self._jobs:
                raise InputError(f"Image {number} is no longer in memory. Drop it again.")
            return self._jobs[number]

    def close(self) -> None:
        """Cancel waiting and running images, and wait for the thread to end."""
        self._stopping = True
        with contextlib.suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            number, data, mpp = item
            job = self.job(number)
            job.state = "running"
            try:
                job.shown = self._segment(job, data, mpp, number)
                job.state = "done"
            except NucleateError as error:
                job.error, job.state = str(error), "failed"
            except MemoryError:
                job.error, job.state = f"{job.name}: there is not enough memory.", "failed"
            except Exception as error:  # the thread must survive for the next image
                job.error, job.state = f"{job.name}: failed ({type(error).__name__}).", "failed"
            self._forget()

    def _segment(self, job: Job, data: bytes, mpp: float | None, number: int) -> Content:
        started = self._clock()
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            path = Path(folder) / f"image{Path(job.name).suffix.lower()}"
            path.write_bytes(data)
            try:
                image, stated = read_image(path, most_pixels=self.limits.megapixels * 1_000_000)
            except InputError as error:
                raise InputError(str(error).replace(str(path), job.name)) from error
        source = ArraySource(image, stated, job.name)
        if mpp is None and stated is None:
            raise no_mpp(job.name, remedy="Enter µm per pixel")

        def progress(done: int, tiles: int) -> None:
            job.done, job.tiles = done, tiles
            if self._stopping:
                raise OverTimeError(f"{job.name}: the server has stopped. Start it again.")
            if self._clock() - started > self.limits.seconds:
                raise OverTimeError(
                    f"{job.name}: takes longer than {self.limits.seconds:g} s. Use "
                    "`nucleate segment`, which has no limit."
                )

        nuclei = find_nuclei(source, self.model, mpp, EngineOptions(), progress).nuclei
        table = Table(keep(nuclei, self._scratch / f"{number}{PARQUET}", job.name))
        return Content(
            job.name, nuclei.frame, Pyramid(lambda: source), {self.model.card.name: table}
        )

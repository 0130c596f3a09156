"""Segment many sources one by one, and write their files and a summary into one folder."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nucleate.errors import (
    ConfigError,
    NucleateError,
    OutputError,
    explain_os_error,
    optional,
    pick,
)
from nucleate.inference.backends import Model
from nucleate.inference.pipeline import Done
from nucleate.readers.remote import Mirror, fetch, is_url, shown, url_name
from nucleate.results.formats import EXPORTERS
from nucleate.slides.eta import Progress
from nucleate.slides.find_sources import result_stems
from nucleate.slides.outputs import BatchOptions, Outputs
from nucleate.slides.segment_one import Run, abandon, segment_here, start
from nucleate.slides.summary import add_to_summary, check_summary, summarise
from nucleate.slides.write_one import finish

if TYPE_CHECKING:
    from nucleate.slides.cluster import Cluster


def run_batch(
    sources: Sequence[Path | str],
    out: Path | str,
    model: Model,
    options: BatchOptions,
    tell: Callable[[str], None] = lambda _: None,
    progress: Callable[[Path, Progress], None] = lambda *_: None,
    cluster: Cluster | None = None,
) -> dict[str, Any]:
    """Segment every source, write its files into `out`, and write and return the summary.

    A source that fails is listed with the error and does not stop the others; if every source
    fails, no summary is written and the first error is raised.

    Args:
        sources: from `expand_sources`.
        out: folder of all results, or its URL.
        model: the model to run.
        options: mpp, formats, tiles.
        tell: called with one line per source.
        progress: called with the source and its progress.
        cluster: workers that segment the units; None for this process.

    Returns:
        The summary of this call; `summary.json` also lists the results of earlier calls in `out`.

    Raises:
        ConfigError: an unknown format.
        InputError: `out` has a summary.json of another program.
        NucleateError: every source failed.
    """
    for name in options.formats or ():
        if name != "parquet":
            for package in pick(EXPORTERS, name, "format").packages:
                optional(package, "export")
    with _scratch(out) as (folder, mirror):
        if mirror.folder.exists() and not mirror.folder.is_dir():
            raise ConfigError(f"{out}: is a file, but results need a folder. Choose another -o.")
        stems = result_stems(sources)
        check_summary(mirror, stems)
        is_new = not mirror.folder.exists()
        batch = _Batch(sources, stems, model, options, folder, mirror, tell, progress)
        try:
            rows = batch.here() if cluster is None else batch.there(cluster)
            if batch.first_error is not None and all(row["status"] == "failed" for row in rows):
                raise batch.first_error
            summary = summarise(rows, model, options)
            add_to_summary(mirror, summary)
        except BaseException:
            if is_new:
                with suppress(OSError):  # it is not empty, or another process has removed it
                    mirror.folder.rmdir()
            raise
    return summary


@contextmanager
def _scratch(out: Path | str) -> Iterator[tuple[Path, Mirror]]:
    """Provide a folder for downloads, and the folder of results with its remote copy."""
    with tempfile.TemporaryDirectory(prefix="nucleate-", ignore_cleanup_errors=True) as scratch:
        if is_url(out):
            results = Path(scratch) / "out"
            results.mkdir()
            yield Path(scratch) / "in", Mirror(results, str(out))
        else:
            yield Path(scratch) / "in", Mirror(Path(out), None)


class _Batch:
    """The sources and shared settings of one call."""

    def __init__(
        self,
        sources: Sequence[Path | str],
        stems: dict[Path | str, str],
        model: Model,
        options: BatchOptions,
        scratch: Path,
        out: Mirror,
        tell: Callable[[str], None],
        progress: Callable[[Path, Progress], None],
    ) -> None:
        self._sources, self._stems = sources, stems
        self._model, self._options, self._scratch, self._out = model, options, scratch, out
        self._tell, self._progress = tell, progress
        self._spread = False
        self.first_error: NucleateError | None = None

    def here(self) -> list[dict[str, Any]]:
        """Segment the sources in this process; while one is written, the next is segmented."""
        rows: list[dict[str, Any]] = []
        written: deque[tuple[Run | None, Future[dict[str, Any]]]] = deque()
        with ThreadPoolExecutor(1, "finish") as pen:
            try:
                for source in self._sources:
                    run = self._segmented(source)
                    if isinstance(run, Run):
                        written.append((run, pen.submit(self._finish, run)))
                    else:
                        written.append((None, pen.submit(self._failed, source, run)))
                    while len(written) > 1 or (written and written[0][1].done()):
                        rows.append(written.popleft()[1].result())
                rows += [future.result() for _, future in written]
            except BaseException:
                for waiting, future in written:
                    if future.cancel() and waiting is not None:
                        abandon(waiting)
                raise
        return rows

    def _segmented(self, source: Path | str) -> Run | NucleateError:
        """Segment the units of a source; return the run, or the error."""
        try:
            run = self._begin(source)
        except NucleateError as error:
            return error
        state = Progress(sum(len(unit.tiles) for unit in run.left), _mpp(run, self._model))

        def report_tile(done: Done) -> None:
            state.add(done)
            self._progress(run.path, state)

        try:
            with _said(run.path):
                segment_here(run, self._model, self._options.engine, report_tile)
        except NucleateError as error:
            abandon(run)
            return error
        except BaseException:
            abandon(run)
            raise
        return run

    def there(self, cluster: Cluster) -> list[dict[str, Any]]:
        """Segment the units of all sources on a cluster, as workers become free."""
        self._spread = True
        rows: dict[int, dict[str, Any]] = {}
        under_way: dict[int, tuple[Run, Progress]] = {}

        def started() -> Iterator[tuple[int, Run]]:
            for i, source in enumerate(self._sources):
                try:
                    run = self._begin(source)
                except NucleateError as error:
                    rows[i] = self._failed(source, error)
                    continue
                if not run.left:
                    rows[i] = self._finish(run)
                    continue
                tiles = sum(len(unit.tiles) for unit in run.left)
                under_way[i] = run, Progress(tiles, _mpp(run, self._model))
                yield i, run

        try:
            for i, outcome in cluster.run(started(), self._options, self._out):
                if i not in under_way:  # it has failed
                    continue
                run, state = under_way[i]
                if isinstance(outcome, NucleateError):
                    rows[i] = self._failed(run.name, outcome)
                    abandon(run)
                else:
                    run.add(outcome.seconds)
                    state.add_unit(outcome)
                    self._progress(run.path, state)
                    if state.done == state.tiles:
                        rows[i] = self._finish(run)
                if i in rows:
                    del under_way[i]
                    cluster.forget(i)
        except BaseException:
            for run, _ in under_way.values():
                abandon(run)
            raise
        return [rows[i] for i in sorted(rows)]

    def _begin(self, source: Path | str) -> Run:
        path = fetch(str(source), self._scratch) if is_url(source) else Path(source)
        outputs = Outputs(self._out, self._stems[source], self._options.formats)
        with _said(path):
            return start(path, str(source), outputs, self._model, self._options, self._spread)

    def _finish(self, run: Run) -> dict[str, Any]:
        try:
            with _said(run.path):
                row = finish(run, self._model.card)
        except NucleateError as error:
            abandon(run)
            return self._failed(run.name, error)
        if is_url(run.name):  # a local copy that is no longer needed
            run.path.unlink(missing_ok=True)
        self._tell(
            f"{run.path.name}: {row['nuclei']} nuclei in {row['seconds']:.1f} s"
            + "".join(f"; {note}" for note in row["notes"])
        )
        return row

    def _failed(self, source: Path | str, error: NucleateError) -> dict[str, Any]:
        self.first_error = self.first_error or error
        name = f"{url_name(source)}: "
        if len(self._sources) > 1:  # the error of a single source is raised instead
            self._tell(f"failed: {name}{str(error).removeprefix(name)}")
        return {"source": shown(source), "status": "failed", "error": str(error)}


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """Turn system errors of one source into a `NucleateError`, so that the others continue."""
    try:
        yield
    except OSError as error:
        raise OutputError(explain_os_error(error, error.filename or path)) from error


def _mpp(run: Run, model: Model) -> float:
    return run.reader.grid(model.card.mpp).mpp

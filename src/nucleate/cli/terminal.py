"""Terminal output: results on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TextIO

from nucleate.errors import without_secrets

if TYPE_CHECKING:
    from rich.table import Table

    from nucleate.slides.eta import Progress

_EVERY_S = 30.0  # interval of progress lines where there is no bar


class Bar:
    """A progress bar on a terminal; elsewhere, a line every half minute."""

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} tiles, {task.fields[pace]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._progress.start()
        self._task: Any = None
        self._path: Path | None = None
        self._said = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, markup=False)

    def show(self, path: Path, state: Progress) -> None:
        """Update the bar of a source."""
        if path != self._path:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._path = path
            self._task = self._progress.add_task(path.name, total=state.tiles, pace="")
        self._progress.update(self._task, completed=state.done, pace=str(state))
        if not self._console.is_terminal and time.monotonic() - self._said > _EVERY_S:
            self._said = time.monotonic()
            self.say(f"{path.name}: {state.done} of {state.tiles} tiles, {state}, {state.left()}")


def say(text: str) -> None:
    """Print a line on stderr, unless the command is quiet."""
    sys.stderr.write(f"{text}\n")


_unhushed: list[TextIO] = []  # real stderr of a quiet command


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Suppress everything but results and warnings within this context."""
    _unhushed.append(sys.stderr)
    try:
        with (
            open(os.devnull, "w", encoding="utf-8") as nowhere,
            contextlib.redirect_stderr(nowhere),
        ):
            yield
    finally:
        _unhushed.pop()


def is_hushed() -> bool:
    """Return whether the command is quiet."""
    return bool(_unhushed)


def warn(text: str) -> None:
    """Print a warning on stderr, even if the command is quiet."""
    (_unhushed[-1] if _unhushed else sys.stderr).write(f"{text}\n")


def show(text: str) -> None:
    """Print a result."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()  # a program may read it through a pipe


def show_table(table: Table) -> None:
    """Print a table of results."""
    from rich.console import Console

    Console(highlight=False).print(table)


_programs: list[TextIO] = []  # streams for JSON answers


@contextlib.contextmanager
def answering(stream: TextIO) -> Iterator[None]:
    """Write JSON answers to a stream within this context."""
    _programs.append(stream)
    try:
        yield
    finally:
        _programs.pop()


def answer(more: Callable[[], dict[str, Any]] = dict, **facts: Any) -> None:  # noqa: ANN401
    """Write the result of a command as JSON, if --json is given.

    `show` prints the same for people. Paths and arrays become text and lists.

    Args:
        more: computes further facts that take time; called only with --json.
        facts: the result.
    """
    for stream in _programs:
        from nucleate.evaluation.report import no_nan

        line = json.dumps(no_nan({**facts, **more()}), default=_plain, ensure_ascii=False)
        stream.write(f"{line}\n")
        stream.flush()


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Convert paths to text, and NumPy values to Python values."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def counted(number: int, what: str) -> str:
    """Format a number with its noun, in the singular for 1.

    Example:
        >>> counted(1, "source"), counted(2, "source")
        ('1 source', '2 sources')
    """
    return f"{number} {what}{'' if number == 1 else 's'}"


def fail(text: str, code: int = 2) -> int:
    """Print an error on one line of stderr, and as JSON with --json; return the exit code."""
    line = " ".join(without_secrets(text).split())
    sys.stderr.write(f"nucleate: {line}\n")
    if "--json" in sys.argv:
        with answering(sys.stdout):
            answer(error=line)
    return code


def command_line(root: Path | None = None) -> str:
    """Return the command as typed, with absolute paths and `root` reduced to their last name.

    Signatures and passwords are removed from addresses.
    """
    words = []
    for word in sys.argv[1:]:
        scheme, remote, rest = word.partition("://")
        if remote:
            rest = rest.partition("?")[0] if scheme.endswith(("http", "https")) else rest
            words.append(without_secrets(scheme + remote + rest))
            continue
        key, found, value = word.rpartition("=")
        known = Path(value).is_absolute() or (root is not None and value == str(root))
        words.append(key + found + (Path(value).name if known else value))
    return shlex.join(["nucleate", *words])

"""A lock file that keeps other processes from changing a file."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from nucleate.errors import OutputError, explain_os_error


@contextlib.contextmanager
def alone(path: Path, patience_s: float = 30.0) -> Iterator[None]:
    """Keep other processes from changing a file, on this machine or others that share the disk.

    A file `.NAME.lock` beside it marks the lock. A lock unchanged for `patience_s` seconds is taken
    for that of a killed process and is removed, so lock for moments only.

    Raises:
        OutputError: the folder cannot be written to.
    """
    lock = path.with_name(f".{path.name}.lock")
    seen, since = None, time.monotonic()
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        while not _made(lock):
            now = _state(lock)
            if now != seen:
                seen, since = now, time.monotonic()
            elif now is not None and time.monotonic() - since > patience_s:
                lock.unlink(missing_ok=True)
            time.sleep(0.02)
    except OSError as error:
        raise OutputError(explain_os_error(error, path)) from error
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _made(lock: Path) -> bool:
    """Create a file; return False if it exists already."""
    try:
        os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    except PermissionError:
        if os.name == "nt":  # Windows: another process is removing the file
            return False
        raise
    return True


def _state(path: Path) -> tuple[int, int] | None:
    """Return an identity of a file that changes if it is replaced; None if it does not exist."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns

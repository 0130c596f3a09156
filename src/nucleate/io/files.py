"""Writing that is all or nothing: a final name never holds half a file."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from nucleate.errors import InputError, OutputError, explain_os_error


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` when the block ends well.

    The file is flushed to the disk before it is renamed. When the block fails, the temporary
    file is removed and an earlier file at `path` is left as it was.

    Args:
        path: final name; its folder is created.

    Raises:
        OutputError: the file cannot be written (full disk, no permission, …).

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "a.txt"
        >>> with atomic(target) as temporary:
        ...     _ = temporary.write_text("done")
        >>> target.read_text()
        'done'
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(explain_os_error(error, path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, all or nothing.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_text(path: Path, limit: int = 64 << 20) -> str:
    """Return the text of a UTF-8 file of at most `limit` bytes.

    Raises:
        InputError: the file is missing, too large, or not UTF-8.
    """
    try:
        if path.stat().st_size > limit:
            raise InputError(f"{path}: larger than {limit >> 20} MiB. Is this the right file?")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(explain_os_error(error, path)) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a UTF-8 text file. Is this the right file?") from error


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()

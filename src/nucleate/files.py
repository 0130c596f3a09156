"""Atomic writing, reading with size limits, and content hashes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Protocol

from nucleate.errors import ConfigError, InputError, OutputError, explain_os_error

_TEXTS = (".json", ".geojson", ".xml", ".csv", ".txt", ".yaml", ".yml")
_PACKED_TEXT = 16 << 20, 50  # bytes that are always allowed, and bytes per packed byte
_PACKED = 256 << 20, 200

PathLike = Path | zipfile.Path  # both have name, suffix and open


def as_path(path: str | PathLike) -> PathLike:
    """Convert a path to a path object.

    Raises:
        InputError: `path` is not a path.

    Example:
        >>> as_path("a/b.png").name
        'b.png'
    """
    if not isinstance(path, str | Path | zipfile.Path):
        raise InputError(f"{type(path).__name__} is not a path. Pass the path of a file.")
    return Path(path) if isinstance(path, str) else path


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` when the block succeeds.

    The file is flushed to disk before the renaming. If the block fails, the temporary file is
    removed and an existing file at `path` stays unchanged.

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
    temporary = _temporary(path)
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # /dev/null, a pipe
            raise OutputError(
                f"{path}: is not a regular file and is not replaced. Choose another name."
            )
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


def _temporary(path: Path) -> Path:
    """Return an unused name beside `path`."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")


def excess_bytes(path: Path) -> int:
    """Return by how many bytes a name exceeds the limit of its file system; 0 if it fits.

    Example:
        >>> excess_bytes(Path("a.png")), excess_bytes(Path("a" * 300)) > 0
        (0, True)
    """
    folder = next((p for p in path.absolute().parents if p.is_dir()), Path())
    most = os.pathconf(folder, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    return max(0, len(os.fsencode(_temporary(path).name)) - most)


def keep_apart(out: Path, *inputs: Path | None) -> None:
    """Raise a `ConfigError` if an output would replace one of its input files.

    Example:
        >>> keep_apart(Path("b.csv"), Path("a.parquet"), None)
    """
    for source in inputs:
        if source is not None and out.resolve() == source.resolve():
            raise ConfigError(f"{out}: the result would replace this source. Choose another -o.")


def check_folder(path: Path) -> None:
    """Check early that an output folder can be created, before a long job runs.

    Raises:
        OutputError: a file has the name of the folder, or the folder cannot be written to.
    """
    try:
        place = next((p for p in (path, *path.parents) if p.exists()), Path())
        if not place.is_dir():
            raise OutputError(f"{place}: is a file, but results need a folder. Choose another -o.")
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise OutputError(explain_os_error(error, path)) from error


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; rename it to `path` when the block succeeds.

    Args:
        path: final name; must not exist, or be an empty folder.

    Raises:
        OutputError: `path` exists already, or cannot be written.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "result"
        >>> with atomic_folder(target) as temporary:
        ...     _ = (temporary / "a.txt").write_text("done")
        >>> [file.name for file in target.iterdir()]
        ['a.txt']
    """
    if path.is_symlink() or path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise OutputError(f"{path}: already exists. Choose another name, or remove it.")
    temporary = _temporary(path)
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        if path.is_dir():
            path.rmdir()
        temporary.rename(path)
    except OSError as error:
        raise OutputError(explain_os_error(error, path)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def packed_limit(name: str, packed: int, most: int) -> int:
    """Return the largest size in bytes that a packed file may unpack to; at most `most`.

    Limits are lower for text, which grows when parsed and compresses less than blank pixels.

    Args:
        name: file name; the ending gives the kind of file.
        packed: size in the archive, in bytes.
        most: limit of the reader, in bytes.

    Example:
        >>> packed_limit("a.png", 10, 1 << 33) >> 20, packed_limit("a.geojson", 10, 1 << 33) >> 20
        (256, 16)
    """
    is_text = PurePath(name.lower().removesuffix(".gz")).suffix in _TEXTS
    free, ratio = _PACKED_TEXT if is_text else _PACKED
    return min(most, max(free, ratio * packed))


def read_bytes(path: Path | zipfile.Path, limit: int = 8 << 30) -> bytes:
    """Read a file, which may be inside a zip file, of at most `limit` bytes.

    A member of a zip file may unpack to 256 MiB or 200 times its size, see `packed_limit`.

    Raises:
        InputError: the file is missing, empty or too large, or cannot be unpacked.
    """
    try:
        if isinstance(path, Path) and path.stat().st_size > limit:
            raise InputError(f"{path}: larger than {limit >> 20} MiB. Is this the right file?")
        if isinstance(path, zipfile.Path):
            limit = _member_limit(path, limit)
        with path.open("rb") as handle:
            data = read_up_to(handle, limit + 1)
    except OSError as error:
        raise InputError(explain_os_error(error, str(path))) from error
    except (KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise InputError(
            f"{path}: cannot be unpacked ({str(error).rstrip('.')}). Download the archive again."
        ) from error
    if not data:
        raise InputError(f"{path}: the file is empty. Copy or download it again.")
    if len(data) > limit:
        raise InputError(
            f"{path}: unpacks to more than {limit >> 20} MiB, the limit for a file of its size. "
            "Split it, or unpack the archive."
        )
    return data


def _member_limit(path: zipfile.Path, limit: int) -> int:
    """Return the largest size in bytes that a member of a zip file may unpack to.

    Raises:
        InputError: its declared size is larger.
    """
    inside = path.root.getinfo(path.at)
    limit = packed_limit(path.name, inside.compress_size, limit)
    if inside.file_size > limit:
        raise InputError(
            f"{path}: claims to unpack to {inside.file_size >> 20} MiB, more than the limit of "
            f"{limit >> 20} MiB for a file of its size. Split it, or unpack the archive."
        )
    return limit


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def read_up_to(handle: _Readable, limit: int) -> bytes:
    """Read at most `limit` bytes in pieces; a single read would allocate all of `limit`."""
    parts: list[bytes] = []
    left = limit
    while left and (part := handle.read(min(left, 1 << 24))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, atomically.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_text(path: Path, limit: int = 64 << 20) -> str:
    """Read a UTF-8 file of at most `limit` bytes.

    Raises:
        InputError: the file is missing, too large, or not UTF-8.
    """
    try:
        return read_bytes(path, limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a UTF-8 text file. Is this the right file?") from error


def digest_of(content: object) -> str:
    """Return the SHA-256 of a JSON-serialisable value, regardless of key order: 64 hex digits.

    Example:
        >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def short(digest: str) -> str:
    """Shorten a SHA-256 to the 16 digits used in file names and messages.

    Example:
        >>> short(digest_of([]))
        '4f53cda18c2baa0c'
    """
    return digest[:16]


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file: 64 hex digits."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()

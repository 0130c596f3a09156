"""Copy slides from and results to a URL (s3://, gs://, …), with fsspec.

OpenSlide cannot stream, and Parquet is best written to a disk: all work is done in a local folder,
and finished files are copied to their destination.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any
from urllib.parse import unquote

from nucleate.errors import InputError, NucleateError, OutputError, optional, without_secrets
from nucleate.files import digest_of, short

_SEVERAL = (".mrxs", ".dcm", ".vms", ".vmu", ".zarr")
_WEB = ("http://", "https://")
_BUCKETS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"}


def is_url(text: str | Path) -> bool:
    """Return whether a name is a URL.

    Example:
        >>> is_url("s3://bucket/a.svs"), is_url("slides/a.svs")
        (True, False)
    """
    return "://" in str(text)


def url_path(url: str | Path) -> str:
    """Return a URL without its query, which may be a signature; other names unchanged.

    Example:
        >>> url_path("https://host/a/t.png?X-Amz-Signature=b/c"), url_path("s3://b/what?.png")
        ('https://host/a/t.png', 's3://b/what?.png')
    """
    text = str(url)
    return re.split(r"[?#]", text, maxsplit=1)[0] if text.startswith(_WEB) else text


def shown(url: str | Path) -> str:
    """Return a URL without secrets, for files and logs; other names unchanged.

    Example:
        >>> shown("https://user:word@host/a/t.png?sig=b/c"), shown("a/b?.png")
        ('https://host/a/t.png', 'a/b?.png')
    """
    return without_secrets(url_path(url)) if is_url(url) else str(url)


def url_name(url: str | Path) -> str:
    """Return the file name of a URL or path.

    Example:
        >>> url_name("https://host/a/t%20b.png?sig=c"), url_name("a/b.png")
        ('t b.png', 'b.png')
    """
    name = PurePath(url_path(url)).name
    return unquote(name).replace("/", "_") if str(url).startswith(_WEB) else name


def file_system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path on it.

    Raises:
        NucleateError: the package for this kind of URL is not installed.
        InputError: the URL cannot be reached.
    """
    fsspec: Any = optional("fsspec", "cluster")
    try:
        fs, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise InputError(f"{shown(url)}: {str(error).rstrip('.')}. Install it.") from error
    except ValueError as error:
        raise InputError(f"{shown(url)}: {str(error).rstrip('.')}. Check the address.") from None
    return fs, str(path)


def find_remote(url: str, wanted: Callable[[str], bool]) -> list[str]:
    """Return the files matched by a URL of a file, folder or glob, sorted.

    Args:
        url: URL of a file, folder or glob.
        wanted: function of the path below that folder: whether the file is wanted.

    Raises:
        InputError: no file matches, or the URL cannot be reached.
    """
    fs, path = file_system(url)
    with _reaching(url):
        if url_path(url) != url:  # signed, for instance: one file
            if not wanted(url_name(url)):
                raise InputError(
                    f"{url_path(url)}: the address has a query, but no name of an image or slide "
                    "before it. Download the file, or use an address that ends in its name."
                )
            found = [path] if fs.exists(path) else []
        elif any(c in path for c in "*[") or ("?" in path and not url.startswith("http")):
            found = fs.glob(path)
        elif fs.isdir(path):
            found = fs.find(path)
        else:
            found = [path] if fs.exists(path) else []
    mine = sorted(p for p in found if p == path or wanted(p.removeprefix(path).lstrip("/")))
    if not mine:
        raise InputError(f"{shown(url)}: there is no image or slide. Check the address.")
    return [fs.unstrip_protocol(p) for p in mine]


def fetch(url: str, folder: Path) -> Path:
    """Copy a file to a local folder, unless it has an up-to-date copy; return the path of the copy.

    Raises:
        InputError: the file cannot be read, or the slide consists of several files.
    """
    if PurePosixPath(url_path(url)).suffix.lower() in _SEVERAL:
        raise InputError(
            f"{shown(url)}: slides of this kind consist of several files. Copy them to a disk "
            "first."
        )
    fs, path = file_system(url)
    with _reaching(url):
        facts = fs.info(path)
        state = [str(facts.get(key)) for key in ("size", "ETag", "etag", "LastModified", "mtime")]
        own = short(digest_of([url, *state]))
        target = folder / own / url_name(url)
        if target.is_file():
            return target
        _bring(fs, path, target)
    return target


@dataclass(frozen=True, slots=True)
class Mirror:
    """A local folder and the remote folder with which its files are synchronised.

    Attributes:
        folder: local folder.
        url: URL of the remote folder; None if there is none.
    """

    folder: Path
    url: str | None

    def pull(self, below: str = "") -> None:
        """Download files directly in the subfolder `below` that have no local copy.

        Raises:
            InputError: a file cannot be read.
        """
        if self.url is None:
            return
        fs, root = file_system(self.url)
        there = f"{root}/{below}".rstrip("/")
        with _reaching(self.url):
            names = fs.ls(there, detail=False) if fs.isdir(there) else []
            for name in names:
                here = self.folder / below / PurePosixPath(name).name
                if not here.exists() and fs.isfile(name):
                    _bring(fs, name, here)

    def pull_file(self, name: str) -> None:
        """Download one file if it exists.

        Raises:
            InputError: the file cannot be read.
        """
        if self.url is None:
            return
        fs, root = file_system(self.url)
        here = self.folder / name
        with _reaching(self.url):
            if fs.isfile(f"{root}/{name}"):
                _bring(fs, f"{root}/{name}", here)

    def push(self, *names: str) -> None:
        """Upload files or folders.

        Raises:
            OutputError: the URL cannot be written.
        """
        if self.url is None:
            return
        fs, root = file_system(self.url)
        with _reaching(self.url, OutputError):
            for name in names:
                here, there = self.folder / name, f"{root}/{name}"
                if here.is_dir():
                    fs.put(f"{here}/", f"{there}/", recursive=True)
                else:
                    if not _BUCKETS & set(_names(fs)):  # buckets have no folders
                        fs.makedirs(there.rsplit("/", 1)[0], exist_ok=True)
                    fs.put_file(str(here), there)

    def remove(self, name: str) -> None:
        """Remove a remote folder.

        Raises:
            OutputError: the folder cannot be removed.
        """
        if self.url is None:
            return
        fs, root = file_system(self.url)
        with _reaching(self.url, OutputError):
            if fs.exists(f"{root}/{name}"):
                fs.rm(f"{root}/{name}", recursive=True)


@contextmanager
def _reaching(url: str, kind: type[NucleateError] = InputError) -> Iterator[None]:
    """Turn the errors of a service into one kind of error."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # services differ; messages may contain the whole URL
        said = " ".join(without_secrets(str(error)).split())[:120].rstrip(".")
        raise kind(
            f"{shown(url)}: cannot be reached ({said or type(error).__name__}). Check the address, "
            "the rights and the network."
        ) from None


def _bring(fs: Any, there: str, here: Path) -> None:  # noqa: ANN401
    """Download a file under a temporary name, and rename it when it is complete."""
    here.parent.mkdir(parents=True, exist_ok=True)
    part = here.with_name(f".{uuid.uuid4().hex}.part")
    fs.get_file(there, str(part))
    part.replace(here)


def _names(fs: Any) -> tuple[str, ...]:  # noqa: ANN401
    """Return the protocol names of a file system."""
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)

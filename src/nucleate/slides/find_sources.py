"""Find the images and slides matched by files, folders, globs and URLs."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path, PurePath, PurePosixPath

from nucleate.errors import InputError
from nucleate.folders import folded, walk
from nucleate.readers.contents import foreign
from nucleate.readers.images import IMAGES
from nucleate.readers.opening import SLIDES, is_zarr
from nucleate.readers.openslide import dicom_series
from nucleate.readers.remote import find_remote, is_url, shown, url_name, url_path
from nucleate.results.formats import EXPORTERS
from nucleate.results.names import LARGE_OVERLAY, OVERVIEW, OWN_IMAGES, PARQUET

_BESIDE = (".pdf", ".gif", ".psd", ".h5", ".hdf5", ".dzi", ".ets")  # skipped without a warning


def find_sources(patterns: Sequence[str | Path]) -> list[Path]:
    """Return the images and slides matched by files, folders and globs, sorted.

    In folders, files written by nucleate (`.overlay.png`, …) are skipped. A slide of several DICOM
    files is represented by the first.

    Raises:
        InputError: a path does not exist, or a folder or glob contains no image or slide.

    Example:
        >>> find_sources(["no/such"])
        Traceback (most recent call last):
        nucleate.errors.InputError: no/such: there is no such file or folder. Check the path.
    """
    found: list[Path] = []
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir() and not is_zarr(path):
            every = walk(path, (".zarr",))
            inside = sorted(Path(str(p)) for name, p in every if _is_source(name))
            _warn_of_foreign(path, [name for name, _ in every])
            if not inside:
                raise InputError(f"{path}: the folder contains no image or slide. Check the path.")
            found += inside
        elif path.exists():
            found.append(path)
        elif glob.has_magic(str(pattern)):
            matched = sorted(Path(m) for m in glob.glob(_literal(str(pattern)), recursive=True))
            if not matched:
                raise InputError(f"{pattern}: matches no file. Check the pattern.")
            found += matched
        else:
            raise InputError(f"{path}: there is no such file or folder. Check the path.")
    return _one_of_a_series(dict.fromkeys(found))


def _warn_of_foreign(folder: Path, names: list[str]) -> None:
    """Warn about images and slides of unsupported formats in a folder, which are skipped."""
    found = [n for n in names if not n.lower().endswith(_BESIDE) and foreign(PurePath(n))]
    if found:
        shown_names = ", ".join(found[:3]) + (", …" if len(found) > 3 else "")
        warnings.warn(
            f"{folder}: {len(found)} files of formats that nucleate does not read are skipped "
            f"({shown_names}). Pass one of them to see what converts it",
            stacklevel=3,
        )


def _literal(pattern: str) -> str:
    """Return a glob in which existing leading folders are escaped.

    Example:
        >>> _literal("no[1]/such/*.png")
        'no[1]/such/*.png'
    """
    path = Path(pattern)
    folder = next((p for p in path.parents if p.is_dir()), None)
    if folder is None or not glob.has_magic(str(folder)):
        return pattern
    return os.path.join(glob.escape(str(folder)), str(path.relative_to(folder)))


def _one_of_a_series(paths: Iterable[Path]) -> list[Path]:
    """Keep one DICOM file per slide: opening it opens the whole series."""
    first: dict[str, Path] = {}
    return [p for p in paths if (uid := dicom_series(p)) is None or first.setdefault(uid, p) == p]


def _is_source(name: str) -> bool:
    """Return whether a file in a folder is an image or slide, and not a result of nucleate.

    Example:
        >>> _is_source("b/a.svs"), _is_source(".a.units/tissue.png"), _is_source("a.overview.png")
        (True, False, False)
    """
    parts = PurePosixPath(name).parts
    return (
        name.lower().endswith(IMAGES + SLIDES)
        and not name.endswith(OWN_IMAGES)
        and not any(part.startswith(".") for part in parts)
        and not any(part.lower().endswith(".zarr") for part in parts[:-1])
    )


def expand_sources(
    patterns: Sequence[str | Path], out: Path | str | None = None
) -> list[Path | str]:
    """Return the images and slides to segment, see `find_sources`, including URLs.

    Args:
        patterns: files, folders, globs, and URLs of them.
        out: folder of the results, or its URL; a result must not replace a source.

    Raises:
        InputError: a path does not exist, a folder or glob contains nothing to segment, or two
            sources would write the same files.
    """
    found: list[Path | str] = []
    for pattern in patterns:
        if is_url(pattern):
            found += find_remote(str(pattern), _is_source)
        else:
            found += find_sources([pattern])
    found = list(dict.fromkeys(found))
    for path in found:
        try:
            str(path).encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(f"{str(path)!r}: the name is not valid UTF-8. Rename it.") from error
    stems = result_stems(found)
    if out is not None and not is_url(out):
        here = [path for path in found if isinstance(path, Path)]
        endings = [PARQUET, OVERVIEW, LARGE_OVERLAY, *(e.suffix for e in EXPORTERS.values())]
        results = {(Path(out) / f"{stems[p]}{end}").resolve() for p in here for end in endings}
        for path in here:
            if path.resolve() in results:
                raise InputError(f"{path}: a result would replace this source. Choose another -o.")
    return found


def result_stems(sources: Sequence[Path | str]) -> dict[Path | str, str]:
    """Return source -> stem of its result files, relative to the folder of results.

    The stem is the file name without ending. If two sources share a name, all results are put into
    subfolders that mirror those below the common folder of the sources. Names that differ only in
    case or Unicode form are treated as equal, because some file systems do not distinguish them.

    Raises:
        InputError: two sources would still write the same files.

    Example:
        >>> result_stems(["p1/a.tif", "p2/b.tif"])
        {'p1/a.tif': 'a', 'p2/b.tif': 'b'}
        >>> result_stems(["p1/HE.tif", "p2/HE.tif"])
        {'p1/HE.tif': 'p1/HE', 'p2/HE.tif': 'p2/HE'}
    """
    stems = {source: PurePath(url_name(source)).stem for source in sources}
    if len({folded(stem) for stem in stems.values()}) < len(stems):
        folders = {source: _folder(source) for source in stems}
        columns = zip(*folders.values(), strict=False)
        shared = sum(1 for _ in takewhile(lambda parts: len(set(parts)) == 1, columns))
        if shared:  # else they are on different disks
            stems = {s: "/".join((*folders[s][shared:], stem)) for s, stem in stems.items()}
    first: dict[str, Path | str] = {}
    for source, stem in stems.items():
        other = first.setdefault(folded(stem), source)
        if other != source:
            alike = "" if stems[other] == stem else ", where case and Unicode form do not count"
            raise InputError(
                f"{shown(source)}: would write the same files as {shown(other)}{alike}. Rename "
                "one, or use two outputs."
            )
    return stems


def _folder(source: Path | str) -> tuple[str, ...]:
    """Return the path components of a source's folder."""
    if is_url(source):
        return tuple(url_path(source).split("/")[:-1])
    return Path(os.path.abspath(source)).parent.parts

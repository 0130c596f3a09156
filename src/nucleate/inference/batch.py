"""Many sources, one after the other → files beside each other and one summary of the batch."""

from __future__ import annotations

import glob
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nucleate import __version__
from nucleate.errors import ConfigError, InputError, NucleateError, pick
from nucleate.inference.backends import Model
from nucleate.inference.engine import EngineOptions, find_nuclei
from nucleate.io.exports import EXPORTERS
from nucleate.io.files import write_text
from nucleate.io.images import PICTURES
from nucleate.io.slides import SLIDES, Source, open_source
from nucleate.types import Instances, check_mpp

_OWN = (".overlay.png", ".labels.tif")
RASTER_PIXELS = 100_000_000  # above this, labels and overlay are written only when asked for


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What to do with every source.

    Attributes:
        mpp: micrometres per pixel of all sources; None takes what each file states.
        formats: keys of `EXPORTERS`; None for all that suit the size.
        engine: how to tile.
    """

    mpp: float | None = None
    formats: tuple[str, ...] | None = None
    engine: EngineOptions = field(default_factory=EngineOptions)


def find_sources(patterns: Sequence[str | Path]) -> list[Path]:
    """Return the pictures and slides that files, folders and globs stand for, in sorted order.

    Files that nucleate itself wrote (`.overlay.png`, `.labels.tif`) are left out of folders.

    Raises:
        InputError: something does not exist, or a folder or glob holds no picture or slide.

    Example:
        >>> find_sources(["no/such/file.png"])
        Traceback (most recent call last):
        nucleate.errors.InputError: no/such/file.png: there is no such file. Check the path.
    """
    found: list[Path] = []
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            inside = sorted(
                p
                for p in path.rglob("*")
                if p.is_file()
                and p.suffix.lower() in PICTURES + SLIDES
                and not p.name.startswith(".")
                and not p.name.endswith(_OWN)
            )
            if not inside:
                raise InputError(f"{path}: the folder holds no picture or slide. Check the path.")
            found += inside
        elif path.exists():
            found.append(path)
        elif glob.has_magic(str(pattern)):
            matched = sorted(Path(m) for m in glob.glob(str(pattern), recursive=True))
            if not matched:
                raise InputError(f"{pattern}: matches no file. Check the pattern.")
            found += matched
        else:
            raise InputError(f"{path}: there is no such file. Check the path.")
    return list(dict.fromkeys(found))


def expand_sources(patterns: Sequence[str | Path], out: Path | None = None) -> list[Path]:
    """Return the pictures and slides to segment, as `find_sources` finds them.

    Args:
        patterns: files, folders, globs.
        out: folder of the results; a result must not replace a source.

    Raises:
        InputError: something does not exist, a folder or glob holds nothing to segment, or two
            sources would write the same files.
    """
    found = find_sources(patterns)
    home: dict[str, Path] = {}
    for path in found:
        other = home.setdefault(path.stem, path)
        if other != path:
            raise InputError(
                f"{path}: would write the same files as {other}. Rename one, or use two outputs."
            )
    for path in found:
        try:
            str(path).encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(f"{str(path)!r}: the name is not valid UTF-8. Rename it.") from error
    if out is not None:
        results = {
            (out / f"{path.stem}{exporter.suffix}").resolve()
            for path in found
            for exporter in EXPORTERS.values()
        }
        for path in found:
            if path.resolve() in results:
                raise InputError(f"{path}: a result would replace this source. Choose another -o.")
    return found


def segment_files(
    sources: Sequence[Path],
    out: Path,
    model: Model,
    options: BatchOptions,
    tell: Callable[[str], None] = lambda _: None,
    progress: Callable[[Path, int, int], None] = lambda *_: None,
) -> dict[str, Any]:
    """Segment every source, write its files into `out`, and return and write the summary.

    A source that fails is listed with its reason and does not stop the others; when every source
    fails, nothing is written and the first reason is raised.

    Args:
        sources: from `expand_sources`.
        out: folder of all results.
        model: what to segment with.
        options: mpp, formats, tiles.
        tell: is given one line per source.
        progress: is given (source, tiles done, tiles in all).

    Returns:
        The content of summary.json.

    Raises:
        ConfigError: an unknown format.
        NucleateError: every source failed.
    """
    for name in options.formats or ():
        pick(EXPORTERS, name, "format")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: is a file, but results need a folder. Choose another -o.")
    rows: list[dict[str, Any]] = []
    first_error: NucleateError | None = None
    for path in sources:
        try:
            row = _segment_one(path, out, model, options, progress)
            tell(
                f"{path.name}: {row['nuclei']} nuclei in {row['seconds']:.1f} s"
                + "".join(f"; {note}" for note in row["notes"])
            )
        except NucleateError as error:
            first_error = first_error or error
            row = {"source": str(path), "status": "failed", "error": str(error)}
            tell(f"{path.name}: failed: {error}")
        rows.append(row)
    done = [row for row in rows if row["status"] == "done"]
    if not done and first_error is not None:
        raise first_error
    summary = {
        "nucleate": __version__,
        "model": {
            "name": model.card.name,
            "version": model.card.version,
            "licence": model.card.licence,
            "files": model.card.files,
            "thresholds": model.card.thresholds,
            "mpp": model.card.mpp,
        },
        "engine": model.backend.about,
        "tile_px": options.engine.tile_px,
        "sources": rows,
        "totals": {
            "done": len(done),
            "failed": len(rows) - len(done),
            "nuclei": sum(row["nuclei"] for row in done),
        },
    }
    write_text(out / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    return summary


def _write_all(nuclei: Instances, source: Source, out: Path, files: dict[str, str]) -> None:
    """Write all files of a source, or none of them."""
    is_new = not out.exists()
    written: list[Path] = []
    try:
        for name, file in files.items():
            EXPORTERS[name].write(nuclei, source, out / file)
            written.append(out / file)
    except BaseException:
        for file_path in written:
            file_path.unlink(missing_ok=True)
        if is_new and out.is_dir() and not any(out.iterdir()):
            out.rmdir()
        raise


def _segment_one(
    path: Path,
    out: Path,
    model: Model,
    options: BatchOptions,
    progress: Callable[[Path, int, int], None],
) -> dict[str, Any]:
    """Segment one source, write its files and return its row of the summary."""
    begun = time.monotonic()
    source = open_source(path)
    found = find_nuclei(
        source, model, options.mpp, options.engine, lambda done, tiles: progress(path, done, tiles)
    )
    nuclei, notes = found.nuclei, []
    if found.cut:
        notes.append(f"{found.cut} objects are larger than a tile sees and end at its edge")
    if found.stain:
        notes.append(f"stain {found.stain}")
    chosen = options.formats
    if chosen is None:
        large = source.width * source.height > RASTER_PIXELS
        chosen = tuple(k for k, exporter in EXPORTERS.items() if not (large and exporter.raster))
        if large:
            notes.append("labels and overlay left out for its size; ask with --formats")
    files = {name: f"{path.stem}{EXPORTERS[name].suffix}" for name in chosen}
    _write_all(nuclei, source, out, files)
    resolution = check_mpp(nuclei.frame.mpp)
    square_mm = source.width * source.height * resolution**2 / 1e6
    return {
        "source": str(path),
        "status": "done",
        "width": source.width,
        "height": source.height,
        "mpp": resolution,
        "mpp_from": "option" if options.mpp else "file",
        "resampled_by": found.scale,
        "nuclei": len(nuclei),
        "nuclei_per_mm2": round(len(nuclei) / square_mm, 1),
        "mean_area_um2": round(float(nuclei.features["area_um2"].mean()), 2)
        if len(nuclei)
        else None,
        "seconds": round(time.monotonic() - begun, 2),
        "files": files,
        "notes": notes,
    }

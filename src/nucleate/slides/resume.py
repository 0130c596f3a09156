"""Record the settings with which a slide is segmented, so that only the same settings resume it."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from nucleate._version import __version__
from nucleate.errors import ConfigError, InputError, OutputError, explain_os_error
from nucleate.files import digest_of, read_text, short, write_text
from nucleate.inference.backends import Model
from nucleate.inference.pipeline import EngineOptions
from nucleate.quality.tissue import Tissue
from nucleate.readers.images import read_image
from nucleate.readers.reader import Reader
from nucleate.results.images import write_png

_JOB = "job.json"
TISSUE = "tissue.png"
_PIECES, _PIECE = 256, 1 << 16  # number and size of sampled pieces of a file


def job_facts(
    path: Path,
    reader: Reader,
    model: Model,
    options: EngineOptions,
    tissue: bool,
    plane: int | None = None,
) -> dict[str, Any]:
    """Return all inputs and settings that determine the result."""
    card = model.card
    return {
        "nucleate": __version__,
        "source": path.name,
        "source_bytes": _size(path),
        "source_digest": _digest(path),
        "mpp": reader.mpp,
        "model": card.name,
        "model_files": card.files,
        "thresholds": card.thresholds,
        "model_card": short(digest_of({f.name: getattr(card, f.name) for f in fields(card)})),
        "engine": model.backend.about,
        "tile_px": options.tile_of(card),
        "batch": options.batch,
        "tissue_mask": tissue,
        **({} if plane is None else {"plane": plane}),
    }


def _size(path: Path) -> int:
    return sum(part.stat().st_size for part in _parts(path))


def _parts(path: Path) -> list[Path]:
    """Return the files of a slide: MRXS stores its pixels in a folder beside it."""
    beside = path.with_suffix("") if path.suffix.lower() == ".mrxs" else path
    folders = [p for p in dict.fromkeys((path, beside)) if p.is_dir()]
    inside = sorted(p for folder in folders for p in folder.rglob("*") if p.is_file())
    return [*([path] if path.is_file() else []), *inside]


def _digest(path: Path) -> str:
    """Return a digest of a slide over the name, the size and samples of the bytes of each file.

    A file of up to 16 MiB is read whole, a larger file in 256 pieces of 64 KiB.
    """
    digest = hashlib.sha256()
    parts = _parts(path)
    for part in parts:
        size = part.stat().st_size
        digest.update(f"{part.relative_to(path.parent).as_posix()} {size}".encode())
        if len(parts) > 1000:
            continue  # an image in thousands of chunks: only names and sizes
        pieces = range(_PIECES) if size > _PIECES * _PIECE else range(-(-size // _PIECE))
        step = (size - _PIECE) / (_PIECES - 1) if size > _PIECES * _PIECE else _PIECE
        with open(part, "rb") as file:
            for i in pieces:
                file.seek(int(i * step))
                digest.update(file.read(_PIECE))
    return short(digest.hexdigest())


def job_digest(job: dict[str, Any]) -> str:
    """Return the digest of a job, which is stored in the files of its units."""
    return short(digest_of(job))


def is_started(folder: Path) -> bool:
    """Return whether a job was started in a folder."""
    return (folder / _JOB).is_file()


def check_job(folder: Path, job: dict[str, Any]) -> None:
    """Raise a `ConfigError` unless a folder was started with this job."""
    check_same(_read(folder / _JOB), job, folder)


def write_job(folder: Path, job: dict[str, Any], tissue: Tissue | None) -> None:
    """Create the folder of a job, replacing an existing one.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(explain_os_error(error, folder)) from error
    if tissue is not None:
        write_png(folder / TISSUE, np.repeat(tissue.mask[..., None].view(np.uint8) * 255, 3, 2))
    write_text(folder / _JOB, json.dumps(job, indent=1) + "\n")


def read_tissue(folder: Path, reader: Reader) -> Tissue | None:
    """Read the tissue mask in the folder of a job; None if the whole slide is segmented."""
    path = folder / TISSUE
    if not path.is_file():
        return None
    mask, _ = read_image(path)
    return Tissue.over(np.ascontiguousarray(mask[..., 0] > 0), reader)


def check_same(before: object, now: dict[str, Any], owner: Path) -> None:
    """Raise a `ConfigError` that names the first difference between two jobs."""
    if not isinstance(before, dict):
        raise InputError(f"{owner}: does not state its settings. Start again without --resume.")
    key = next((k for k in now if before.get(k) != now[k]), None)
    if key is not None:
        raise ConfigError(
            f"{owner}: was started with another {key.replace('_', ' ')} ({before.get(key)!r}, now "
            f"{now[key]!r}), so that the results would not be comparable. Use the former value, or "
            "start again without --resume."
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_text(path))
    except ValueError as error:
        raise InputError(f"{path}: is damaged. Start again without --resume.") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: is damaged. Start again without --resume.")
    return found

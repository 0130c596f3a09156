"""Check whether the image of a result was used in training or selecting its model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nucleate.cards import ModelCard
from nucleate.errors import NucleateError
from nucleate.evaluation.annotated_files import result_beside
from nucleate.files import read_text
from nucleate.models.card import find_model, read_card
from nucleate.models.fingerprints import seen_as
from nucleate.readers.images import read_image
from nucleate.results.names import PARQUET
from nucleate.results.parquet import open_nuclei
from nucleate.types import UInt8

_MOST_PIXELS, _MOST_BYTES = 1 << 26, 1 << 29  # limits for reading an image for this check


def seen_in_file(pred: Path) -> str | None:
    """Return how the model behind a prediction saw the image in training; see `seen_as`.

    Needs the result of `segment`: the file itself, or the .nuclei.parquet beside it. Returns None
    without it, or if the model is not installed. Without the image, only the TCGA patient is used.

    Args:
        pred: label image, outlines or result.

    Raises:
        InputError: the result is damaged.
    """
    result = pred if pred.name.endswith(PARQUET) else result_beside(pred)
    job = None if result is None else open_nuclei(result).facts.get("job")
    if result is None or not isinstance(job, dict):
        return None
    card = _card(job)
    if card is None:
        return None
    name = str(job.get("source", ""))
    return seen_as(card, name[:12].upper(), _image(result, name, job), own_names=False)


def _card(job: dict[str, Any]) -> ModelCard | None:
    """Return the card of a job's model if it is installed with the same weights."""
    try:
        card = read_card(find_model(str(job.get("model"))))
    except NucleateError:
        return None
    return card if card.files == job.get("model_files") else None


def _image(result: Path, name: str, job: dict[str, Any]) -> UInt8 | None:
    """Return the image of a result: beside it, or where the run's summary names it."""
    paths = [result.parent / name]
    try:
        rows = json.loads(read_text(result.parent / "summary.json"))["sources"]
        paths += [Path(row["source"]) for row in rows if Path(row["source"]).name == name]
    except (NucleateError, ValueError, LookupError, TypeError):
        pass
    for path in paths:
        size = path.stat().st_size if path.is_file() else None
        if size is not None and size == job.get("source_bytes") and size <= _MOST_BYTES:
            try:
                return read_image(path, _MOST_PIXELS)[0]
            except NucleateError:
                return None
    return None

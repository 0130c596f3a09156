"""The command `nucleate segment` as a Python function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from nucleate.inference.backends import Model, Precision
from nucleate.inference.loading import (
    Device,
    Sensitivity,
    at_sensitivity,
    ready_model,
    with_thresholds,
)
from nucleate.inference.pipeline import EngineOptions
from nucleate.models.card import DEFAULT_MODEL
from nucleate.slides.find_sources import expand_sources
from nucleate.slides.outputs import BatchOptions
from nucleate.slides.segment_many import run_batch


def segment_files(
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    model: Model | str | Path = DEFAULT_MODEL,
    mpp: float | None = None,
    *,
    formats: Sequence[str] | None = None,
    resume: bool = False,
    tissue_mask: bool = True,
    device: Device = "auto",
    precision: Precision | Literal["auto"] = "auto",
    threads: int = 0,
    sensitivity: Sensitivity = "normal",
    thresholds: dict[str, float] | None = None,
    tile_px: int | None = None,
    override_mpp: bool = False,
    plane: int | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Segment files, folders, globs and URLs, and write the results of each into a folder.

    Args:
        sources: one or several files, folders, globs or URLs.
        out: folder of all results, or its URL.
        model: a loaded model, or a model name or folder.
        mpp: micrometres per pixel of files that state none.
        formats: formats to write besides Parquet; None for those that suit the size of each source.
        resume: whether to skip what an earlier call has finished.
        tissue_mask: whether to skip background, pen marks and folds of slides.
        device: where to run a model that is not yet loaded, see `load_model`.
        precision: likewise.
        threads: likewise.
        sensitivity: low finds fewer false nuclei, high finds more pale nuclei.
        thresholds: decoder thresholds that replace those of the model card.
        tile_px: largest edge of a tile, in pixels at the model's resolution; None for the model's.
        override_mpp: whether `mpp` overrides a different value in a file.
        plane: focal plane or time point to read from a TIFF that has several, counted from 1.
        tell: called with one line per source.

    Returns:
        One row per source, as in `summary.json`: source, status, nuclei, files, seconds, notes. A
        source that fails has the status "failed" and an error, and does not stop the others.

    Raises:
        InputError: there is nothing to segment.
        ConfigError: an unknown format or threshold, or a device for a model that is already loaded.
        NucleateError: every source failed.

    Example:
        >>> segment_files("no/such/folder", "out")
        Traceback (most recent call last):
        nucleate.errors.InputError: no/such/folder: there is no such file or folder. Check the path.
    """
    patterns = [sources] if isinstance(sources, str | Path) else list(sources)
    found = expand_sources(patterns, out)
    ready = at_sensitivity(ready_model(model, device, precision, threads), sensitivity)
    if thresholds is not None:
        ready = with_thresholds(ready, thresholds)
    chosen = (formats,) if isinstance(formats, str) else tuple(formats or ()) or None
    engine = EngineOptions(tile_px)
    options = BatchOptions(mpp, chosen, engine, tissue_mask, resume, override_mpp, plane)
    rows: list[dict[str, Any]] = run_batch(found, out, ready, options, tell)["sources"]
    return rows

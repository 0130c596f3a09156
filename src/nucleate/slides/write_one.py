"""Write the files of one source when its units are done, and make its row of the summary."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nucleate.cards import ModelCard
from nucleate.errors import InputError, OutputError, explain_os_error
from nucleate.features import COLUMNS
from nucleate.inference.inputs import frame_of
from nucleate.inference.segment import doubts_about, notes
from nucleate.quality.plausibility import Doubt
from nucleate.readers.reader import Reader
from nucleate.readers.remote import shown
from nucleate.readers.source import notes_of
from nucleate.results.formats import EXPORTERS
from nucleate.results.images import write_png
from nucleate.results.parquet import NucleiFile, open_nuclei, writer
from nucleate.slides.memory import give_back
from nucleate.slides.overview import Heat, draw_overview
from nucleate.slides.segment_one import STAGES, Run
from nucleate.slides.unit_files import (
    left_out,
    unit_files,
    write_merged,
)
from nucleate.types import Float32, Instances


def finish(run: Run, card: ModelCard) -> dict[str, Any]:
    """Write all files of a source whose units are done, and return its row of the summary.

    Raises:
        InputError: no tile could be read.
        OutputError: a file cannot be written.
    """
    outputs, notes = run.outputs, list[str]()
    if run.is_done:
        found = open_nuclei(outputs.parquet)
        notes.append("already segmented")
    else:
        if outputs.is_slide:
            give_back()
        found, cut = _merge(run, card)
        notes += _notes(run, cut, found)
    if outputs.is_slide:
        give_back()
    files = outputs.files()
    if not found.count and "spatialdata" in files:
        del files["spatialdata"]
        notes.append("spatialdata omitted: it cannot store a table without nuclei")
    _write_all(found, run, files)
    for name in outputs.overview().values():
        _draw(found, run, outputs.out.folder / name)
    if not run.is_done:
        try:
            found.path.replace(outputs.parquet)
        except OSError as error:
            raise OutputError(explain_os_error(error, outputs.parquet)) from error
        found = replace(found, path=outputs.parquet)
        shutil.rmtree(outputs.units, ignore_errors=True)
    outputs.out.push(*files.values(), *outputs.overview().values(), outputs.parquet_name)
    outputs.out.remove(outputs.units_name)
    stages = dict(zip(STAGES, (round(s, 2) for s in run.spent), strict=True))
    return _row(run, found, files) | {
        "seconds": round(time.monotonic() - run.started, 2),
        "stages": stages,
        "notes": notes,
    }


def _merge(run: Run, card: ModelCard) -> tuple[NucleiFile, int]:
    """Write the file of all nuclei under its temporary name; return it and the number of cut ones.

    Raises:
        InputError: no tile could be read.
        OutputError: the file cannot be written.
    """
    outputs, started = run.outputs, time.perf_counter()
    frame, classes = frame_of(run.reader), tuple(card.classes)
    facts: dict[str, Any] = {"source": run.path.name, "job": run.job}
    if run.memory is None:
        outputs.out.pull(outputs.units_name)  # written by other machines
        lost, ink = left_out(outputs.units, run.units, run.digest)
    else:
        lost, ink = run.memory.lost, run.memory.ink
    if lost and len(lost) == sum(len(unit.tiles) for unit in run.units):
        raise InputError(f"No tile could be read: {lost[0]['reason']}")
    facts |= {"lost": lost, "ink": ink}
    if run.memory is None:
        units = unit_files(outputs.units, run.units, run.digest)
        cut = write_merged(units, outputs.unfinished, frame, classes, facts)
        found = open_nuclei(outputs.unfinished)
    else:
        nuclei, cut = run.memory.nuclei(frame, classes)
        with writer(outputs.unfinished, nuclei, facts) as file:
            file.write(nuclei)
        found = replace(open_nuclei(outputs.unfinished), kept=nuclei)
        for one in run.memory.units:
            run.add((*one.seconds, 0.0))
    run.spent[STAGES.index("write")] += time.perf_counter() - started
    return found, cut


def _notes(run: Run, cut: int, nuclei: NucleiFile) -> list[str]:
    found = []
    if len(run.left) < len(run.units):
        there = len(run.units) - len(run.left)
        found.append(f"{there} of {len(run.units)} units were already segmented")
    found += notes_of(run.reader.source)
    found += notes(cut, nuclei.facts["lost"], run.colours.note, nuclei.facts["ink"])
    found += [doubt.reason for doubt in _doubts(run, nuclei)]
    if run.outputs.is_slide and run.outputs.formats is None:
        found.append("labels, overlay, csv and geojson omitted for its size; see export")
    return found


def _doubts(run: Run, nuclei: NucleiFile) -> list[Doubt]:
    """Check the plausibility of a source; for a slide, by the first row group of nuclei."""
    some, seen = next(nuclei.groups(), Instances.empty(nuclei.frame)), run.seen
    if seen is not None:
        seen = replace(seen, mm2=seen.mm2 * max(1, len(some)) / max(1, nuclei.count))
    return doubts_about(run.reader, some, seen)


def _write_all(found: NucleiFile, run: Run, files: dict[str, str]) -> None:
    """Write files of a source, or none of them if one fails."""
    written: list[Path] = []
    try:
        for name, file in files.items():
            path = run.outputs.out.folder / file
            if path.is_dir():  # from an earlier run
                shutil.rmtree(path)
            EXPORTERS[name].write(found, run.reader.source, path)
            written.append(path)
    except BaseException:
        for path in written:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        raise


def _draw(found: NucleiFile, run: Run, path: Path) -> None:
    """Draw the overview of a slide."""
    if run.seen is None:
        return
    heat = Heat(found.frame)
    for nuclei in found.groups():
        heat.add(nuclei)
    title = f"{run.path.name}: {found.count:,} nuclei, {run.seen.mm2:.1f} mm2 of tissue"
    lost = [tuple(entry["box"]) for entry in found.facts["lost"]]
    write_png(path, draw_overview(run.seen, heat, lost, title))


def _row(run: Run, found: NucleiFile, files: dict[str, str]) -> dict[str, Any]:
    """Return the row of a source in the summary."""
    frame, reader, lost = found.frame, run.reader, found.facts["lost"]
    square_mm = frame.width * frame.height * reader.mpp**2 / 1e6
    row: dict[str, Any] = {
        "source": shown(run.name),
        "status": "incomplete" if lost else "done",
        "width": frame.width,
        "height": frame.height,
        "mpp": reader.mpp,
        "mpp_from": _mpp_from(reader),
        "nuclei": found.count,
        "nuclei_per_mm2": round(found.count / square_mm, 1),
        "mean_area_um2": round(float(found.column("area_um2").mean()), 2) if found.count else None,
        "files": {"parquet": run.outputs.parquet_name, **files, **run.outputs.overview()},
        "lost": lost,
    }
    if run.seen is not None:
        row["tissue_mm2"] = round(run.seen.mm2, 3)
        row["nuclei_per_mm2_of_tissue"] = round(found.count / max(run.seen.mm2, 1e-9), 1)
        row["features"] = {name: _quantiles(found.column(name)) for name in COLUMNS}
    return row


def _mpp_from(reader: Reader) -> str:
    """Return the origin of a source's resolution: file, option or override."""
    if reader.mpp == reader.source.mpp:
        return "file"
    return "option" if reader.source.mpp is None else "override"


def _quantiles(values: Float32) -> dict[str, float | None]:
    """Return the mean and quantiles of a feature; None for each if there are no values.

    Example:
        >>> _quantiles(np.array([1, 2, 3, np.nan], np.float32))["q50"]
        2.0
    """
    names = ("q05", "q25", "q50", "q75", "q95")
    known = values[np.isfinite(values)]
    if not len(known):
        return dict.fromkeys(("mean", *names))
    spread = np.quantile(known, (0.05, 0.25, 0.5, 0.75, 0.95))
    found = {"mean": float(known.mean()), **dict(zip(names, spread.tolist(), strict=True))}
    return {name: round(value, 4) for name, value in found.items()}

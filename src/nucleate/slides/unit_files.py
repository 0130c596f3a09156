"""Units on disk: a segmented unit is a file at once, so that a slide that is stopped resumes.

The nuclei on seams are in a separate row group, so that seams are resolved without reading
the rest (`inference.seams`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nucleate.errors import InputError
from nucleate.features import no_nuclei
from nucleate.inference.engine import UnitNuclei, unmerged
from nucleate.inference.seams import Segmented, merge
from nucleate.inference.units import Unit
from nucleate.results.parquet import NucleiFile, open_nuclei, writer
from nucleate.types import Frame, Instances

_SEAMS, _INSIDE = 0, 1  # row groups
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Written:
    """A unit whose file is written.

    Attributes:
        unit: which one.
        nuclei: in its file; on its seams some stand twice.
        lost: how many of its tiles could not be read.
        seconds: spent on reading, in the network, on decoding, and on writing.
    """

    unit: Unit
    nuclei: int
    lost: int
    seconds: tuple[float, float, float, float]


class UnitFiles:
    """A sink that writes each unit into a folder.

    Args:
        folder: for the files.
        digest: of the job, written into every file: units of two jobs are never mixed.
        frame: level 0.
        class_names: of the nuclei.
        written: is given each unit when its file is there.
    """

    def __init__(
        self,
        folder: Path,
        digest: str,
        frame: Frame,
        class_names: tuple[str, ...],
        written: Callable[[Written], None] = lambda _: None,
    ) -> None:
        self._folder, self._digest, self._written = folder, digest, written
        self._like = unmerged(frame, class_names)

    def put(self, segmented: UnitNuclei) -> None:
        """Write the file of a unit.

        Raises:
            OutputError: it cannot be written.
        """
        started = time.perf_counter()
        facts = {"job_digest": self._digest, "lost": segmented.lost}
        with writer(self._folder / unit_file(segmented.unit), self._like, facts) as out:
            for nuclei in (segmented.seams(), segmented.inside()):
                out.write(nuclei if len(nuclei) else self._like)
        spent = (*segmented.seconds, time.perf_counter() - started)
        self._written(Written(segmented.unit, len(segmented.nuclei), len(segmented.lost), spent))


def unit_file(unit: Unit) -> str:
    """Return the name of the file of a unit."""
    return f"unit-{unit.row:04d}-{unit.column:04d}.parquet"


def _checked(path: Path, digest: str) -> NucleiFile:
    """Return the file of a unit, if it is whole and of the job of `digest`."""
    found = open_nuclei(path)
    if found.facts.get("job_digest") != digest:
        raise InputError("made by another job")
    if not isinstance(found.facts.get("lost"), list):
        raise InputError("not a unit")
    return found


def is_written(folder: Path, unit: Unit, digest: str) -> bool:
    """Return whether a unit is done, by this job, and with all of its tiles."""
    try:
        found = _checked(folder / unit_file(unit), digest)
    except InputError:
        return False
    return not found.facts["lost"]  # what could not be read may be readable now


@dataclass(frozen=True, slots=True)
class _UnitFile:
    """A unit whose file is read when it is asked for."""

    unit: Unit
    folder: Path
    digest: str

    def seams(self) -> Instances:
        return self.read(lambda file: file.group(_SEAMS))

    def inside(self) -> Instances:
        return self.read(lambda file: file.group(_INSIDE))

    def lost(self) -> list[dict[str, Any]]:
        return self.read(lambda file: list(file.facts["lost"]))

    def read(self, part: Callable[[NucleiFile], T]) -> T:
        """Return a part of the file; one that is damaged or foreign is removed."""
        path = self.folder / unit_file(self.unit)
        try:
            return part(_checked(path, self.digest))
        except InputError as error:
            path.unlink(missing_ok=True)
            raise InputError(
                f"{path}: is damaged, or of another run ({error}). It is removed: add --resume to "
                "segment that part again."
            ) from error


def unit_files(folder: Path, units: list[Unit], digest: str) -> list[Segmented]:
    """Return units of a job, to be read as `merge` asks for them."""
    return [_UnitFile(unit, folder, digest) for unit in units]


def lost_in(folder: Path, units: list[Unit], digest: str) -> list[dict[str, Any]]:
    """Return the boxes of the units of a job that could not be read, and why.

    Raises:
        InputError: the file of a unit is missing or damaged.
    """
    return [entry for unit in units for entry in _UnitFile(unit, folder, digest).lost()]


def write_merged(
    segmented: Iterable[Segmented],
    out: Path,
    frame: Frame,
    class_names: tuple[str, ...],
    facts: dict[str, Any],
) -> int:
    """Write the file of all nuclei of units, each once; return how many a tile did not see whole.

    Args:
        segmented: the units, in their order.
        out: file to write.
        frame: level 0.
        class_names: of the nuclei.
        facts: for the metadata of the file.

    Raises:
        OutputError: the file cannot be written.
    """
    cut = 0
    with writer(out, no_nuclei(frame, class_names), facts) as file:
        for merged in merge(segmented, frame, class_names):
            file.write(merged.nuclei)
            cut += merged.cut
    return cut

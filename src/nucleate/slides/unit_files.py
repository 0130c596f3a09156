"""Store segmented units as files, so that an interrupted slide can be resumed.

Nuclei on seams are in a separate row group, so that seams are resolved without reading the others
(`inference.seams`).
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
        unit: the work unit.
        nuclei: number of nuclei in its file; those on seams may be counted twice.
        lost: number of its tiles that could not be read.
        seconds: time for reading, the network, decoding, and writing.
    """

    unit: Unit
    nuclei: int
    lost: int
    seconds: tuple[float, float, float, float]


class UnitFiles:
    """A sink that writes each unit into a folder.

    Args:
        folder: folder of the files.
        digest: digest of the job, stored in every file so that jobs are never mixed.
        frame: frame of level 0.
        class_names: names of the classes of nuclei.
        written: called with each unit after its file is written.
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
            OutputError: the file cannot be written.
        """
        started = time.perf_counter()
        facts = {"job_digest": self._digest, "lost": segmented.lost, "ink": segmented.ink}
        with writer(self._folder / unit_file(segmented.unit), self._like, facts) as out:
            for nuclei in (segmented.seams(), segmented.inside()):
                out.write(nuclei if len(nuclei) else self._like)
        spent = (*segmented.seconds, time.perf_counter() - started)
        self._written(Written(segmented.unit, len(segmented.nuclei), len(segmented.lost), spent))


def unit_file(unit: Unit) -> str:
    """Return the file name of a unit."""
    return f"unit-{unit.row:04d}-{unit.column:04d}.parquet"


def _checked(path: Path, digest: str) -> NucleiFile:
    """Open the file of a unit; raise an `InputError` unless it is intact and of the given job."""
    found = open_nuclei(path)
    if found.facts.get("job_digest") != digest:
        raise InputError("made by another job")
    lost, ink = found.facts.get("lost"), found.facts.get("ink")
    if not isinstance(lost, list) or not isinstance(ink, int):
        raise InputError("not a unit")
    return found


def is_written(folder: Path, unit: Unit, digest: str) -> bool:
    """Return whether this job has segmented a unit with all of its tiles."""
    try:
        found = _checked(folder / unit_file(unit), digest)
    except InputError:
        return False
    return not found.facts["lost"]  # lost tiles may be readable now


@dataclass(frozen=True, slots=True)
class _UnitFile:
    """A unit whose file is read on demand."""

    unit: Unit
    folder: Path
    digest: str

    def seams(self) -> Instances:
        return self.read(lambda file: file.group(_SEAMS))

    def inside(self) -> Instances:
        return self.read(lambda file: file.group(_INSIDE))

    def facts(self) -> dict[str, Any]:
        return self.read(lambda file: file.facts)

    def read(self, part: Callable[[NucleiFile], T]) -> T:
        """Read a part of the file; remove the file if it is damaged or of another job."""
        path = self.folder / unit_file(self.unit)
        try:
            return part(_checked(path, self.digest))
        except InputError as error:
            path.unlink(missing_ok=True)
            raise InputError(
                f"{path}: is damaged, or from another run ({error}). It was removed: add --resume "
                "to segment that part again."
            ) from error


def unit_files(folder: Path, units: list[Unit], digest: str) -> list[Segmented]:
    """Return the units of a job for `merge`, which reads them on demand."""
    return [_UnitFile(unit, folder, digest) for unit in units]


def left_out(folder: Path, units: list[Unit], digest: str) -> tuple[list[dict[str, Any]], int]:
    """Return what the units of a job leave out: the boxes that could not be read, and ink.

    Returns:
        Boxes and reasons; the number of objects that have the colour of ink.

    Raises:
        InputError: the file of a unit is missing or damaged.
    """
    facts = [_UnitFile(unit, folder, digest).facts() for unit in units]
    return [entry for one in facts for entry in one["lost"]], sum(one["ink"] for one in facts)


def write_merged(
    segmented: Iterable[Segmented],
    out: Path,
    frame: Frame,
    class_names: tuple[str, ...],
    facts: dict[str, Any],
) -> int:
    """Merge units and write the file of all nuclei; return the number larger than a tile.

    Args:
        segmented: the units, in order.
        out: file to write.
        frame: frame of level 0.
        class_names: names of the classes of nuclei.
        facts: metadata of the file.

    Raises:
        OutputError: the file cannot be written.
    """
    cut = 0
    with writer(out, no_nuclei(frame, class_names), facts) as file:
        for merged in merge(segmented, frame, class_names):
            file.write(merged.nuclei)
            cut += merged.cut
    return cut

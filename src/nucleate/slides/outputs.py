"""Where the results of a source go, and what they are called."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from nucleate.errors import InputError
from nucleate.files import excess_bytes
from nucleate.inference.pipeline import EngineOptions
from nucleate.readers.limits import MAX_PIXELS
from nucleate.readers.remote import Mirror
from nucleate.results.formats import EXPORTERS, Exporter
from nucleate.results.names import OVERVIEW, PARQUET


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What to do with every source.

    Attributes:
        mpp: micrometres per pixel of sources that state none; None takes what each file states.
        formats: keys of `EXPORTERS` to write besides Parquet; None for those that suit the size.
        engine: how to tile.
        tissue_mask: whether glass, pen and folds of a slide are left out.
        resume: go on where an earlier run stopped.
        override_mpp: whether `mpp` counts although a file states another value.
        plane: which of several focal planes or time points of a TIFF, from 1 on.
        most_pixels: of an image that is read at once; what it needs counts as memory.
    """

    mpp: float | None = None
    formats: tuple[str, ...] | None = None
    engine: EngineOptions = field(default_factory=EngineOptions)
    tissue_mask: bool = True
    resume: bool = False
    override_mpp: bool = False
    plane: int | None = None
    most_pixels: int = MAX_PIXELS


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the results of a source go.

    Attributes:
        out: folder of all results, and where it is copied to.
        stem: what the names of its files begin with, with the folder below `out` if any.
        formats: as asked for.
        is_slide: whether it is too large for files that contain every pixel.
        is_large: whether its overlay is a JPEG.
    """

    out: Mirror
    stem: str
    formats: tuple[str, ...] | None
    is_slide: bool = False
    is_large: bool = False

    @property
    def parquet_name(self) -> str:
        """The name of the file of all nuclei, below `out`."""
        return f"{self.stem}{PARQUET}"

    @property
    def units_name(self) -> str:
        """The name of the folder of the finished units, below `out`."""
        folder, slash, name = self.stem.rpartition("/")
        return f"{folder}{slash}.{name}.units"

    @property
    def unfinished(self) -> Path:
        """The file of all nuclei, while the other files are written."""
        folder, slash, name = self.parquet_name.rpartition("/")
        return self.out.folder / f"{folder}{slash}.{name}"

    @property
    def parquet(self) -> Path:
        """The file of all nuclei."""
        return self.out.folder / self.parquet_name

    @property
    def units(self) -> Path:
        """The folder of the finished units, which is gone at the end."""
        return self.out.folder / self.units_name

    def files(self) -> dict[str, str]:
        """Return format -> name of file, without Parquet and overview."""
        usual = tuple(k for k, e in EXPORTERS.items() if e.usual and not self.is_slide)
        chosen = usual if self.formats is None else self.formats
        return {k: f"{self.stem}{self._suffix(EXPORTERS[k])}" for k in chosen if k != "parquet"}

    def _suffix(self, exporter: Exporter) -> str:
        return (self.is_large and exporter.large_suffix) or exporter.suffix

    def overview(self) -> dict[str, str]:
        """Return the name of the overview of a slide."""
        return {"overview": f"{self.stem}{OVERVIEW}"} if self.is_slide else {}

    def check_names(self) -> None:
        """Raise an `InputError` if a name of a result is too long for the file system."""
        names = self.parquet_name, *self.files().values(), *self.overview().values()
        excess = max(excess_bytes(self.out.folder / name) for name in names)
        if excess:
            raise InputError(
                f"{self.stem}: its results would have names that are too long by {excess} bytes "
                "for the file system. Rename the source."
            )

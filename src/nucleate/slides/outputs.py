"""Folders and file names of the results of a source."""

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
    """Options that apply to every source.

    Attributes:
        mpp: micrometres per pixel of sources that state none; None uses the value in each file.
        formats: keys of `EXPORTERS` to write besides Parquet; None for those that suit the size.
        engine: tiling, threads and processes.
        tissue_mask: whether to skip glass, pen and folds of slides.
        resume: whether to continue an earlier run.
        override_mpp: whether `mpp` overrides a different value in a file.
        plane: focal plane or time point to read from a TIFF that has several, counted from 1.
        most_pixels: size limit of images that are read at once, because of memory.
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
    """Paths of the results of a source.

    Attributes:
        out: folder of all results, and its remote copy.
        stem: stem of its file names, with the subfolder of `out` if any.
        formats: requested formats.
        is_slide: whether the source is too large for files that contain every pixel.
        is_large: whether its overlay is a JPEG.
    """

    out: Mirror
    stem: str
    formats: tuple[str, ...] | None
    is_slide: bool = False
    is_large: bool = False

    @property
    def parquet_name(self) -> str:
        """Name of the file of all nuclei, relative to `out`."""
        return f"{self.stem}{PARQUET}"

    @property
    def units_name(self) -> str:
        """Name of the folder of finished units, relative to `out`."""
        folder, slash, name = self.stem.rpartition("/")
        return f"{folder}{slash}.{name}.units"

    @property
    def unfinished(self) -> Path:
        """Path of the file of all nuclei while the other files are being written."""
        folder, slash, name = self.parquet_name.rpartition("/")
        return self.out.folder / f"{folder}{slash}.{name}"

    @property
    def parquet(self) -> Path:
        """Path of the file of all nuclei."""
        return self.out.folder / self.parquet_name

    @property
    def units(self) -> Path:
        """Path of the folder of finished units, which is removed at the end."""
        return self.out.folder / self.units_name

    def files(self) -> dict[str, str]:
        """Return format -> file name, without Parquet and overview."""
        usual = tuple(k for k, e in EXPORTERS.items() if e.usual and not self.is_slide)
        chosen = usual if self.formats is None else self.formats
        return {k: f"{self.stem}{self._suffix(EXPORTERS[k])}" for k in chosen if k != "parquet"}

    def _suffix(self, exporter: Exporter) -> str:
        return (self.is_large and exporter.large_suffix) or exporter.suffix

    def overview(self) -> dict[str, str]:
        """Return the file name of the overview of a slide."""
        return {"overview": f"{self.stem}{OVERVIEW}"} if self.is_slide else {}

    def check_names(self) -> None:
        """Raise an `InputError` if a result's file name is too long for the file system."""
        names = self.parquet_name, *self.files().values(), *self.overview().values()
        excess = max(excess_bytes(self.out.folder / name) for name in names)
        if excess:
            raise InputError(
                f"{self.stem}: its results would have names that are too long by {excess} bytes "
                "for the file system. Rename the source."
            )

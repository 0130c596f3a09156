"""Progress of a source and estimate of the remaining time."""

from __future__ import annotations

import time

from nucleate.inference.pipeline import Done
from nucleate.inference.tiling import Tile
from nucleate.slides.unit_files import Written


class Progress:
    """Progress of a source: tiles, square millimetres, nuclei, and speed.

    Attributes:
        tiles: tiles to segment in this run.
        done: tiles done.
        mm2: area done, in mm².
        nuclei: nuclei found so far; those on seams may be counted twice.
    """

    def __init__(self, tiles: int, mpp: float) -> None:
        self.tiles, self.done, self.mm2, self.nuclei = tiles, 0, 0.0, 0
        self._mpp, self._started = mpp, time.monotonic()

    def add(self, done: Done) -> None:
        """Count a tile."""
        self._add(done.tile, 0 if done.part is None else len(done.part.nuclei))

    def _add(self, tile: Tile, nuclei: int) -> None:
        x0, y0, x1, y1 = tile.core
        self.done += 1
        self.mm2 += (x1 - x0) * (y1 - y0) * self._mpp**2 / 1e6
        self.nuclei += nuclei

    def add_unit(self, written: Written) -> None:
        """Count a unit segmented by another process."""
        for tile in written.unit.tiles:
            self._add(tile, 0)
        self.nuclei += written.nuclei

    def left(self) -> str:
        """Return an estimate of the remaining time."""
        spent = time.monotonic() - self._started
        minutes = spent / max(self.done, 1) * (self.tiles - self.done) / 60
        return f"about {minutes:.0f} min left" if minutes >= 1 else "less than a minute left"

    def __str__(self) -> str:
        spent = max(time.monotonic() - self._started, 1e-3)
        return (
            f"{self.done / spent:.1f} tiles/s, {self.mm2 / spent:.2f} mm²/s, {self.nuclei:,} nuclei"
        )

"""Runs of equal labels along rows: pieces, areas and boxes from a few runs, not from all pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nucleate.types import Bool, Int32, Int64

_BAND_PX = 1 << 20  # pixels searched at a time: bounded memory, for label images of slides


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of a label image, row by row, without those of background.

    Attributes:
        starts: int64 (n,), position of the first pixel of each run. Positions count the pixels of
            the image, with a border of one pixel all around, row by row.
        ends: int64 (n,), position after the last pixel of each run.
        labels: int64 (n,), label of each run, never 0.
        wide: width of the image with its border.
    """

    starts: Int64
    ends: Int64
    labels: Int64
    wide: int

    @property
    def lengths(self) -> Int64:
        """Number of pixels of each run."""
        return self.ends - self.starts

    def take(self, which: Bool) -> Runs:
        """Return some of the runs."""
        return Runs(self.starts[which], self.ends[which], self.labels[which], self.wide)

    def areas(self, count: int = 0) -> Int64:
        """Return the number of pixels of each label 1..n, at least 1..count."""
        return np.bincount(self.labels, self.lengths, count + 1)[1:].astype(np.int64)

    def boxes(self, count: int = 0) -> Int64:
        """Return the boxes of the labels 1..n, at least 1..count, as x0, y0, x1, y1, half-open.

        An absent label has an inverted box.
        """
        y, x = np.divmod(self.starts, self.wide)
        far = np.iinfo(np.int64).max
        out = np.tile([far, far, 0, 0], (max(count, int(self.labels.max(initial=0))) + 1, 1))
        np.minimum.at(out[:, 0], self.labels, x - 1)
        np.minimum.at(out[:, 1], self.labels, y - 1)
        np.maximum.at(out[:, 2], self.labels, x - 1 + self.lengths)
        np.maximum.at(out[:, 3], self.labels, y)
        return out[1:]

    def pieces(self, diagonal: bool = False) -> Runs:
        """Return the same runs, labelled by connected pieces 1..m in the order of first pixels.

        Pixels of different labels are not connected.

        Args:
            diagonal: whether pixels that share only a corner are connected.

        Example:
            >>> runs_of(np.array([[7, 0], [0, 7]], np.int32)).pieces().labels.tolist()
            [1, 2]
        """
        return replace(self, labels=self._joined(diagonal)[0])

    def largest_pieces(self) -> Runs:
        """Return the runs of the largest 4-connected piece of each label, renumbered to 1..n.

        The order of the labels stays. Of pieces of equal size, the first is kept.

        Example:
            >>> runs = runs_of(np.array([[5, 0, 5, 5], [0, 3, 0, 0]], np.int32)).largest_pieces()
            >>> runs.labels.tolist(), runs.lengths.tolist()
            ([2, 1], [2, 1])
        """
        pieces = self.pieces()
        areas = pieces.areas()
        first = np.unique(pieces.labels, return_index=True)[1]  # run of each piece
        order = np.lexsort((-areas, self.labels[first]))  # by label, its largest piece first
        chosen = order[np.unique(self.labels[first][order], return_index=True)[1]]
        numbers = np.zeros(len(areas) + 1, np.int64)
        numbers[chosen + 1] = np.arange(1, len(chosen) + 1)
        labels = numbers[pieces.labels]
        return replace(self, labels=labels).take(labels > 0)

    def holes(self) -> Int64:
        """Return the number of holes of each piece 1..m, for runs labelled by `pieces()`.

        A hole is enclosed by pixels that share at least corners. The number of runs of a piece
        minus that of their contacts is 1 minus its holes: Euler's number, as of a graph (Gray
        1971, doi:10.1109/T-C.1971.223289).

        Example:
            >>> ring = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.int32)
            >>> runs_of(ring).pieces().holes().tolist()
            [1]
        """
        contacts = np.bincount(self.labels, self._joined(True)[1])
        return 1 - (np.bincount(self.labels) - contacts)[1:].astype(np.int64)

    def split(self, labels: Int32) -> Runs:
        """Return the runs of other labels of the same pixels, without background.

        Args:
            labels: int32, label of each pixel, run by run.
        """
        offsets = np.cumsum(self.lengths) - self.lengths
        changes = np.ones(len(labels), np.bool_)
        np.not_equal(labels[1:], labels[:-1], out=changes[1:])
        changes[offsets] = True
        firsts = np.flatnonzero(changes)
        lengths = np.diff(firsts, append=len(labels))
        run = np.searchsorted(offsets, firsts, "right") - 1
        starts = self.starts[run] + firsts - offsets[run]
        split = Runs(starts, starts + lengths, labels[firsts].astype(np.int64), self.wide)
        return split.take(split.labels > 0)

    def draw(self, numbers: Int64, out: Int32) -> Int32:
        """Draw run i with the value `numbers[i]` into `out`, int32 (H, W); return it."""
        from nucleate.geometry.kernels import runs as _kernels

        _kernels.draw(out, self.starts, self.ends, numbers, self.wide)
        return out

    def _joined(self, diagonal: bool) -> tuple[Int64, Int64]:
        from nucleate.geometry.kernels import runs as _kernels

        return _kernels.join(  # type: ignore[no-any-return]
            self.starts, self.ends, self.labels, self.wide, int(diagonal)
        )


def runs_of(labels: Int32 | Bool) -> Runs:
    """Return the runs of the labels above 0 of an image, or of a mask: int32 or bool (H, W).

    Example:
        >>> runs = runs_of(np.array([[0, 5, 5, 7]], np.int32))
        >>> runs.labels.tolist(), runs.lengths.tolist(), runs.boxes(7)[6].tolist()
        ([5, 7], [2, 1], [3, 0, 4, 1])
    """
    wide = labels.shape[1] + 2
    parts = [(np.zeros(0, np.int64),) * 3]
    rows = max(1, _BAND_PX // wide)
    for top in range(0, labels.shape[0], rows):
        band = np.pad(labels[top : top + rows], ((0, 0), (1, 1))).ravel()
        changes = np.flatnonzero(band[1:] != band[:-1]) + 1
        values = band[changes].astype(np.int64)
        starts = np.flatnonzero(values > 0)
        begin = (top + 1) * wide
        parts.append((changes[starts] + begin, changes[starts + 1] + begin, values[starts]))
    starts, ends, kinds = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Runs(starts, ends, kinds, wide)

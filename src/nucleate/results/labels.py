"""Write nuclei as a label image, band by band."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from nucleate.geometry.outlines import paint
from nucleate.readers.limits import check_label_size
from nucleate.readers.source import Source
from nucleate.results.images import write_label_rows
from nucleate.results.parquet import NucleiFile
from nucleate.types import Instances, Int32


def write_label_image(found: NucleiFile, source: Source | None, path: Path) -> None:
    """Write an int32 TIFF of the source's size: 0 for background, else the id of the nucleus."""
    frame = found.frame
    check_label_size(found.path, frame.width, frame.height)
    write_label_rows(path, (frame.height, frame.width), label_rows(found), frame.mpp)


_ROWS, _BAND_PX = 256, 1 << 22  # bands have a multiple of so many rows, and about so many pixels


def label_rows(found: NucleiFile) -> Iterator[Int32]:
    """Yield the label image in bands of rows; the higher score wins overlaps."""
    frame = found.frame
    rows = _ROWS * max(1, _BAND_PX // (_ROWS * frame.width))
    spans = found.spans()
    group = lru_cache(maxsize=64)(found.group)
    for top in range(0, frame.height, rows):
        bottom = min(top + rows, frame.height)
        near = [group(i) for i, (low, high) in enumerate(spans) if low < bottom and high > top]
        inside = [n.take((n.boxes_xyxy[:, 1] < bottom) & (n.boxes_xyxy[:, 3] > top)) for n in near]
        yield _band(inside, top, (bottom - top, frame.width))


def _band(parts: list[Instances], top: int, shape: tuple[int, int]) -> Int32:
    labels = np.zeros(shape, np.int32)
    parts = [part for part in parts if len(part)]
    if not parts:
        return labels
    ids = np.concatenate([part.ids for part in parts])
    nuclei = Instances.concatenate(parts, parts[0].frame)
    shifted = nuclei.coords_xy - np.array([0, top], np.float32)
    return paint(replace(nuclei, ids=ids, coords_xy=shifted), shape)

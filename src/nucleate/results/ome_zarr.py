"""Write a label image of nuclei as OME-Zarr with a pyramid."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from nucleate.errors import optional
from nucleate.files import atomic_folder
from nucleate.types import Int32

_CHUNK = 1024  # edge of a chunk of a label image
_COARSEST = 512  # largest edge of the coarsest level of a pyramid


def write_ome_zarr(
    path: Path, shape: tuple[int, int], bands: Iterable[Int32], mpp: float | None
) -> None:
    """Write a label image as OME-Zarr 0.4 with a pyramid, band by band.

    Args:
        path: folder to write.
        shape: (H, W).
        bands: bands of whole rows, from top to bottom.
        mpp: micrometres per pixel.

    Raises:
        NucleateError: the extra `export` is not installed.
        OutputError: the folder cannot be written.
    """
    zarr: Any = optional("zarr", "export")
    with atomic_folder(path) as folder:
        root = zarr.open_group(str(folder), mode="w", zarr_format=2)
        levels = [_level(root, 0, shape)]
        top = 0
        waiting: list[Int32] = []
        for band in bands:
            waiting.append(band)
            if sum(map(len, waiting)) >= _CHUNK:
                top = _flush(levels[0], waiting, top)
        _flush(levels[0], waiting, top)
        while max(levels[-1].shape) > _COARSEST:
            finer = levels[-1]
            coarser = _level(root, len(levels), tuple(-(-n // 2) for n in finer.shape))
            for y in range(0, coarser.shape[0], _CHUNK):
                coarser[y : y + _CHUNK] = finer[2 * y : 2 * (y + _CHUNK) : 2, ::2]
            levels.append(coarser)
        unit = {"unit": "micrometer"} if mpp is not None else {}
        root.attrs["multiscales"] = [
            {
                "version": "0.4",
                "name": "nuclei",
                "axes": [{"name": axis, "type": "space", **unit} for axis in "yx"],
                "datasets": [
                    {
                        "path": str(i),
                        "coordinateTransformations": [
                            {"type": "scale", "scale": [(mpp or 1.0) * 2**i] * 2},
                        ],
                    }
                    for i in range(len(levels))
                ],
            }
        ]
        root.attrs["image-label"] = {"version": "0.4"}


def _level(root: Any, number: int, shape: tuple[int, ...]) -> Any:  # noqa: ANN401
    return root.create_array(
        str(number), shape=shape, chunks=(_CHUNK, _CHUNK), dtype="int32",
        chunk_key_encoding={"name": "v2", "separator": "/"},
    )  # fmt: skip


def _flush(level: Any, waiting: list[Int32], top: int) -> int:  # noqa: ANN401
    if not waiting:
        return top
    rows = np.concatenate(waiting)
    waiting.clear()
    level[top : top + len(rows)] = rows
    return top + len(rows)

"""MATLAB files of versions 5 to 7.2: named numeric arrays, and nothing else."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nucleate.errors import InputError, optional
from nucleate.io.files import read_bytes
from nucleate.io.images import PathLike

_MAX_VALUES = 1 << 28
_NUMERIC = (
    "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "single", "double",
    "logical",
)  # fmt: skip


def read_mat(
    path: PathLike, needed: tuple[str, ...], welcome: tuple[str, ...] = ()
) -> dict[str, NDArray[Any]]:
    """Read named arrays of a MATLAB file; needs SciPy, which comes with the extra `train`.

    Only these variables are unpacked, and only if they are plain numeric arrays of a plausible
    size: a cell or a structure in a hostile file could demand any amount of memory.

    Args:
        path: the file; may be inside a zip file.
        needed: names that the file must hold.
        welcome: names that it may hold.

    Returns:
        Name -> array; MATLAB's whole numbers in floating point become int64.

    Raises:
        InputError: missing, not a MATLAB file, a needed name is absent, or not a numeric array.
        NucleateError: SciPy is not installed.
    """
    matlab = optional("scipy.io", "train")
    data = read_bytes(path, 1 << 30)
    try:
        listed = {name: (shape, kind) for name, shape, kind in matlab.whosmat(io.BytesIO(data))}
    except Exception as error:  # a hostile file raises anything
        raise _damaged(path, error) from error
    for name in needed:
        if name not in listed:
            held = ", ".join(sorted(listed)) or "nothing"
            raise InputError(
                f"{path}: holds {held[:200]}, but no {name!r}. Store the labels under {name!r}."
            )
    names = [name for name in (*needed, *welcome) if name in listed]
    for name in names:
        shape, kind = listed[name]
        if kind not in _NUMERIC or math.prod(shape) > _MAX_VALUES or min(shape, default=0) < 0:
            size = " × ".join(map(str, shape))
            raise InputError(
                f"{path}: {name!r} is {kind} of {size}, not a numeric array of a picture's size. "
                "Store it as a full array."
            )
    try:
        content = matlab.loadmat(io.BytesIO(data), variable_names=names)
        arrays = {name: np.asarray(content[name]) for name in names}
    except Exception as error:  # a hostile file raises anything
        raise _damaged(path, error) from error
    return {name: _whole(array) for name, array in arrays.items()}


def _whole(array: NDArray[Any]) -> NDArray[Any]:
    """Return whole numbers as int64: MATLAB stores them as double."""
    if array.dtype.kind == "f" and np.isfinite(array).all() and not (array % 1).any():
        return array.astype(np.int64)
    return array


def _damaged(path: PathLike, error: Exception) -> InputError:
    said = (" ".join(str(error).split()) or type(error).__name__)[:120].rstrip(".")
    return InputError(
        f"{path}: cannot be read as a MATLAB file ({said}). Save it in MATLAB format 5 to 7.2."
    )

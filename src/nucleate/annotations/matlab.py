"""Reader of plain numeric arrays from MATLAB files of versions 5 to 7.2."""

from __future__ import annotations

import io
import math
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nucleate.errors import InputError, optional
from nucleate.files import PathLike, read_bytes

_MAX_VALUES = 1 << 28
_MAX_BYTES = 1 << 30
_MATRIX, _COMPRESSED = 14, 15  # element types of the format
_NUMERIC = (
    "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "single", "double",
    "logical",
)  # fmt: skip


def read_mat(
    path: PathLike, needed: tuple[str, ...], welcome: tuple[str, ...] = ()
) -> dict[str, NDArray[Any]]:
    """Read named arrays from a MATLAB file; needs SciPy, from the extra `data`.

    Only these variables are unpacked, and only if they are plain numeric arrays of plausible size:
    cells and structures of a malicious file could exhaust memory.

    Args:
        path: the file; may be inside a zip file.
        needed: names of required variables.
        welcome: names of optional variables.

    Returns:
        Name -> array; integers that MATLAB stored as floating point become int64.

    Raises:
        InputError: missing, not a MATLAB file, a required name is absent, or not a numeric array.
        NucleateError: SciPy is not installed.
    """
    matlab = optional("scipy.io", "data")
    data = read_bytes(path, _MAX_BYTES)
    _check_sizes(path, data)
    try:
        listed = {name: (shape, kind) for name, shape, kind in matlab.whosmat(io.BytesIO(data))}
    except Exception as error:  # a malicious file raises any error
        raise _damaged(path, error) from error
    for name in needed:
        if name not in listed:
            held = ", ".join(sorted(listed)) or "nothing"
            raise InputError(
                f"{path}: contains {held[:200]}, but no {name!r}. Store the labels under {name!r}."
            )
    names = [name for name in (*needed, *welcome) if name in listed]
    for name in names:
        shape, kind = listed[name]
        if kind not in _NUMERIC or math.prod(shape) > _MAX_VALUES or min(shape, default=0) < 0:
            size = " × ".join(map(str, shape))
            raise InputError(
                f"{path}: {name!r} is {kind} of {size}, not a numeric array of an image's size. "
                "Store it as a full array."
            )
    try:
        content = matlab.loadmat(io.BytesIO(data), variable_names=names)
        arrays = {name: np.asarray(content[name]) for name in names}
    except Exception as error:  # a malicious file raises any error
        raise _damaged(path, error) from error
    return {name: _whole(array) for name, array in arrays.items()}


def _check_sizes(path: PathLike, data: bytes) -> None:
    """Reject a version-5 file with an element that claims more bytes than the file has.

    SciPy allocates the claimed size before it checks whether that much data follows.

    Raises:
        InputError: a claimed size is too large, or a compressed element unpacks to over 1 GiB.
    """
    if data[126:128] not in (b"IM", b"MI"):
        return  # version 4, or not a MATLAB file: SciPy reads only existing bytes
    order = "<" if data[126:128] == b"IM" else ">"
    todo = [(memoryview(data)[128:], True)]
    while todo:
        block, outermost = todo.pop()
        at = 0
        while at + 8 <= len(block):
            kind, size = struct.unpack_from(f"{order}II", block, at)
            if not outermost and kind >> 16:  # small element: size and type share four bytes
                at += 8
                continue
            inside = block[at + 8 : at + 8 + size]
            if len(inside) < size:
                raise _damaged(path, ValueError("an element ends after the file"))
            if kind == _COMPRESSED:
                todo.append((memoryview(_unpack(path, inside)), True))
                at += 8 + size
            else:
                if kind == _MATRIX:
                    todo.append((inside, False))
                at += 8 + size + -size % 8


def _unpack(path: PathLike, packed: memoryview) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(packed, _MAX_BYTES)
    except zlib.error as error:
        raise _damaged(path, error) from error
    if unpacker.unconsumed_tail:
        raise _damaged(path, ValueError("it unpacks to more than 1 GiB"))
    return content


def _whole(array: NDArray[Any]) -> NDArray[Any]:
    """Convert integers to int64: MATLAB stores them as double."""
    if array.dtype.kind != "f" or not array.size:
        return array
    if not (np.abs(array) < 2**53).all() or (array != np.rint(array)).any():  # also false for NaN
        return array
    return array.astype(np.int64)


def _damaged(path: PathLike, error: Exception) -> InputError:
    said = (" ".join(str(error).split()) or type(error).__name__)[:120].rstrip(".")
    return InputError(
        f"{path}: cannot be read as a MATLAB file ({said}). Save it in MATLAB format 5 to 7.2."
    )

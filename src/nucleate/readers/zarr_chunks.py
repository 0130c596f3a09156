"""Check the unpacked size of Zarr chunks before unpacking them."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nucleate.errors import InputError

_SLACK = 1 << 16  # bytes that a chunk may have in addition to its values
_MOST_DEFLATED = 1032  # maximum compression ratio of deflate
_MOST_META = 16 << 20  # size limit of a metadata file, in bytes
_MOST_INNER = 1 << 20  # maximum number of chunks in a shard
_ZSTD_BLOCK = 1 << 17
_NEUTRAL = (  # codecs that do not change the number of bytes
    "bytes", "transpose", "crc32c", "delta", "shuffle", "fixedscaleoffset", "vlen-bytes",
)  # fmt: skip


def check_metadata(path: Path) -> None:
    """Raise an `InputError` for a folder whose metadata would fill the memory.

    Args:
        path: folder of the group.
    """
    for name in (".zattrs", ".zgroup", ".zmetadata", "zarr.json"):
        file = path / name
        if file.is_file() and file.stat().st_size > _MOST_META:
            raise InputError(
                f"{path}: its {name} has {file.stat().st_size >> 20} MiB, where a description of "
                f"an image has less than {_MOST_META >> 20}. It is damaged: write it again."
            )


class ChunkGuard:
    """Checks every chunk of an array once, before it is unpacked."""

    def __init__(self, root: Path, array: Any) -> None:  # noqa: ANN401
        """Read the codecs of the array.

        Raises:
            InputError: the codecs are not supported, or a shard has too many chunks.
        """
        self._root, self._folder, self._array = root, root / array.path, array
        self._limit = math.prod(array.chunks) * array.dtype.itemsize + _SLACK
        self._seen: set[tuple[int, ...]] = set()
        self._sharding: dict[str, Any] | None = None
        names = _codecs(array.metadata)
        if names and names[0][0] == "sharding_indexed":
            self._sharding = names[0][1]
            names = [_name_of(codec) for codec in self._sharding["codecs"]]
        packed = [name for name, _ in names if name not in _NEUTRAL]
        if len(packed) > 1 or any(name not in _CLAIMS for name in packed):
            raise InputError(
                f"{root}: its chunks are compressed with {' and '.join(packed)}, which is not "
                "supported. Write it with only zstd, blosc or gzip."
            )
        self._codec = packed[0] if packed else ""
        self._grid = tuple(array.shards or array.chunks)
        inner = math.prod(-(-a // b) for a, b in zip(self._grid, array.chunks, strict=True))
        self._inner = inner if self._sharding is not None else 0
        if inner > _MOST_INNER:
            raise InputError(
                f"{root}: has {inner:,} chunks per shard (at most {_MOST_INNER:,} are supported). "
                "Write it with larger chunks."
            )

    def check(self, window: tuple[slice | int, ...]) -> None:
        """Check the chunks of a window.

        Args:
            window: index of each axis.

        Raises:
            InputError: a chunk unpacks to more bytes than allowed.
        """
        spans = []
        for part, edge in zip(window, self._grid, strict=True):
            low, high = (part, part + 1) if isinstance(part, int) else (part.start, part.stop)
            spans.append(range(low // edge, -(-high // edge)))
        for place in itertools.product(*spans):
            if place not in self._seen:
                self._check(self._folder / self._array.metadata.encode_chunk_key(place))
                self._seen.add(place)

    def _check(self, file: Path) -> None:
        """Check the file of a chunk or shard; a missing file is an empty chunk."""
        try:
            size = file.stat().st_size
        except OSError:
            return
        most = self._limit * max(1, self._inner) + 24 * self._inner + _SLACK
        found = size
        if size <= most:
            for data in self._pieces(file):
                found = _CLAIMS[self._codec](data, self._limit)
                if found > self._limit:
                    break
        if size > most or found > self._limit:
            raise InputError(
                f"{self._root}: the chunk {file.relative_to(self._root)} unpacks to {found:,} bytes"
                f" or more instead of {self._limit - _SLACK:,}. It is damaged, or made to fill the "
                "memory: write it again."
            )

    def _pieces(self, file: Path) -> Iterator[bytes]:
        """Yield the compressed bytes of each chunk of a file."""
        if self._sharding is None:
            yield file.read_bytes()
            return
        with file.open("rb") as handle:
            length = 16 * self._inner
            if self._sharding.get("index_location", "end") != "start":
                sums = 4 * any(c["name"] == "crc32c" for c in self._sharding["index_codecs"])
                handle.seek(-min(file.stat().st_size, length + sums), 2)
            index = handle.read(length)
            for at in range(0, len(index) - 15, 16):
                offset, size = (
                    int.from_bytes(index[at + k : at + k + 8], "little") for k in (0, 8)
                )
                if offset != size or offset != (1 << 64) - 1:  # else the chunk is empty
                    handle.seek(min(offset, file.stat().st_size))
                    yield handle.read(min(size, file.stat().st_size))


def _codecs(metadata: Any) -> list[tuple[str, dict[str, Any]]]:  # noqa: ANN401
    """Return the names and settings of the codecs of an array, Zarr version 2 or 3."""
    if metadata.zarr_format == 3:
        return [_name_of(codec.to_dict()) for codec in metadata.codecs]
    every = [*(metadata.filters or ()), *([metadata.compressor] if metadata.compressor else [])]
    return [(str(codec.get_config()["id"]), {}) for codec in every]


def _name_of(codec: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return str(codec["name"]).removeprefix("numcodecs."), dict(codec.get("configuration") or {})


def _raw(data: bytes, _: int) -> int:
    return len(data)


def _blosc(data: bytes, _: int) -> int:
    return int.from_bytes(data[4:8], "little")


def _lz4(data: bytes, _: int) -> int:
    return int.from_bytes(data[:4], "little")


def _zstd(data: bytes, limit: int) -> int:
    """Return the size stated in a Zstandard frame, or else the maximum size of its blocks.

    References:
        RFC 8878, sections 3.1.1.1 and 3.1.1.2.

    Example:
        >>> _zstd(bytes.fromhex("28b52ffda040420f00540000100000"), 1 << 30)
        1000000
    """
    if data[:4] != b"\x28\xb5\x2f\xfd" or len(data) < 6:
        return len(data)
    flags = data[4]
    single, kind = flags >> 5 & 1, flags >> 6
    at = 5 + (not single) + (0, 1, 2, 4)[flags & 3]
    width = (single, 2, 4, 8)[kind]
    if width:
        return int.from_bytes(data[at : at + width], "little") + (256 if width == 2 else 0)
    total = last = 0
    while not last and at + 3 <= len(data) and total <= limit:
        header = int.from_bytes(data[at : at + 3], "little")
        last, block, size = header & 1, header >> 1 & 3, header >> 3
        total += size if block < 2 else _ZSTD_BLOCK
        at += 3 + (1 if block == 1 else size)
    return total - _ZSTD_BLOCK + 1 if total > _ZSTD_BLOCK else total


def _deflate(data: bytes, limit: int) -> int:
    """Return the unpacked size of zlib or gzip data, counted in parts up to a limit."""
    total = 0
    if len(data) * _MOST_DEFLATED <= limit:
        return 0
    try:
        while data and total <= limit:  # gzip may consist of several members
            unpacker = zlib.decompressobj(47)  # zlib or gzip
            while not unpacker.eof and total <= limit:
                part = unpacker.decompress(data, 1 << 20)
                total += len(part)
                data = unpacker.unconsumed_tail
                if not part and not data:
                    return total
            data = unpacker.unused_data
    except zlib.error:
        return total  # damaged: reported when it is read
    return total


_CLAIMS = {
    "": _raw, "blosc": _blosc, "lz4": _lz4, "zstd": _zstd, "gzip": _deflate, "zlib": _deflate,
}  # fmt: skip

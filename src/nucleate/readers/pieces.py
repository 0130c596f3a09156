"""Check the size that a compressed tile or strip of a TIFF states, before unpacking it."""

from __future__ import annotations

import math
from typing import Any

from nucleate.errors import InputError
from nucleate.files import PathLike

_SIZED = (  # compressions whose streams contain a size
    6, 7, 33003, 33004, 33005, 33007, 34712, 34892, 34927, 34933, 50001,
)  # fmt: skip


def check_pieces(path: PathLike, file: Any, series: Any, page: Any) -> None:  # noqa: ANN401
    """Raise an `InputError` if a piece states a far larger size than the TIFF does."""
    if int(page.compression) not in _SIZED:
        return
    handle = file.filehandle
    for one in series.pages:
        if one is None:
            continue
        for offset, count in zip(one.dataoffsets, one.databytecounts, strict=False):
            if count:
                handle.seek(offset)
                check_piece(path, handle.read(min(count, 1 << 16)), page)


def check_piece(path: object, head: bytes, page: Any) -> None:  # noqa: ANN401
    """Raise an `InputError` if a compressed piece states far more pixels than allowed.

    Args:
        path: name for the message.
        head: first bytes of the piece.
        page: page of tifffile.
    """
    found = coded_size(head)
    if found is None:
        return
    wide, high = found
    claimed = math.prod(page.chunks)
    if wide * high > max(4 * claimed, 1 << 16):
        raise InputError(
            f"{path}: a piece of {' × '.join(map(str, page.chunks[:2]))} pixels unpacks to "
            f"{high} × {wide}. The file is damaged, or made to fill the memory: export it again."
        )


def coded_size(head: bytes) -> tuple[int, int] | None:
    """Return the width and height in a JPEG, JPEG 2000, PNG or WebP stream; None for others.

    Example:
        >>> coded_size(bytes.fromhex("89504e470d0a1a0a0000000d49484452000000020000000308"))
        (2, 3)
    """

    def number(at: int, n: int, order: Any = "big") -> int:  # noqa: ANN401
        return int.from_bytes(head[at : at + n], order)

    if head.startswith(b"\x89PNG"):
        return number(16, 4), number(20, 4)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _webp_size(head)
    siz = head.find(b"\xff\x4f\xff\x51", 0, 512)
    if siz >= 0:
        return number(siz + 8, 4), number(siz + 12, 4)
    if not head.startswith(b"\xff\xd8"):
        return None
    at = 2
    while at + 9 < len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in (0xC4, 0xC8, 0xCC) or not (0xC0 <= marker <= 0xCF or marker == 0xF7):
            at += 2 + number(at + 2, 2)
        else:
            return number(at + 7, 2), number(at + 5, 2)
    return None


def _webp_size(head: bytes) -> tuple[int, int]:
    """Return width and height of a WebP stream."""

    def number(at: int, n: int) -> int:
        return int.from_bytes(head[at : at + n], "little")

    kind = head[12:16]
    if kind == b"VP8X":
        return number(24, 3) + 1, number(27, 3) + 1
    if kind == b"VP8L":
        bits = number(21, 4)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return number(26, 2) & 0x3FFF, number(28, 2) & 0x3FFF

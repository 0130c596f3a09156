"""Estimate the memory that a run needs before it starts."""

from __future__ import annotations

import ctypes
import gc
import re

import numpy as np

from nucleate.errors import ConfigError
from nucleate.inference.backends import Model
from nucleate.inference.pipeline import EngineOptions

IMAGE_BYTES = 6  # bytes per pixel of an image that is read at once
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_PROBE_PX = 512
_REST = 600 << 20  # a unit being written, seams of three rows of units, tables
_DECODER = 450 << 20  # a decoder process before its first tile
_DECODED = 80  # bytes per pixel of a tile during decoding and measuring


def parse_bytes(text: str) -> int:
    """Parse a size such as 3G, 3GB, 3GiB or 500M to bytes; units are multiples of 1,024.

    Raises:
        ConfigError: not a size.

    Example:
        >>> parse_bytes("1.5G")
        1610612736
    """
    found = re.fullmatch(r"\s*([0-9.]+)\s*([KMGT]?)(i?B)?\s*", text, re.IGNORECASE)
    try:
        number = float(found[1]) if found else 0.0
    except ValueError:
        number = 0.0
    if not found or number <= 0:
        raise ConfigError(
            f"--max-memory {text!r}: not a size. Write a number and a unit, such as 3G or 500M."
        )
    return int(number * _UNITS[found[2].upper()])


def give_back() -> None:
    """Return freed memory that glibc retains to the system.

    This prevents the memory of successive stages of a slide from adding up. It is too slow to call
    for every small image.
    """
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another system, another library
        return


def estimate(model: Model, options: EngineOptions) -> int:
    """Estimate the peak memory of a run in bytes, from a trial run.

    The memory of the network per pixel is measured on a blank tile of about 512 × 512 pixels; the
    other needs of a tile are added. The estimate does not depend on the slide.
    """
    import psutil

    process = psutil.Process()
    once = _PROBE_PX + -_PROBE_PX % model.card.align_px
    model.backend(np.full((1, once, once, 3), 255, np.uint8))  # allocate what is loaded once
    before = process.memory_info().rss
    twice = 2 * once
    maps = model.backend(np.full((1, twice, twice, 3), 255, np.uint8))
    grown = max(0, process.memory_info().rss - before)
    network = grown / (twice**2 - once**2)  # bytes per pixel
    said = sum(m.nbytes for m in maps.values()) / twice**2
    pixels = options.tile_of(model.card) ** 2
    under_way = options.readers + 2 * options.batch + max(options.decoders, 1) + 2
    decoding = max(options.decoders, 1) * _DECODED * pixels
    tiles = under_way * (3 + 3 + said) * pixels + options.batch * network * pixels
    return int(before + tiles + decoding + options.decoders * _DECODER + _REST)


def check_memory(model: Model, options: EngineOptions, limit: int) -> int:
    """Return the bytes that a run needs in addition to its image, after checking them.

    Raises:
        ConfigError: the estimate exceeds the limit.
    """
    needed = estimate(model, options)
    if needed > limit:
        raise ConfigError(
            f"--max-memory {limit / 2**30:.2f}G: this needs about {needed / 2**30:.2f}G with "
            f"tiles of {options.tile_of(model.card)} pixels, {options.batch} at a time, and "
            f"{options.decoders} decoding processes. Lower --tile-px, --batch or --decoders, or "
            "allow more."
        )
    return needed

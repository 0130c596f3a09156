"""Limits on the sizes that a file claims, checked before memory is allocated."""

from __future__ import annotations

import math

from nucleate.errors import InputError, ModelError

MAX_PIXELS = 1 << 30  # 32,768 squared: larger images are read piece by piece, as slides
MAX_SAMPLES = 16  # values per pixel: an image of H&E has 3, with opacity 4
PIECE_BYTES = 64 << 20  # size of a tile, strip or chunk that is unpacked at once
FREE_BYTES = 512 << 20  # the compression ratio is not limited for images up to this size
IMAGE_RATIO = 250  # maximum compression ratio above it; JPEG of blank glass reaches about 150
FREE_ROWS = 100_000  # rows of a table above which ROW_BYTES applies
ROW_BYTES = 6  # minimum size of a row in the file
LABEL_PIXELS = 10**11  # pixels of a label image: 316,000 squared, more than any scanner makes
LAYER_VALUES = 1 << 28  # values of one layer of a network for a tile of any size: 1 GiB


def check_claim(owner: object, packed: int, unpacked: int) -> None:
    """Check the unpacked size that an image claims; call it before memory is allocated.

    Args:
        owner: name for error messages.
        packed: size of the file, in bytes.
        unpacked: size of its pixels, in bytes.

    Raises:
        InputError: more than 512 MiB, and more than 250 times the size of the file.

    Example:
        >>> check_claim("a.png", 1_000, 500_000_000)
        >>> check_claim("a.png", 1_000, 600_000_000)
        Traceback (most recent call last):
        nucleate.errors.InputError: a.png: claims 572 MiB of pixels in a file of 0 MiB, more than \
250 times its size. The file is damaged, or made to fill the memory: export it again.
    """
    if unpacked > max(FREE_BYTES, IMAGE_RATIO * packed):
        raise InputError(
            f"{owner}: claims {unpacked >> 20} MiB of pixels in a file of {packed >> 20} MiB, more "
            f"than {IMAGE_RATIO} times its size. The file is damaged, or made to fill the memory: "
            "export it again."
        )


def check_rows(owner: object, packed: int, rows: int) -> None:
    """Check the number of rows that a table claims; call it before they are read.

    Every nucleus has an outline and a unique id, which cannot be compressed to nothing.

    Args:
        owner: name for error messages.
        packed: size of the file, in bytes.
        rows: number of nuclei.

    Raises:
        InputError: more than 100,000, and more than one per 6 bytes of the file.
    """
    if rows > max(FREE_ROWS, packed // ROW_BYTES):
        raise InputError(
            f"{owner}: claims {rows:,} nuclei in {packed:,} bytes, less than {ROW_BYTES} bytes for "
            "each. It is damaged, or made to fill the memory. Segment again."
        )


def check_label_size(owner: object, width: int, height: int) -> None:
    """Check the size of a label image; call it before it is written.

    Raises:
        InputError: more pixels than any scanner makes.
    """
    if width * height > LABEL_PIXELS:
        raise InputError(
            f"{owner}: states {width:,} × {height:,} pixels, too many for a label image (at most "
            f"{LABEL_PIXELS:,}). Export GeoJSON or CSV, or segment again if the size is wrong."
        )


def check_layer(owner: object, name: str, shape: list[int]) -> None:
    """Check the output size of a layer of a network; call it before the network is compiled.

    Args:
        owner: name for error messages.
        name: name of the layer.
        shape: shape of its output for a small tile.

    Raises:
        ModelError: the output exceeds 1 GiB.
    """
    if math.prod(shape) > LAYER_VALUES:
        raise ModelError(
            f"{owner}: its layer {name!r} computes {' × '.join(map(str, shape))} values for a "
            f"small tile, more than the limit of {LAYER_VALUES:,}. It is damaged, or made to fill "
            "the memory: fetch the model again."
        )

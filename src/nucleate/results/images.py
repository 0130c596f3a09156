"""Write images and label images atomically."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from nucleate.files import atomic
from nucleate.types import Int32, UInt8

_TILE = 256  # edge of a tile of a label image


def write_labels(path: Path, labels: Int32, mpp: float | None) -> None:
    """Write a label image as int32 TIFF (deflate, tiled), with its resolution if known.

    Raises:
        OutputError: the file cannot be written.
    """
    height, width = labels.shape
    write_label_rows(path, (height, width), [labels], mpp)


def write_label_rows(
    path: Path, shape: tuple[int, int], bands: Iterable[Int32], mpp: float | None
) -> None:
    """Write a label image in bands of rows, from top to bottom, like `write_labels`.

    Args:
        path: file to write.
        shape: (H, W) of the whole image.
        bands: int32 (h, W); all but the last have a multiple of 256 rows.
        mpp: micrometres per pixel.

    Raises:
        OutputError: the file cannot be written.
    """
    import tifffile

    scale = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": 3}
    with atomic(path) as temporary:
        tifffile.imwrite(
            temporary,
            _tiles(bands),
            shape=shape,
            dtype=np.int32,
            compression="zlib",
            tile=(_TILE, _TILE),
            bigtiff=4 * shape[0] * shape[1] > 1 << 31,
            **scale,
        )


def _tiles(bands: Iterable[Int32]) -> Iterator[bytes]:
    """Yield compressed tiles of 256 × 256 pixels, row by row, padded at the edges of the image.

    zlib-ng takes a quarter of the time of tifffile's own deflate.
    """
    import imagecodecs

    for band in bands:
        for y in range(0, band.shape[0], _TILE):
            for x in range(0, band.shape[1], _TILE):
                tile = band[y : y + _TILE, x : x + _TILE]
                if tile.shape != (_TILE, _TILE):
                    lacking = _TILE - tile.shape[0], _TILE - tile.shape[1]
                    tile = np.pad(tile, ((0, lacking[0]), (0, lacking[1])))
                yield bytes(imagecodecs.zlibng_encode(tile.tobytes(), level=2))


def write_png(path: Path, image: UInt8) -> None:
    """Write an RGB image as PNG with run-length compression: faster, and smaller for tissue.

    Raises:
        OutputError: the file cannot be written.
    """
    import cv2

    how = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    _, packed = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), how)
    with atomic(path) as temporary:
        temporary.write_bytes(packed.tobytes())


def write_jpeg(path: Path, image: UInt8) -> None:
    """Write an RGB image as JPEG, quality 90, without chroma subsampling, so that lines are sharp.

    Raises:
        OutputError: the file cannot be written.
    """
    import cv2

    how = [cv2.IMWRITE_JPEG_QUALITY, 90,
           cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]  # fmt: skip
    _, packed = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), how)
    with atomic(path) as temporary:
        temporary.write_bytes(packed.tobytes())

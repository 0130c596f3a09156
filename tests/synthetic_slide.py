"""Slides of any size that take no room: real tissue, repeated, with known nuclei.

A block of tissue is laid side by side with its mirror images, so that it goes on without a seam in
all directions. Tiles that look alike are written once and named as often as they occur: a slide of
100,000 × 100,000 pixels is a few megabytes and made in seconds.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import nucleate

TILE = 256
GLASS = (244, 243, 245)


@dataclass(frozen=True)
class Block:
    """What a slide is made of.

    Attributes:
        image: uint8 (B, B, 3), B a multiple of 256.
        labels: int32 (B, B), 0 background; nuclei of one number that do not touch are several.
    """

    image: np.ndarray
    labels: np.ndarray


@lru_cache(maxsize=1)
def tissue_block() -> Block:
    """Return the bundled example at 0.25 um/px, with what the bundled model finds, mirrored."""
    from nucleate.geometry.outlines import paint
    from nucleate.readers.array import ArraySource

    path = Path(__file__).parent / "data" / "keratin.tif"
    small, _ = nucleate.read_image(path)
    image = cv2.resize(small, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    model = nucleate.load_model(device="cpu")
    nuclei = nucleate.segment(ArraySource(image, 0.25), model, thresholds={"ink": 1})
    labels = paint(nuclei, image.shape[:2])
    return Block(mirrored(image), mirrored(labels))


def mirrored(array: np.ndarray) -> np.ndarray:
    """Return an array twice as large in both directions, which can be repeated without a seam."""
    wide = np.concatenate([array, array[:, ::-1]], axis=1)
    return np.ascontiguousarray(np.concatenate([wide, wide[::-1]], axis=0))


def glass_with_tissue(path: Path) -> Path:
    """Write 115 megapixels of glass, with a small piece of tissue where regions meet."""
    image = mirrored(tissue_block().image[:512, :512])
    block = Block(image, np.zeros(image.shape[:2], np.int32))
    covered = np.zeros((10, 12), bool)
    covered[4, 4] = True
    write_slide(path, 12_000, 9_600, block, covered=covered)
    return path


def painted_block(block: Block) -> Block:
    """Return a block whose colours say the label: red + 256 · green + 65536 · blue."""
    labels = block.labels
    colours = np.stack([labels & 255, (labels >> 8) & 255, labels >> 16], -1).astype(np.uint8)
    return Block(colours, labels)


def write_slide(
    path: Path,
    width: int,
    height: int,
    block: Block,
    *,
    mpp: float = 0.25,
    lossless: bool = False,
    ome: bool = False,
    covered: np.ndarray | None = None,
    damaged: tuple[int, int] | None = None,
    glass: tuple[int, int, int] = GLASS,
    levels: int = 99,
) -> np.ndarray:
    """Write a pyramidal tiled BigTIFF.

    Args:
        path: file to write.
        width: pixels.
        height: pixels.
        block: of tissue.
        mpp: micrometres per pixel, written into the file.
        lossless: deflate instead of JPEG.
        ome: OME-TIFF, with its pyramid in sub-images.
        covered: bool (rows, columns), where blocks are tissue; else glass. None: everywhere.
        damaged: column and row of a tile of level 0 whose bytes are made useless.
        glass: colour.
        levels: of the pyramid, at most.

    Returns:
        `covered`.
    """
    edge = block.image.shape[0]
    shape = -(-height // edge), -(-width // edge)
    covered = np.ones(shape, bool) if covered is None else covered
    downs = [1]
    while max(width, height) // (4 * downs[-1]) > 2 * TILE and len(downs) < levels:
        downs.append(4 * downs[-1])
    with open(path, "wb") as file:
        file.write(b"II" + struct.pack("<HHHQ", 43, 8, 0, 16))
        pages = [
            _write_level(file, (width, height), block, down, covered, lossless, damaged, glass)
            for down in downs
        ]
        _write_pages(file, pages, mpp, lossless, ome, path.name)
    return covered


def _write_level(file, size, block, down, covered, lossless, damaged, glass):
    """Write the tiles of a level, each look once; return its size, offsets and byte counts."""
    width, height = max(1, size[0] // down), max(1, size[1] // down)
    edge = block.image.shape[0]
    small = cv2.resize(block.image, (edge // down, edge // down), interpolation=cv2.INTER_AREA)
    nothing = np.full_like(small, glass)
    step = edge // down  # of a block at this level
    across, along = -(-width // TILE), -(-height // TILE)
    offsets = np.zeros((along, across), np.uint64)
    counts = np.zeros((along, across), np.uint64)
    known = {}
    padded = np.pad(covered, ((0, 64), (0, 64)))
    for row in range(along):
        top = row * TILE
        for column in range(across):
            left = column * TILE
            r0, r1 = top // step, (top + TILE - 1) // step + 1
            c0, c1 = left // step, (left + TILE - 1) // step + 1
            window = padded[r0:r1, c0:c1]
            broken = damaged == (column, row) and down == 1
            key = (top % step, left % step, window.shape, window.tobytes(), broken)
            if key not in known:
                image = np.concatenate(
                    [
                        np.concatenate([small if on else nothing for on in line], 1)
                        for line in window
                    ]
                )
                y, x = top - r0 * step, left - c0 * step
                data = _encode(image[y : y + TILE, x : x + TILE], lossless)
                if broken:
                    data = b"\0" * len(data)
                known[key] = (file.tell(), len(data))
                file.write(data)
            offsets[row, column], counts[row, column] = known[key]
    return (width, height), offsets.ravel(), counts.ravel()


def _encode(tile: np.ndarray, lossless: bool) -> bytes:
    import zlib

    if lossless:
        return zlib.compress(np.ascontiguousarray(tile).tobytes(), 6)
    held = io.BytesIO()
    Image.fromarray(tile).save(held, "JPEG", quality=90, subsampling=0)
    return held.getvalue()


def _write_pages(file, pages, mpp, lossless, ome, name):
    """Write the directories: one after the other, or those of the pyramid below the first."""
    (width, height), _, _ = pages[0]
    text = f"nucleate synthetic slide {name}"
    if ome:
        text = (
            '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/'
            'Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" '
            f'Type="uint8" SizeX="{width}" SizeY="{height}" SizeC="3" SizeZ="1" SizeT="1" '
            f'PhysicalSizeX="{mpp}" PhysicalSizeXUnit="µm" PhysicalSizeY="{mpp}" '
            'PhysicalSizeYUnit="µm"><Channel ID="Channel:0:0" SamplesPerPixel="3"/>'
            '<TiffData IFD="0" PlaneCount="1"/></Pixels></Image></OME>'
        )
    below = []
    if ome:
        for page in pages[1:]:
            place, _ = _write_page(file, page, mpp, lossless, "", True, [])
            below += [place]
    first, last = _write_page(file, pages[0], mpp, lossless, text, False, below)
    file.seek(8)
    file.write(struct.pack("<Q", first))
    if not ome:
        for page in pages[1:]:
            file.seek(0, 2)
            place, following = _write_page(file, page, mpp, lossless, "", True, [])
            file.seek(last)
            file.write(struct.pack("<Q", place))
            last = following
    file.seek(0, 2)


def _write_page(file, page, mpp, lossless, text, reduced, below):
    """Write one directory; return where it is, and where the place of the next one stands."""
    (width, height), offsets, counts = page
    file.seek(0, 2)
    per_cm = round(1e4 / mpp * 1000)
    description = text.encode() + b"\0"
    entries = [
        (254, 4, [int(reduced)]), (256, 4, [width]), (257, 4, [height]), (258, 3, [8, 8, 8]),
        (259, 3, [8 if lossless else 7]), (262, 3, [2 if lossless else 6]),
        *([(270, 2, description)] if text else []),
        (277, 3, [3]), (282, 5, [(per_cm, 1000)]), (283, 5, [(per_cm, 1000)]), (284, 3, [1]),
        (296, 3, [3]), (322, 4, [TILE]), (323, 4, [TILE]), (324, 16, offsets), (325, 16, counts),
        *([(330, 18, below)] if below else []),
        *([] if lossless else [(530, 3, [1, 1])]),
    ]  # fmt: skip
    packed = []
    for tag, kind, values in entries:
        data, count = _pack(kind, values)
        if len(data) > 8:
            place = file.tell()
            file.write(data + b"\0" * (-len(data) % 8))
            data = struct.pack("<Q", place)
        packed.append(struct.pack("<HHQ", tag, kind, count) + data.ljust(8, b"\0"))
    place = file.tell()
    file.write(struct.pack("<Q", len(packed)) + b"".join(packed) + struct.pack("<Q", 0))
    return place, place + 8 + 20 * len(packed)


def _pack(kind, values):
    if kind == 2:
        return values, len(values)
    if kind == 5:
        return b"".join(struct.pack("<II", *pair) for pair in values), len(values)
    letter = {3: "<u2", 4: "<u4", 16: "<u8", 18: "<u8"}[kind]
    return np.asarray(values, letter).tobytes(), len(values)

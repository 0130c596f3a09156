"""COCO masks (run lengths or polygons) ⇄ pixels and outlines.

Run lengths run along columns. faster-coco-eval computes their text form, boxes and areas; it is
imported inside the functions because that takes 50 ms. Masks are decoded to pixel positions, not
to images of 0 and 1, so a nucleus costs its area and not that of the whole image.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from nucleate.geometry.labels import boxes_areas, compact
from nucleate.geometry.outlines import rasterise, trace
from nucleate.types import Float32, Float64, Int32, Int64

MAX_PIXELS = 1 << 28


def run_lengths(labels: Int32) -> dict[int, list[int]]:
    """Compute the uncompressed COCO run lengths of every label, in one pass.

    Args:
        labels: int32 (H, W); a label may have several pieces.

    Returns:
        Label -> run lengths along the columns, background first.

    Example:
        >>> run_lengths(np.array([[0, 7], [7, 7]], np.int32))
        {7: [1, 3]}
    """
    flat = labels.T.reshape(-1)
    starts = np.flatnonzero(np.diff(flat, prepend=-1))
    lengths = np.diff(starts, append=len(flat))
    values = flat[starts]
    found: dict[int, list[int]] = {}
    ends: dict[int, int] = {}
    inside = values > 0
    runs = zip(
        values[inside].tolist(), starts[inside].tolist(), lengths[inside].tolist(), strict=True
    )
    for value, start, length in runs:
        found.setdefault(value, []).extend((start - ends.get(value, 0), length))
        ends[value] = start + length
    for value, end in ends.items():
        if end < len(flat):
            found[value].append(len(flat) - end)
    return dict(sorted(found.items()))


def outlines(labels: Int32) -> dict[int, list[list[float]]]:
    """Return the COCO polygons of each label without holes, one per 4-connected piece.

    Example:
        >>> outlines(np.array([[0, 7]], np.int32))
        {7: [[1.5, 0.0, 2.0, 0.5, 1.5, 1.0, 1.0, 0.5]]}
    """
    found: dict[int, list[list[float]]] = {}
    compacted, old = compact(labels)
    boxes, _ = boxes_areas(compacted, len(old))
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        mask = compacted[y0:y1, x0:x1] == i + 1
        _, pieces = cv2.connectedComponents(mask.view(np.uint8), connectivity=4)
        xy, offsets, _ = trace(pieces.astype(np.int32))
        if (rasterise(xy, offsets, mask.shape)[0] > 0).sum() == mask.sum():  # unequal: a hole
            rings = np.split(xy + np.array([x0, y0], np.float32), offsets[1:-1])
            found[int(old[i])] = [ring.ravel().tolist() for ring in rings]
    return found


def outline_counts(outline_xy: Float32, height: int, width: int) -> list[int]:
    """Return the run lengths of the interior of an outline in an image of `height` × `width`.

    Example:
        >>> outline_counts(np.array([[1, 0], [2, 0], [2, 2], [1, 2]], np.float32), 2, 2)
        [2, 2]
    """
    inside = pixels_of([outline_xy.ravel().tolist()], height, width)
    if not len(inside):
        return [height * width]
    breaks = np.flatnonzero(np.diff(inside) > 1)
    starts = inside[np.concatenate([[0], breaks + 1])]
    ends = inside[np.concatenate([breaks, [len(inside) - 1]])] + 1
    edges = np.stack([starts, ends], 1).ravel()
    counts = np.diff(edges, prepend=0).tolist()
    rest = height * width - int(ends[-1])
    return [*counts, rest] if rest else counts


def recorded(counts: list[int], shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the COCO record of a mask: run lengths as text, box, and area in pixels.

    Args:
        counts: run lengths along the columns, background first.
        shape: (H, W) of the image.

    Example:
        >>> recorded([1, 3], (2, 2))
        {'segmentation': {'size': [2, 2], 'counts': '13'}, 'bbox': [0, 0, 2, 2], 'area': 3}
    """
    from faster_coco_eval.core import mask

    packed = mask.frPyObjects({"size": list(shape), "counts": counts}, *shape)
    return {
        "segmentation": {"size": list(shape), "counts": packed["counts"].decode()},
        "bbox": [int(v) for v in mask.toBbox(packed)],
        "area": int(mask.area(packed)),
    }


def detection(
    outline_xy: Float32,
    score: float,
    image: int | str,
    category: int | str,
    shape: tuple[int, int],
) -> dict[str, Any]:
    """Return one COCO result: box, run lengths and area of an outline's interior, and the score.

    Args:
        outline_xy: float32 (k, 2), in pixels of the image.
        score: 0 to 1.
        image: image id.
        category: category id.
        shape: (H, W) of the image.
    """
    return {
        "image_id": image, "category_id": category, "score": round(float(score), 6),
        **recorded(outline_counts(outline_xy, *shape), shape),
    }  # fmt: skip


def pixels_of(segmentation: Any, height: int, width: int) -> Int64:  # noqa: ANN401
    """Return the pixel positions of a mask, counted along the columns, in ascending order."""
    if isinstance(segmentation, dict):
        size = [int(n) for n in segmentation["size"]]
        if size != [height, width]:
            raise ValueError(f"a mask of {size}, not [{height}, {width}]")
        counts = segmentation["counts"]
        if isinstance(counts, str):
            from faster_coco_eval.mask_api_new_cpp import toUncompressedRLE

            try:
                counts = toUncompressedRLE([{"size": size, "counts": counts}])[0]["counts"]
            except RuntimeError as error:  # raised for text that encodes no run lengths
                raise ValueError(str(error)) from error
        lengths = np.array(counts, np.int64).reshape(-1)
        if (lengths < 0).any() or int(lengths.sum()) != height * width:
            raise ValueError("run lengths that do not fill the image")
        ends = np.cumsum(lengths)
        begins, long = (ends - lengths)[1::2], lengths[1::2]
        first = np.concatenate([[0], np.cumsum(long)[:-1]]) if len(long) else np.zeros(0, int)
        return np.asarray(np.repeat(begins - first, long) + np.arange(int(long.sum())), np.int64)
    outlines = rings_of(segmentation)
    if not outlines:
        return np.zeros(0, np.int64)
    every = np.concatenate(outlines)
    if not np.isfinite(every).all() or np.abs(every).max() > 1e7:
        raise ValueError("impossible coordinates")
    low = np.clip(np.floor(every.min(axis=0)), 0, (width, height)).astype(int)
    high = np.clip(np.ceil(every.max(axis=0)) + 1, 0, (width, height)).astype(int)
    if (high <= low).any():
        return np.zeros(0, np.int64)
    if int((high - low).prod()) > MAX_PIXELS:
        raise ValueError(f"an outline around {high[0] - low[0]} × {high[1] - low[1]} pixels")
    offsets = np.concatenate([[0], np.cumsum([len(o) for o in outlines])]).astype(np.int64)
    ones = np.ones(len(outlines), np.int64)
    shape = (int(high[1] - low[1]), int(high[0] - low[0]))
    window, _ = rasterise(every - low, offsets, shape, ones)
    columns, rows = np.nonzero(window.T)
    return np.asarray((columns + low[0]) * height + rows + low[1], np.int64)


def rings_of(segmentation: Any) -> list[Float64]:  # noqa: ANN401
    """Return the outlines of a polygon mask; VIA 2 writes a single one as a flat list."""
    parts = segmentation or []
    if isinstance(parts, list) and not isinstance(parts[0] if parts else [], list | dict):
        parts = [parts]
    outlines = [np.array(part, np.float64).reshape(-1, 2) for part in parts]
    return [outline for outline in outlines if len(outline) >= 3]

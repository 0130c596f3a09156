"""Label images ⇄ outlines: tracing, filling, centroids."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nucleate.types import Float32, Instances, Int32, Int64


def trace(labels: Int32) -> tuple[Float32, Int64, Int64]:
    """Trace the outlines of all labels of an image, one per label.

    The outline runs through the middles of the cracks between pixels (marching squares at one
    half), so its vertices are multiples of 0.5 and rasterising it restores the pixels.

    Args:
        labels: int32 (H, W) with values 0..n without gaps; each label one 4-connected piece
            (`largest_pieces`); of a label with several pieces, the first is traced.

    Returns:
        Vertices float32 (m, 2) as (x, y), offsets int64 (n + 1,), boxes int64 (n, 4) as
        (x0, y0, x1, y1), half-open.

    Example:
        >>> xy, offsets, _ = trace(np.array([[1, 1]], np.int32))
        >>> xy.tolist()
        [[0.5, 0.0], [1.5, 0.0], [2.0, 0.5], [1.5, 1.0], [0.5, 1.0], [0.0, 0.5]]
    """
    from nucleate.geometry.kernels import outlines as _kernels

    return _kernels.trace(labels, int(labels.max(initial=0)))  # type: ignore[no-any-return]


def rasterise(
    coords_xy: NDArray[np.floating],
    offsets: Int64,
    shape: tuple[int, int],
    values: Int64 | None = None,
) -> tuple[Int32, int]:
    """Draw outlines into a label image: a pixel is inside if its centre is (even-odd rule).

    Where outlines overlap, the earlier keeps the pixel.

    Args:
        coords_xy: (m, 2) vertices in pixels, corner origin.
        offsets: int64 (n + 1,), outline i is `coords_xy[offsets[i]:offsets[i + 1]]`.
        shape: (H, W) of the result.
        values: int64 (n,) label of each outline; None for 1..n.

    Returns:
        int32 (H, W), and the number of pixels inside more than one outline.

    Example:
        >>> square = np.array([[0, 0], [2, 0], [2, 1], [0, 1]], np.float64)
        >>> rasterise(square, np.array([0, 4]), (2, 3))[0].tolist()
        [[1, 1, 0], [0, 0, 0]]
    """
    from nucleate.geometry.kernels import outlines as _kernels

    labels = np.zeros(shape, np.int32)
    points = np.ascontiguousarray(coords_xy, np.float64)
    if values is None:
        values = np.arange(1, len(offsets), dtype=np.int64)
    contested = _kernels.fill(labels, points, np.asarray(offsets, np.int64), values)
    return labels, int(contested)


def paint(nuclei: Instances, shape: tuple[int, int]) -> Int32:
    """Draw nuclei into an int32 (H, W) image of their ids; the higher score wins overlaps.

    Args:
        nuclei: nuclei in pixels of the image.
        shape: (H, W) of the image.
    """
    highest_first = nuclei.take(np.argsort(-nuclei.scores, kind="stable"))
    return rasterise(highest_first.coords_xy, highest_first.offsets, shape, highest_first.ids)[0]


def centroids_xy(coords_xy: NDArray[np.floating], offsets: Int64) -> NDArray[np.float64]:
    """Compute the centre of mass of the interior of each outline.

    Args:
        coords_xy: (m, 2) vertices.
        offsets: int64 (n + 1,), outline i is `coords_xy[offsets[i]:offsets[i + 1]]`.

    Returns:
        float64 (n, 2), x and y, in the unit of the vertices.

    Example:
        >>> square = np.array([[0, 0], [2, 0], [2, 2], [0, 2]])
        >>> centroids_xy(square, np.array([0, 4])).tolist()
        [[1.0, 1.0]]
    """
    n = len(offsets) - 1
    if n == 0:
        return np.zeros((0, 2))
    counts = np.diff(offsets)
    means = np.add.reduceat(coords_xy.astype(np.float64), offsets[:-1]) / counts[:, None]
    local = coords_xy - np.repeat(means, counts, axis=0)  # near 0, for numerical precision
    following = np.arange(1, len(local) + 1)
    following[offsets[1:] - 1] = offsets[:-1]
    after = local[following]
    cross = local[:, 0] * after[:, 1] - after[:, 0] * local[:, 1]
    areas = np.add.reduceat(cross, offsets[:-1])
    shift = np.add.reduceat((local + after) * cross[:, None], offsets[:-1])
    flat = areas == 0  # a line or a point: use the mean of its vertices
    return means + np.where(flat[:, None], 0.0, shift / np.where(flat, 1.0, 3 * areas)[:, None])

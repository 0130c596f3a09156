"""Training targets: maps made from the label image, after augmentation.

All tasks are defined here. Maps are made from the augmented labels, because distances and
boundaries do not survive a zoom. To add a head, write its function and add a row to `HEADS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from nucleate.cards import TYPE
from nucleate.errors import ConfigError, pick
from nucleate.geometry.labels import compact, signed_distance
from nucleate.types import Float32, Int16, Int32


@dataclass(frozen=True, slots=True)
class Head:
    """One output map of a network.

    Attributes:
        target: labels int32 (H, W) -> float32 (H, W) in 0..1.
        about: meaning of the map.
    """

    target: Callable[[Int32], Float32]
    about: str


def foreground(labels: Int32) -> Float32:
    """Return 1 on nuclei and 0 elsewhere.

    Example:
        >>> foreground(np.array([[0, 2]], np.int32)).tolist()
        [[0.0, 1.0]]
    """
    return (labels > 0).astype(np.float32)


def soft_foreground(labels: Int32, edge_px: float) -> Float32:
    """Return 1 inside nuclei, 0 outside, and a ramp of `edge_px` pixels across the edge.

    The value is 0.5 on the annotated edge, which runs half a pixel from the pixel centres. As in
    `foreground`, there is no edge between touching nuclei.

    Example:
        >>> soft_foreground(np.array([[0, 0, 2, 2, 2]], np.int32), 2.0).tolist()
        [[0.0, 0.25, 0.75, 1.0, 1.0]]
    """
    ramp = 0.5 + signed_distance(labels > 0, precise=False) / np.float32(edge_px)
    return np.asarray(np.clip(ramp, 0, 1), np.float32)


def distance(labels: Int32) -> Float32:
    """Return the distance to the outside of each nucleus, divided by its maximum: peak 1 in each.

    The distance is Euclidean, in pixels, from a pixel's centre to the nearest centre outside the
    nucleus; the image border does not count as outside. Normalising per nucleus gives small nuclei
    the same peak as large ones, unlike the maps of NuInsSeg, which divide by the maximum of the
    image.

    References:
        Naylor et al. 2019, doi:10.1109/TMI.2018.2865709 (regression of the distance map).

    Example:
        >>> distance(np.array([[0, 1, 1, 1, 0]], np.int32)).tolist()
        [[0.0, 0.5, 1.0, 0.5, 0.0]]
    """
    far, numbers, peaks = _distances(labels)
    return np.asarray(far / np.concatenate([np.ones(1, np.float32), peaks])[numbers], np.float32)


def _distances(labels: Int32) -> tuple[Float32, Int32, Float32]:
    """Return distances to the outside of nuclei, the labels as 1..n, and the peaks (n,)."""
    from nucleate.geometry.kernels import labels as _kernels

    numbers, old = compact(labels)
    far, peaks = _kernels.distances(numbers, len(old))
    return far, numbers, peaks


def distance_in_image(labels: Int32) -> Float32:
    """Return the distance to the outside of each nucleus, divided by the image's maximum.

    This is NuInsSeg's definition: small nuclei get small values, unlike in `distance`.

    References:
        Mahbod et al. 2024, doi:10.1038/s41597-024-03117-2 (the authors' mask generator).

    Example:
        >>> distance_in_image(np.array([[0, 1, 1, 1, 0, 2, 0]], np.int32)).tolist()
        [[0.0, 0.5, 1.0, 0.5, 0.0, 0.5, 0.0]]
    """
    far, _, peaks = _distances(labels)
    return np.asarray(far / max(1.0, float(peaks.max(initial=0))), np.float32)


def boundary(labels: Int32) -> Float32:
    """Return 1 on pixels of a nucleus within 2 pixels of its outside, 0 elsewhere.

    Example:
        >>> boundary(np.array([[0, 1, 1, 1, 1, 1, 0]], np.int32)).tolist()
        [[0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0]]
    """
    small = int(labels.max(initial=0)) < 1 << 16  # otherwise exact below 2**24 nuclei per crop
    values = labels.astype(np.uint16 if small else np.float32)
    # a pixel is boundary if the square within two rows and columns contains another label
    square = np.ones((5, 5), np.uint8)
    same = (cv2.dilate(values, square) == values) & (cv2.erode(values, square) == values)
    return np.asarray((labels > 0) & ~same, np.float32)


def numbered(labels: Int32) -> Float32:
    """Return the number 1..n on each nucleus and 0 outside, from which detectors make boxes.

    Example:
        >>> numbered(np.array([[0, 7, 3]], np.int32)).tolist()
        [[0.0, 2.0, 1.0]]
    """
    return compact(labels)[0].astype(np.float32)  # exact below 2**24 nuclei per crop


HEADS: dict[str, Head] = {
    "foreground": Head(foreground, "probability that a pixel belongs to a nucleus"),
    "distance": Head(distance, "distance to the outside of the nucleus, peak 1 in each"),
    "distance_in_image": Head(
        distance_in_image, "distance to the outside of the nucleus, peak 1 in the image"
    ),
    "boundary": Head(boundary, "probability that a pixel is on the inner rim of a nucleus"),
    "instances": Head(numbered, "nuclei one by one: box, score and mask of each"),
}


def of_class(labels: Int32, classes: Int16, number: int) -> Float32:
    """Return 1 on nuclei of one class and 0 elsewhere.

    Args:
        labels: int32 (H, W).
        classes: int16 (n,), class of nucleus i + 1.
        number: class number.

    Example:
        >>> of_class(np.array([[0, 1, 2]], np.int32), np.array([3, 0], np.int16), 3).tolist()
        [[0.0, 1.0, 0.0]]
    """
    table = np.concatenate([[False], classes == number])
    return table[labels].astype(np.float32)


def encode(
    labels: Int32, maps: list[str], classes: Int16 | None = None, edge_px: float = 0.0
) -> dict[str, Float32]:
    """Make the target of each named map.

    Args:
        labels: int32 (H, W).
        maps: keys of `HEADS`, or type_1 … type_n for the head `types`.
        classes: int16 (n,), class of nucleus i + 1; required by `types`.
        edge_px: width in pixels of the ramp of `foreground` at the edge of a nucleus.

    Raises:
        ConfigError: a head does not exist, or classes are missing.

    Example:
        >>> sorted(encode(np.ones((2, 2), np.int32), ["foreground", "distance"]))
        ['distance', 'foreground']
    """
    found: dict[str, Float32] = {}
    for name in maps:
        if name == "foreground" and edge_px > 0:
            found[name] = soft_foreground(labels, edge_px)
        elif not name.startswith(TYPE):
            found[name] = pick(HEADS, name, "head").target(labels)
        elif classes is None:
            raise ConfigError("The head 'types' needs data with nucleus types. Remove the head.")
        else:
            found[name] = of_class(labels, classes, int(name.removeprefix(TYPE)) - 1)
    return found

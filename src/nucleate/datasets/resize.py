"""A sample on another pixel grid."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from nucleate.geometry.labels import compact
from nucleate.types import Sample


def resized(sample: Sample, height: int, width: int, mpp: float | None) -> Sample:
    """Return a sample of another size.

    Labels and ignored areas take the value of the pixel that holds the new pixel's centre; a
    picture that shrinks is averaged, one that grows is interpolated. A nucleus that is too small
    for the new grid is lost, with its class.

    Args:
        sample: with or without labels.
        height: of the result, in pixels.
        width: of the result, in pixels.
        mpp: micrometres per pixel of the result.

    Example:
        >>> image, labels = np.zeros((2, 2, 3), np.uint8), np.array([[1, 0], [0, 2]], np.int32)
        >>> small = Sample(image, labels, "a", "a", classes=np.array([0, 0], np.int16),
        ...                class_names=("nucleus",))
        >>> resized(small, 4, 4, None).labels.tolist()
        [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 2, 2], [0, 0, 2, 2]]
    """
    old_height, old_width = sample.image.shape[:2]
    shrinks = height * width < old_height * old_width
    columns = np.minimum(((np.arange(width) + 0.5) * old_width / width).astype(int), old_width - 1)
    rows = np.minimum(((np.arange(height) + 0.5) * old_height / height).astype(int), old_height - 1)
    grid = np.ix_(rows, columns)
    labels = None if sample.labels is None else np.ascontiguousarray(sample.labels[grid])
    classes = sample.classes
    if labels is not None and classes is not None:
        labels, kept = compact(labels)
        classes = classes[kept - 1]
    return replace(
        sample,
        image=cv2.resize(
            sample.image, (width, height),
            interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
        ),
        labels=labels,
        classes=classes,
        ignore=None if sample.ignore is None else np.ascontiguousarray(sample.ignore[grid]),
        mpp=mpp,
    )  # fmt: skip

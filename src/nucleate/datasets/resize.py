"""Resampling of a sample to another pixel grid."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from nucleate.geometry.labels import compact
from nucleate.geometry.resample import margin_px, resample
from nucleate.types import Sample


def resized(
    sample: Sample,
    height: int,
    width: int,
    mpp: float | None,
    scale_xy: tuple[float, float] | None = None,
) -> Sample:
    """Resample a sample to another size.

    The image is resampled as in the engine (`geometry.resample`). Labels and ignored areas take the
    value of the pixel that contains the new pixel's centre. A nucleus too small for the new grid is
    lost, with its class.

    Args:
        sample: with or without labels.
        height: height of the result, in pixels.
        width: width of the result, in pixels.
        mpp: micrometres per pixel of the result.
        scale_xy: pixels of the result per pixel of the sample; None uses the ratio of the sizes.

    Example:
        >>> image, labels = np.zeros((2, 2, 3), np.uint8), np.array([[1, 0], [0, 2]], np.int32)
        >>> small = Sample(image, labels, "a", "a", classes=np.array([0, 0], np.int16),
        ...                class_names=("nucleus",))
        >>> resized(small, 4, 4, None).labels.tolist()
        [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 2, 2], [0, 0, 2, 2]]
    """
    old_height, old_width = sample.image.shape[:2]
    scale_x, scale_y = scale_xy or (width / old_width, height / old_height)
    columns = np.minimum(((np.arange(width) + 0.5) / scale_x).astype(int), old_width - 1)
    rows = np.minimum(((np.arange(height) + 0.5) / scale_y).astype(int), old_height - 1)
    grid = np.ix_(rows, columns)
    labels = None if sample.labels is None else np.ascontiguousarray(sample.labels[grid])
    classes = sample.classes
    if labels is not None and classes is not None:
        labels, kept = compact(labels)
        classes = classes[kept - 1]
    margin = max(margin_px(scale_x), margin_px(scale_y))
    sides = margin, margin, margin, margin
    padded = cv2.copyMakeBorder(sample.image, *sides, cv2.BORDER_REFLECT)
    return replace(
        sample,
        image=resample(padded, (scale_x, scale_y), (margin, margin), (width, height)),
        labels=labels,
        classes=classes,
        ignore=None if sample.ignore is None else np.ascontiguousarray(sample.ignore[grid]),
        mpp=mpp,
    )

"""Images that look like H&E to a program, with known nuclei: ellipses, some touching."""

from __future__ import annotations

import cv2
import numpy as np

from nucleate.geometry.labels import compact, largest_pieces
from nucleate.stain.deconvolution import from_stains


def tissue(height=256, width=256, nuclei=40, seed=0):
    """Return a uint8 RGB image and its int32 labels."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.int32)
    ellipses = []
    for _ in range(nuclei):
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        axes = (int(rng.integers(5, 11)), int(rng.integers(5, 9)))
        ellipses.append((centre, axes, float(rng.uniform(0, 180))))
    for number in range(nuclei, 0, -1):  # the first is drawn last, on top
        cv2.ellipse(labels, *ellipses[number - 1], 0, 360, number, -1)
    labels = compact(largest_pieces(labels))[0]
    stains = np.zeros((height, width, 3), np.float32)
    stains[..., 0] = 0.05 + 0.9 * (labels > 0)
    stains[..., 1] = 0.35
    stains += rng.normal(0, 0.04, stains.shape).astype(np.float32)
    return from_stains(cv2.GaussianBlur(stains, (0, 0), 0.7)), labels


def scattered(height, width, step=8, size=5):
    """Return labels of squares on a grid: as many nuclei as wanted, fast."""
    labels = np.zeros((height, width), np.int32)
    number = 0
    for y in range(0, height - size, step):
        for x in range(0, width - size, step):
            number += 1
            labels[y : y + size, x : x + size] = number
    return labels

"""A tiny tree in TNBC's published layout: Slide_01/01_1.png and a binary GT_01/01_1.png."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from tests.synthetic import tissue

NAMES = ("01_1", "01_2", "02_1")


def make(root, size=128):
    """Write the tree; return name -> labels: the pieces of the binary masks."""
    truth = {}
    for seed, name in enumerate(NAMES):
        image, labels = tissue(size, size, 10, 40 + seed)
        mask = (labels > 0).astype(np.uint8)
        for folder, pixels in (("Slide", image), ("GT", mask * 255)):
            path = root / f"{folder}_{name[:2]}" / f"{name}.png"
            path.parent.mkdir(exist_ok=True, parents=True)
            Image.fromarray(pixels).save(path)
        truth[name] = cv2.connectedComponents(mask, connectivity=4)[1]
    return truth

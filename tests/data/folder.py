"""A tiny tree of a user's own images and labels."""

from __future__ import annotations

import numpy as np
import tifffile
from PIL import Image

from tests.synthetic import tissue


def make(root, count=3, size=128, seed=100):
    """Write images/p<i>_<j>.png and labels of all three kinds; return name -> labels."""
    truth = {}
    (root / "images").mkdir(parents=True, exist_ok=True)
    (root / "labels").mkdir(exist_ok=True)
    for i in range(count):
        image, labels = tissue(size, size, 14, seed=seed + i)
        name = f"p{i}_0"
        Image.fromarray(image).save(root / "images" / f"{name}.png")
        if i % 3 == 0:
            Image.fromarray(labels.astype(np.uint16)).save(root / "labels" / f"{name}.png")
        elif i % 3 == 1:
            tifffile.imwrite(root / "labels" / f"{name}.tif", labels)
        else:
            np.save(root / "labels" / f"{name}.npy", labels)
        truth[name] = labels
    return truth

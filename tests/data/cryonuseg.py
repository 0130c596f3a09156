"""A tiny tree in CryoNuSeg's layout: three rounds of annotation, folders inside folders."""

from __future__ import annotations

import numpy as np
import tifffile

from nucleate.datasets.cryonuseg import ANNOTATIONS
from tests.synthetic import tissue

NAMES = ("Human_AdrenalGland_01", "Human_Larynx_02", "Human_ThyroidGland_03")


def make(root, size=128):
    """Write the tree; return name -> labels of the first annotator."""
    truth = {}
    for seed, name in enumerate(NAMES):
        image, labels = tissue(size, size, 14, 20 + seed)
        (root / "tissue images").mkdir(exist_ok=True, parents=True)
        tifffile.imwrite(root / "tissue images" / f"{name}.tif", image, photometric="rgb")
        for shift, annotator in enumerate(ANNOTATIONS.values()):
            folder = root / annotator / annotator / "label masks modify"
            folder.mkdir(exist_ok=True, parents=True)
            moved = np.roll(labels, shift, axis=1).astype(np.uint16)
            tifffile.imwrite(folder / f"{name}.tif", moved)
        truth[name] = labels
    return truth

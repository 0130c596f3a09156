"""Tiny trees of `Images/*.png` and `Labels/*.mat`: CoNSeP, Kumar, CPM-17."""

from __future__ import annotations

import numpy as np
import scipy.io
from PIL import Image

from tests.synthetic import tissue


def consep(root, size=128, types=7):
    return _make(root, "Train", ("train_1", "train_2"), types=types, size=size)


def kumar(root, size=128):
    names = ("TCGA-A7-A13E-01Z-00-DX1", "TCGA-B0-5711-01Z-00-DX1")
    return _make(root, "train", names, types=0, size=size)


def cpm17(root, size=128):
    return _make(root, "test", ("image_00", "image_01"), types=0, size=size)


def _make(root, part, names, types, size):
    truth = {}
    for seed, name in enumerate(names):
        image, labels = tissue(size, size, 14, 80 + seed)
        (root / part / "Images").mkdir(parents=True, exist_ok=True)
        (root / part / "Labels").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / part / "Images" / f"{name}.png")
        content = {"inst_map": labels.astype(np.float64)}
        if types:
            kinds = 1 + np.arange(labels.max()) % types
            content["inst_type"] = kinds[:, None].astype(np.float64)
            content["type_map"] = np.concatenate([[0], kinds])[labels].astype(np.float64)
        scipy.io.savemat(root / part / "Labels" / f"{name}.mat", content, do_compression=True)
        truth[f"{part}/{name}"] = labels
    return truth

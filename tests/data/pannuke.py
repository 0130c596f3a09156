"""Tiny folds in PanNuke's layout: images, six-layer masks and tissue types as .npy."""

from __future__ import annotations

import numpy as np

from nucleate.geometry.labels import compact
from tests.synthetic import tissue


def make(root, tiles=2, size=64):
    """Write two folds; return name -> labels."""
    truth = {}
    for fold in (1, 2):
        images, masks = [], []
        for i in range(tiles):
            image, labels = tissue(size, size, 6, 100 * fold + i)
            kinds = np.concatenate([[0], 1 + np.arange(labels.max()) % 5])[labels]
            layers = [np.where(kinds == k, labels, 0) for k in range(1, 6)]
            masks.append(np.stack([*layers, labels == 0], -1).astype(np.float64))
            images.append(image.astype(np.float64))
            # numbered layer by layer
            old = np.concatenate([np.unique(layer[layer > 0]) for layer in layers])
            table = np.zeros(labels.max() + 1, np.int32)
            table[old] = np.arange(1, len(old) + 1)
            truth[f"fold{fold}_{i:05d}"] = compact(table[labels])[0]
        base = root / f"Fold {fold}"
        for folder in (base / "images" / f"fold{fold}", base / "masks" / f"fold{fold}"):
            folder.mkdir(parents=True, exist_ok=True)
        np.save(base / "images" / f"fold{fold}" / "images.npy", np.stack(images))
        types = np.array(["Bile-duct", "Adrenal_gland"] * tiles)[:tiles]
        np.save(base / "images" / f"fold{fold}" / "types.npy", types)
        np.save(base / "masks" / f"fold{fold}" / "masks.npy", np.stack(masks))
    return truth

"""Train StarDist from scratch with its own package: python train_stardist.py DATA MODEL MINUTES

DATA contains `train` and `validation`, each with `images` and `labels` (NAME.npy). The set-up is
that of its H&E model: 32 rays, a grid of 2 × 2, flips, quarter turns and changes of intensity.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np


def load(folder: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return images, normalised, and their labels."""
    from csbdeep.utils import normalize

    names = sorted(path.name for path in (folder / "images").glob("*.npy"))
    images = [normalize(np.load(folder / "images" / n), 1, 99.8, axis=(0, 1, 2)) for n in names]
    return images, [np.load(folder / "labels" / n) for n in names]


def varied(image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a crop turned, mirrored, and brighter or darker."""
    rng = np.random.default_rng()
    turns = int(rng.integers(4))
    image, labels = np.rot90(image, turns), np.rot90(labels, turns)
    if rng.random() < 0.5:
        image, labels = image[::-1], labels[::-1]
    return image * rng.uniform(0.6, 2) + rng.uniform(-0.2, 0.2), labels


def main(data: Path, out: Path, minutes: float) -> None:
    """Train until the time is over, then choose its thresholds on the validation images."""
    import tensorflow as tf
    from stardist.models import Config2D, StarDist2D

    config = Config2D(
        n_rays=32, grid=(2, 2), n_channel_in=3, train_patch_size=(256, 256), train_batch_size=4,
        train_epochs=10_000, train_steps_per_epoch=50, train_learning_rate=3e-4, use_gpu=False,
        train_tensorboard=False,
    )  # fmt: skip
    model = StarDist2D(config, name=out.name, basedir=str(out.parent))
    deadline = time.monotonic() + 60 * minutes

    class Stop(tf.keras.callbacks.Callback):
        """Ends the training in time."""

        def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
            self.model.stop_training = time.monotonic() > deadline

    model.prepare_for_training()
    model.callbacks.append(Stop())
    x, y = load(data / "train")
    held_x, held_y = load(data / "validation")
    model.train(x, y, validation_data=(held_x, held_y), augmenter=varied)
    model.optimize_thresholds(held_x, held_y)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))

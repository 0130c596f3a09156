"""What the network is shown: crop number i is made from (seed, i) alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from nucleate.augment import random_crop
from nucleate.config import Recipe
from nucleate.targets import encode
from nucleate.types import Sample


class Crop(NamedTuple):
    """A crop, or a batch of crops.

    Attributes:
        image: uint8 (…, H, W, 3).
        targets: map -> float32 (…, H, W).
        ignore: bool (…, H, W).
    """

    image: Tensor
    targets: dict[str, Tensor]
    ignore: Tensor


class CropDataset(Dataset[Crop]):
    """Crops of the training pictures: anywhere, or on a grid that is passed through in turn."""

    def __init__(self, samples: list[Sample], recipe: Recipe) -> None:
        self.samples, self.recipe = samples, recipe
        areas = np.array([sample.image.shape[0] * sample.image.shape[1] for sample in samples])
        self.cumulated = np.cumsum(areas) / areas.sum()
        self.cells = [
            (number, centre)
            for number, sample in enumerate(samples)
            for centre in grid_centres(sample.image.shape[:2], recipe.train.crop_px)
        ]

    def __getitem__(self, index: int) -> Crop:
        train = self.recipe.train
        rng = np.random.default_rng((self.recipe.seed, index))
        if train.sampling == "grid":
            turn, place = divmod(index, len(self.cells))
            # a third word that is not 0: another stream of chance than the crops'
            order = np.random.default_rng((self.recipe.seed, turn, 1)).permutation(len(self.cells))
            number, centre = self.cells[order[place]]
        else:
            number, centre = int(np.searchsorted(self.cumulated, rng.random(), "right")), None
        sample = self.samples[number]
        image, labels, ignore = random_crop(sample, train.crop_px, self.recipe.augment, rng, centre)
        targets = encode(labels, list(self.recipe.maps), sample.classes)
        return Crop(
            torch.from_numpy(image),
            {name: torch.from_numpy(target) for name, target in targets.items()},
            torch.from_numpy(ignore),
        )


def grid_centres(shape: tuple[int, ...], edge: int) -> list[tuple[float, float]]:
    """Return the centres (x, y) of the squares of a grid over a picture, the last ones cut.

    Example:
        >>> grid_centres((4, 6), 4)
        [(2.0, 2.0), (6.0, 2.0)]
    """
    height, width = shape
    return [
        (x + edge / 2, y + edge / 2) for y in range(0, height, edge) for x in range(0, width, edge)
    ]


def middle_crop(sample: Sample, recipe: Recipe) -> Crop:
    """Return the middle of a picture as a batch of one, not augmented: for the validation loss."""
    edge = recipe.train.crop_px
    height, width = sample.image.shape[:2]
    top, left = max(0, (height - edge) // 2), max(0, (width - edge) // 2)
    window = slice(top, top + edge), slice(left, left + edge)
    if sample.labels is None:
        raise ValueError(f"{sample.name} has no labels")
    labels = np.ascontiguousarray(sample.labels[window])
    targets = encode(labels, list(recipe.maps), sample.classes)
    ignore = np.zeros(labels.shape, bool) if sample.ignore is None else sample.ignore[window]
    return Crop(
        torch.from_numpy(np.ascontiguousarray(sample.image[window]))[None],
        {name: torch.from_numpy(target)[None] for name, target in targets.items()},
        torch.from_numpy(np.ascontiguousarray(ignore))[None],
    )

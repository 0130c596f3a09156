"""Training crops; crop i depends only on (seed, i)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from nucleate.augment import looks_of, random_crop
from nucleate.config import Recipe
from nucleate.stain.tissue import sample_pixels, tissue_mask
from nucleate.targets import encode
from nucleate.types import Sample, UInt8

_LEAST_TISSUE = 0.1  # minimum fraction of tissue in an image when weighting its crops


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
    """Crops of the training images, at random positions or from all cells of a grid in turn."""

    def __init__(self, samples: list[Sample], recipe: Recipe) -> None:
        self.samples, self.recipe = samples, recipe
        shares = np.array([sample.weight * tissue_area(sample.image) for sample in samples])
        self.cumulated = np.cumsum(shares) / shares.sum()
        needed = recipe.augment.normalise > 0 or recipe.augment.zoom_small > 0
        self.looks = [looks_of(sample) for sample in samples] if needed else []
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
            # the third number selects a random stream other than that of the crops
            order = np.random.default_rng((self.recipe.seed, turn, 1)).permutation(len(self.cells))
            number, centre = self.cells[order[place]]
        else:
            number, centre = int(np.searchsorted(self.cumulated, rng.random(), "right")), None
        sample = self.samples[number]
        looks = self.looks[number] if self.looks else None
        image, labels, ignore = random_crop(
            sample, train.crop_px, self.recipe.augment, rng, centre, looks, self.looks
        )
        targets = encode(labels, list(self.recipe.maps), sample.classes, edge_px(self.recipe))
        return Crop(
            torch.from_numpy(image),
            {name: torch.from_numpy(target) for name, target in targets.items()},
            torch.from_numpy(ignore),
        )


def tissue_area(image: UInt8) -> float:
    """Return the number of tissue pixels of an image, at least a tenth of all pixels.

    Args:
        image: uint8 (H, W, 3), RGB.

    Example:
        >>> tissue_area(np.full((10, 20, 3), (110, 80, 150), np.uint8))
        200.0
        >>> tissue_area(np.full((10, 20, 3), 235, np.uint8))  # glass, but to be known as such
        20.0
    """
    share = float(tissue_mask(sample_pixels(image)).mean())
    return float(image.shape[0] * image.shape[1] * max(share, _LEAST_TISSUE))


def edge_px(recipe: Recipe) -> float:
    """Return the width in pixels of soft edges in the foreground target; 0 without that head."""
    head = recipe.heads.get("foreground")
    return 0.0 if head is None else head.edge_px


def grid_centres(shape: tuple[int, ...], edge: int) -> list[tuple[float, float]]:
    """Return the centres (x, y) of the squares of a grid that covers an image.

    Example:
        >>> grid_centres((4, 6), 4)
        [(2.0, 2.0), (6.0, 2.0)]
    """
    height, width = shape
    return [
        (x + edge / 2, y + edge / 2) for y in range(0, height, edge) for x in range(0, width, edge)
    ]


def middle_crop(sample: Sample, recipe: Recipe) -> Crop:
    """Return the middle of an image as a batch of one, not augmented, for the validation loss."""
    edge = recipe.train.crop_px
    height, width = sample.image.shape[:2]
    top, left = max(0, (height - edge) // 2), max(0, (width - edge) // 2)
    window = slice(top, top + edge), slice(left, left + edge)
    if sample.labels is None:
        raise ValueError(f"{sample.name} has no labels")
    labels = np.ascontiguousarray(sample.labels[window])
    targets = encode(labels, list(recipe.maps), sample.classes, edge_px(recipe))
    ignore = np.zeros(labels.shape, bool) if sample.ignore is None else sample.ignore[window]
    return Crop(
        torch.from_numpy(np.ascontiguousarray(sample.image[window]))[None],
        {name: torch.from_numpy(target)[None] for name, target in targets.items()},
        torch.from_numpy(np.ascontiguousarray(ignore))[None],
    )

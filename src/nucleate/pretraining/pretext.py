"""What every pretext task is: views of a window, a network on top of an encoder, a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from nucleate.models.network import Network
from nucleate.types import UInt8

Score = tuple[Tensor, Tensor]  # part and whole: over many batches, both are summed first


class Pretext(nn.Module, ABC):
    """A task that needs no labels; one per file, in the table `PRETEXTS`.

    Attributes:
        score: name of the score that states how well the task is solved; higher is better.
        chance: score -> what guessing gives.
        window_px: edge of the windows that `views` takes.
        network: whose weights are trained.
    """

    score: ClassVar[str]
    chance: dict[str, float]
    window_px: int
    network: Network

    @abstractmethod
    def views(self, window: UInt8, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Return one example: what is shown and what has to be guessed.

        Args:
            window: uint8 (window_px, window_px, 3).
            rng: the only source of chance.
        """

    def exam(self, window: UInt8, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Return one example of those that held-out images are asked for: as in training."""
        return self.views(window, rng)

    @abstractmethod
    def forward(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Score]]:
        """Return losses, which are summed, and scores, of a batch of examples."""


def deepest_shape(network: Network, edge: int) -> tuple[int, int]:
    """Return channels and height of the deepest features of `edge` × `edge` pixels."""
    was = network.training
    with torch.no_grad():
        deepest = network.eval().encode(torch.zeros(1, 3, edge, edge))[-1]
    network.train(was)
    return int(deepest.shape[1]), int(deepest.shape[2])


def pooled(network: Network, images: Tensor, cells: int) -> Tensor:
    """Return the deepest features, averaged in cells × cells parts.

    Args:
        network: with an encoder.
        images: uint8 (B, H, W, 3).
        cells: parts along each side.

    Returns:
        (B, channels × cells²).
    """
    deepest = network.encode(images.permute(0, 3, 1, 2))[-1]
    return F.adaptive_avg_pool2d(deepest, cells).flatten(1)


def right(guess: Tensor, truth: Tensor) -> Score:
    """Return how many guesses are right, and of how many.

    Example:
        >>> part, whole = right(torch.tensor([1, 2]), torch.tensor([1, 3]))
        >>> part.item(), whole.item()
        (1.0, 2.0)
    """
    return (guess == truth).float().sum(), torch.tensor(float(truth.numel()), device=truth.device)


def explained(target: Tensor, guess: Tensor, mean: Tensor | float) -> Score:
    """Return what a guess explains of the spread of the target about its mean, and that spread.

    Their ratio is 0 for the mean, 1 for the truth.

    Args:
        target: any shape.
        guess: likewise.
        mean: that guessing would give; broadcast against the target.

    Example:
        >>> part, whole = explained(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 2.0]), 2.0)
        >>> part.item(), whole.item()
        (1.0, 2.0)
    """
    spread = (target - mean).square().sum()
    return spread - (target - guess).square().sum(), spread

"""Base class of pretext tasks: views of a window, a network on top of an encoder, a loss."""

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

Score = tuple[Tensor, Tensor]  # numerator and denominator, each summed over batches


class Pretext(nn.Module, ABC):
    """A task that needs no labels; one per file, in the table `PRETEXTS`.

    Attributes:
        score: name of the main score; higher is better.
        chance: score -> its value at chance level.
        window_px: edge of the windows that `views` takes, in pixels.
        network: the network to train.
    """

    score: ClassVar[str]
    chance: dict[str, float]
    window_px: int
    network: Network

    @abstractmethod
    def views(self, window: UInt8, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Return one training example: inputs and targets.

        Args:
            window: uint8 (window_px, window_px, 3).
            rng: the only source of randomness.
        """

    def exam(self, window: UInt8, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Return one validation example; by default as in training."""
        return self.views(window, rng)

    @abstractmethod
    def forward(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Score]]:
        """Return the losses (to be summed) and scores of a batch of examples."""


def deepest_shape(network: Network, edge: int) -> tuple[int, int]:
    """Return channels and height of the deepest features of `edge` × `edge` pixels."""
    was = network.training
    with torch.no_grad():
        deepest = network.eval().encode(torch.zeros(1, 3, edge, edge))[-1]
    network.train(was)
    return int(deepest.shape[1]), int(deepest.shape[2])


def pooled(network: Network, images: Tensor, cells: int) -> Tensor:
    """Return the deepest features, average-pooled to cells × cells.

    Args:
        network: network with an encoder.
        images: uint8 (B, H, W, 3).
        cells: cells along each side.

    Returns:
        (B, channels × cells²).
    """
    deepest = network.encode(images.permute(0, 3, 1, 2))[-1]
    return F.adaptive_avg_pool2d(deepest, cells).flatten(1)


def right(guess: Tensor, truth: Tensor) -> Score:
    """Return the number of correct guesses, and of all guesses.

    Example:
        >>> part, whole = right(torch.tensor([1, 2]), torch.tensor([1, 3]))
        >>> part.item(), whole.item()
        (1.0, 2.0)
    """
    return (guess == truth).float().sum(), torch.tensor(float(truth.numel()), device=truth.device)


def explained(target: Tensor, guess: Tensor, mean: Tensor | float) -> Score:
    """Return the explained and the total sum of squares of a target about its mean.

    Their ratio is 0 if the mean is guessed, 1 if the target is.

    Args:
        target: any shape.
        guess: same shape.
        mean: baseline prediction; broadcast against the target.

    Example:
        >>> part, whole = explained(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 2.0]), 2.0)
        >>> part.item(), whole.item()
        (1.0, 2.0)
    """
    spread = (target - mean).square().sum()
    return spread - (target - guess).square().sum(), spread

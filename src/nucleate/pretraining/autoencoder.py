"""Reconstruct the image from the deepest features alone.

    image ─► noise ─► encoder ─► (C, H/s, W/s) ─► ×2 … ×2 ─► the image

There are no skips: a network with skips copies the image through them and learns nothing. The
decoder is narrow and is discarded.

References:
    Hinton and Salakhutdinov 2006, doi:10.1126/science.1127647; Vincent et al. 2008,
    doi:10.1145/1390156.1390294 (with noise).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from nucleate.errors import ConfigError
from nucleate.models.network import Network
from nucleate.pretraining.pretext import Pretext, Score, deepest_shape, explained
from nucleate.types import UInt8

_FOLD = 4  # the last two doublings are a pixel shuffle


class AutoEncoder(Pretext):
    """Reconstruct a window.

    Args:
        network: network whose encoder is trained.
        window_px: edge of a window, in pixels.
        width: channels of the decoder.
        noise: standard deviation of the noise on the input, in grey levels; 0 for none.

    Raises:
        ConfigError: a number is out of range.

    Example:
        >>> from nucleate.models.families import build
        >>> network = build("unet", ["foreground"], {"widths": (8, 16, 32)})
        >>> AutoEncoder(network, window_px=64, width=8).doublings  # of 1/4, before the last 4
        0
    """

    score = "explained"

    def __init__(
        self, network: Network, window_px: int = 128, width: int = 64, noise: float = 10.0
    ) -> None:
        super().__init__()
        if window_px < 16 or width < 1 or noise < 0:
            raise ConfigError(
                "autoencoder: window_px must be at least 16, width at least 1 and noise at least 0."
            )
        self.chance = {"explained": 0.0}
        self.network, self.window_px, self.noise = network, window_px, noise
        channels, height = deepest_shape(network, network.align_px)
        stride = network.align_px // height
        self.doublings = max(0, round(math.log2(stride / _FOLD)))
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 1)]
        for _ in range(self.doublings):
            layers += [
                nn.Upsample(scale_factor=2.0, mode="nearest"),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        fold = min(_FOLD, stride)
        layers += [nn.Conv2d(width, 3 * fold**2, 3, padding=1), nn.PixelShuffle(fold)]
        self.draw = nn.Sequential(*layers)

    def views(self, window: UInt8, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Return `shown` and `drawn`, uint8 (window, window, 3)."""
        noise = rng.normal(0, self.noise, window.shape) if self.noise else 0.0
        return {"shown": np.clip(window + noise, 0, 255).astype(np.uint8), "drawn": window}

    def forward(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Score]]:
        """Return the mean squared error of pixels in 0..1, and the explained variance."""
        drawn = batch["drawn"].permute(0, 3, 1, 2) / 255
        height, width = drawn.shape[-2:]
        guess = self.draw(self.network.encode(batch["shown"].permute(0, 3, 1, 2))[-1]).float()
        guess = guess[..., :height, :width]
        score = explained(drawn, guess, drawn.mean((2, 3), keepdim=True))
        return {"drawn": F.mse_loss(guess, drawn)}, {"explained": score}

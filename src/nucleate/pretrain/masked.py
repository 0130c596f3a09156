"""Paint in what was covered: masked pictures, with the whole network, skips and decoder too.

    picture ─► squares painted over by the mean colour ─► network ─► the picture under the squares

Small objects that lie close are what the squares are small for: half of a nucleus shows where its
other half has to end. All weights but the last layer are handed on, the decoder's too.

References:
    Xie et al. 2022, doi:10.1109/CVPR52688.2022.00943 (SimMIM); Pathak et al. 2016,
    doi:10.1109/CVPR.2016.278 (with convolutions).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from nucleate.errors import ConfigError
from nucleate.models.network import Network
from nucleate.pretrain.pretext import Pretext, Score, explained
from nucleate.types import UInt8

COLOURS = ("red", "green", "blue")


class Masked(Pretext):
    """Paint in covered squares.

    Args:
        network: with the maps `COLOURS`.
        window_px: edge of a window.
        square_px: edge of a covered square.
        covered: share of the squares that are covered.

    Raises:
        ConfigError: a number is out of range.

    Example:
        >>> from nucleate.models import build
        >>> task = Masked(build("unet", COLOURS, {"widths": (8, 16)}), window_px=64)
        >>> seen = task.views(np.zeros((64, 64, 3), np.uint8), np.random.default_rng(0))
        >>> int(seen["covered"].sum()) / 64**2
        0.5
    """

    score = "explained"
    heads: ClassVar = COLOURS

    def __init__(
        self, network: Network, window_px: int = 256, square_px: int = 16, covered: float = 0.5
    ) -> None:
        super().__init__()
        squares = (window_px // max(1, square_px)) ** 2
        if min(square_px, window_px) < 1 or window_px % square_px or not 0 < covered < 1:
            raise ConfigError(
                "masked: window_px is a multiple of square_px, covered lies between 0 and 1."
            )
        if not 0 < round(covered * squares) < squares:
            raise ConfigError("masked: of so few squares none or all are covered. Take smaller.")
        self.chance = {"explained": 0.0}
        self.network, self.window_px = network, window_px
        self.square_px, self.covered = square_px, covered

    def views(self, window: UInt8, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Return `shown` and `drawn`, uint8 (window, window, 3), and where it is `covered`."""
        cells = self.window_px // self.square_px
        chosen = np.zeros(cells * cells, bool)
        chosen[rng.permutation(cells * cells)[: round(self.covered * cells * cells)]] = True
        square = np.ones((self.square_px, self.square_px), bool)
        covered = np.kron(chosen.reshape(cells, cells), square)
        shown = window.copy()
        shown[covered] = window.reshape(-1, 3).mean(0)
        return {"shown": shown, "drawn": window, "covered": covered}

    def forward(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Score]]:
        """Return error and share of variance explained under the squares."""
        drawn = batch["drawn"].permute(0, 3, 1, 2) / 255
        covered = batch["covered"][:, None].float()
        maps = self.network(batch["shown"].permute(0, 3, 1, 2))
        guess = torch.stack([maps[c] for c in COLOURS], 1).float() + 0.5
        count = covered.sum() * 3
        wrong = F.smooth_l1_loss(guess, drawn, reduction="none", beta=0.1)
        mean = (drawn * covered).sum((2, 3), True) / covered.sum((2, 3), True).clamp_min(1)
        score = explained(drawn * covered, guess * covered, mean * covered)
        return {"drawn": 10 * (wrong * covered).sum() / count}, {"explained": score}

    def hands_on(self) -> dict[str, Tensor]:
        """Return all arrays but those of the last layer."""
        state = self.network.state_dict()
        return {name: array for name, array in state.items() if not name.startswith("leave.")}

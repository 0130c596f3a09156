"""What every family is: an encoder that can be pretrained, and a decoder that draws the maps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from nucleate.config import HeadConfig
from nucleate.losses import Uncertainty, total_loss


def _probability(logits: Tensor) -> Tensor:
    return torch.sigmoid(logits.float())


class Network(nn.Module, ABC):
    """Base of all families; `forward` gives maps: logits, or what `finish` makes of them.

    Attributes:
        align_px: what heights and widths are padded to multiples of.
        encoder_parts: names of the children that make up the encoder; all weights below them, and
            no others, are what a pretext task trains and passes on.
        decoder_arguments: of `__init__`, those that leave the encoder as it is.
        only_heads: the heads that it has, and no other family; empty for any that are maps.
    """

    align_px: int
    encoder_parts: ClassVar[tuple[str, ...]] = ("encoder",)
    decoder_arguments: ClassVar[tuple[str, ...]] = ()
    only_heads: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def encode(self, image: Tensor) -> list[Tensor]:
        """Return features, from the finest to the coarsest level.

        Args:
            image: (B, 3, H, W), 0..255.
        """

    def maps(self, image: Tensor) -> dict[str, Tensor]:
        """Return what a backend gives: head -> float32 (B, H, W) in 0..1.

        Args:
            image: (B, 3, H, W), 0..255.
        """
        maps: dict[str, Tensor] = self(image, _probability)
        return maps

    def learn(
        self,
        image: Tensor,
        targets: dict[str, Tensor],
        ignore: Tensor,
        heads: dict[str, HeadConfig],
        weighing: Uncertainty | None = None,
    ) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
        """Return the logits of a batch, its loss, and each weighted term by itself.

        Args:
            image: (B, 3, H, W), 0..255.
            targets: head -> (B, H, W).
            ignore: bool (B, H, W), True where nothing counts.
            heads: the recipe's losses and weights.
            weighing: learned weights of the heads; None takes the recipe's weights as they are.
        """
        logits: dict[str, Tensor] = self(image)
        return logits, *total_loss(logits, targets, ignore, heads, weighing)

    def probe(self, image: Tensor) -> None:
        """Do all the work that does not depend on what is in the image."""
        self(image)

    def free_axes(self, names: list[str]) -> dict[str, dict[int, str]]:
        """Return `image` or output -> axis -> name, the free axes of an exported network.

        Args:
            names: of the outputs.
        """
        free = {0: "batch", 1: "height", 2: "width"}
        return dict.fromkeys(["image", *names], free)

    def encoder_state(self) -> dict[str, Tensor]:
        """Return name -> array of the encoder, as `state_dict` names them."""
        return {k: v for k, v in self.state_dict().items() if k.split(".")[0] in self.encoder_parts}

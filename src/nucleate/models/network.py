"""Base class of families: an encoder that can be pretrained, and a decoder that predicts maps."""

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
    """Base of all families; `forward` returns maps of logits, or of `finish(logits)`.

    Attributes:
        align_px: heights and widths are padded to multiples of this.
        encoder_parts: names of the child modules of the encoder; exactly the weights below them
            are trained by a pretext task and transferred.
        decoder_arguments: arguments of `__init__` that do not affect the encoder.
        only_heads: heads that only this family has; empty if its heads are maps.
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
        """Return the output of a backend: head -> float32 (B, H, W) in 0..1.

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
        """Return the logits of a batch, its loss, and each weighted term.

        Args:
            image: (B, 3, H, W), 0..255.
            targets: head -> (B, H, W).
            ignore: bool (B, H, W), True for pixels that are not scored.
            heads: losses and weights from the recipe.
            weighing: learned weights of the heads; None uses the weights of the recipe.
        """
        logits: dict[str, Tensor] = self(image)
        return logits, *total_loss(logits, targets, ignore, heads, weighing)

    def probe(self, image: Tensor) -> None:
        """Run the part of the network whose cost does not depend on the content of the image."""
        self(image)

    def free_axes(self, names: list[str]) -> dict[str, dict[int, str]]:
        """Return the dynamic axes of an exported network: `image` or output -> axis -> name.

        Args:
            names: names of the outputs.
        """
        free = {0: "batch", 1: "height", 2: "width"}
        return dict.fromkeys(["image", *names], free)

    def encoder_state(self) -> dict[str, Tensor]:
        """Return name -> array of the encoder, named as in `state_dict`."""
        return {k: v for k, v in self.state_dict().items() if k.split(".")[0] in self.encoder_parts}

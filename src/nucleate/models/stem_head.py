"""What every network does at its edges: bytes → channels of a size that it can halve, and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Enter(nn.Module):
    """Image (B, 3, H, W), 0..255 -> (B, 3 stem², H' / stem, W' / stem), normalised and padded.

    H' and W' are the next multiples of `align_px`; what is added repeats the last pixel. A stem of
    s folds s × s pixels into channels (space to depth).

    Args:
        align_px: height and width are padded to multiples of this; a multiple of `stem`.
        stem: 1 folds nothing.
        mean: per channel, of pixels scaled to 0..1; is subtracted.
        sd: per channel, divides after that.

    References:
        Shi et al. 2016, doi:10.1109/CVPR.2016.207 (the reverse of its pixel shuffle).

    Example:
        >>> Enter(4, 2)(torch.full((1, 3, 5, 4), 255.0)).shape
        torch.Size([1, 12, 4, 2])
    """

    def __init__(
        self,
        align_px: int,
        stem: int = 1,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        sd: Sequence[float] = (0.5, 0.5, 0.5),
    ) -> None:
        super().__init__()
        if (
            len(mean) != 3
            or len(sd) != 3
            or not all(map(math.isfinite, (*mean, *sd)))
            or min(sd) <= 0
        ):
            raise ValueError("mean and sd must be three numbers each, sd above 0")
        self.align_px, self.stem = align_px, stem
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer(
            "shift", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1), persistent=False
        )
        self.register_buffer(
            "scale", 1 / torch.tensor(sd, dtype=torch.float32).view(1, 3, 1, 1), persistent=False
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return the channels that the first convolution takes."""
        height, width = image.shape[-2:]
        x = (image.to(self.shift.dtype) / 255 - self.shift) * self.scale
        down, right = -height % self.align_px, -width % self.align_px
        if down or right:
            x = F.pad(x, (0, right, 0, down), mode="replicate")
        return F.pixel_unshuffle(x, self.stem) if self.stem > 1 else x


Finish = Callable[[Tensor], Tensor]


def as_it_is(logits: Tensor) -> Tensor:
    """Return the logits."""
    return logits


class Leave(nn.Conv2d):
    """Features (B, width, H' / stem, W' / stem) -> one map of logits (B, H, W) per head.

    Every head is convolved, finished and unfolded for itself, in this order: on many channels of
    few pixels the engines of the CPU are several times faster than on one channel of many.

    Args:
        width: channels of the features.
        heads: names of the maps.
        stem: as in `Enter`.
    """

    def __init__(self, width: int, heads: Sequence[str], stem: int = 1) -> None:
        super().__init__(width, len(heads) * stem * stem, 1)
        self.heads, self.stem = tuple(heads), stem
        self.bias: nn.Parameter

    def maps(self, x: Tensor, image: Tensor, finish: Finish = as_it_is) -> dict[str, Tensor]:
        """Return head -> map of the size of `image`, what was padded cut off.

        Args:
            x: the features.
            image: as it entered.
            finish: is applied to the logits, pixel by pixel.
        """
        height, width = image.shape[-2:]
        drawn = {}
        for i, head in enumerate(self.heads):
            own = slice(i * self.stem**2, (i + 1) * self.stem**2)
            y = finish(F.conv2d(x, self.weight[own], self.bias[own]))
            if self.stem > 1:
                y = F.pixel_shuffle(y, self.stem)
            if y.shape[-2:] != (height, width):
                y = y[..., :height, :width]
            drawn[head] = y[:, 0]
        return drawn

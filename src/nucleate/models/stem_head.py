"""Input and output layers of every network: bytes → padded channels, and features → maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Enter(nn.Module):
    """Image (B, 3, H, W), 0..255 -> (B, 3 stem², H' / stem, W' / stem), normalised and padded.

    H' and W' are the next multiples of `align_px`; padding repeats the last pixel. A stem of s
    folds s × s pixels into channels (space to depth).

    Args:
        align_px: height and width are padded to multiples of this; a multiple of `stem`.
        stem: 1 folds nothing.
        mean: mean per channel, of pixels in 0..1, subtracted first.
        sd: standard deviation per channel, divides afterwards.

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
        """Return the input of the first convolution."""
        height, width = image.shape[-2:]
        x = (image.to(self.shift.dtype) / 255 - self.shift) * self.scale
        down, right = -height % self.align_px, -width % self.align_px
        if down or right:
            x = F.pad(x, (0, right, 0, down), mode="replicate")
        return F.pixel_unshuffle(x, self.stem) if self.stem > 1 else x


Finish = Callable[[Tensor], Tensor]


def as_it_is(logits: Tensor) -> Tensor:
    """Return the logits unchanged."""
    return logits


class Leave(nn.Conv2d):
    """Features (B, width, H' / stem, W' / stem) -> one map of logits (B, H, W) per head.

    Each head is convolved, finished and unfolded separately, in this order: CPU engines are several
    times faster on many channels of few pixels than on one channel of many pixels.

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
        """Return head -> map of the size of `image`, with the padding cropped.

        Args:
            x: the features.
            image: input image, before padding.
            finish: function applied to the logits, pixel by pixel.
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

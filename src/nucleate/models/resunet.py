"""ResUNet: the U-Net of system Nuclei-Segmentation with residual levels.

A level is BN - ReLU - conv - BN - ReLU - conv, plus its input (through a 1 × 1 convolution where
the channels change), and a ReLU after the sum: both pre-activation and post-activation, as in
Nuclei-Segmentation.

References:
    Zhang et al. 2018, doi:10.1109/LGRS.2018.2802944. He et al. 2016,
    doi:10.1007/978-3-319-46493-0_38 (pre-activation).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from nucleate.models.unet import UNet


class ResUNet(UNet):
    """Image (B, 3, H, W), 0..255 -> one map of logits (B, H, W) per head; any H and W.

    Args:
        heads: names of the maps, in the order of the output.
        widths: channels per level, from the finest to the coarsest.
        upsampling: transposed or bilinear.
        stem: 1, 2 or 4: the finest level has 1/stem of the image's resolution.
        mean: mean per channel, of pixels in 0..1, subtracted first.
        sd: standard deviation per channel, divides afterwards.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        heads: Sequence[str],
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        upsampling: Literal["transposed", "bilinear"] = "transposed",
        stem: int = 1,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        sd: Sequence[float] = (0.5, 0.5, 0.5),
    ) -> None:
        super().__init__(heads, widths, upsampling, "batch", stem, mean, sd)

    def level(self, entering: int, leaving: int) -> nn.Module:
        """Return one residual level."""
        return Residual(entering, leaving)


class Residual(nn.Module):
    """Residual level, (B, entering, H, W) -> (B, leaving, H, W), of two convolutions."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (entering, leaving):
            layers += [nn.BatchNorm2d(channels), nn.ReLU()]
            layers.append(nn.Conv2d(channels, leaving, 3, padding=1))
        self.body = nn.Sequential(*layers)
        self.around = nn.Identity() if entering == leaving else nn.Conv2d(entering, leaving, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the ReLU of the sum of both paths."""
        return F.relu(self.body(x) + self.around(x))

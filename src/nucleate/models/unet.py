"""U-Net: encoder, decoder and skips (Nuclei-Segmentation, Histology-NucleiSeg).

    image ─► E0 ──────────────────────► cat ─► D0 ─► maps
               │ pool                      ▲ ×2
               ▼                           │
              E1 ────────────► cat ─► D1 ──┘
               │ pool           ▲ ×2
               ▼                │
              E2 ───────────────┘

Every E and D is two 3 × 3 convolutions with ReLU. As published, Nuclei-Segmentation has five levels
and transposed convolutions (31,031,745 parameters), Histology-NucleiSeg bilinear upsampling and
four levels (7,782,913) or five (31,378,945); neither has normalisation layers. `norm`, `stem` and
several heads are ours.

References:
    Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nucleate.errors import ConfigError
from nucleate.models.network import Network
from nucleate.models.stem_head import Enter, Finish, Leave, as_it_is


class UNet(Network):
    """Image (B, 3, H, W), 0..255 -> one map of logits (B, H, W) per head; any H and W.

    Args:
        heads: names of the maps, in the order of the output.
        widths: channels per level, from the finest to the coarsest.
        upsampling: transposed halves the channels while upsampling; bilinear leaves that to D.
        norm: batch normalisation after every convolution, or none.
        stem: 1, 2 or 4: the finest level has 1/stem of the image's resolution.
        mean: mean per channel, of pixels in 0..1, subtracted first.
        sd: standard deviation per channel, divides afterwards.

    Raises:
        ConfigError: an argument is out of range.

    Example:
        >>> net = UNet(["foreground"], widths=(64, 128, 256, 512))
        >>> sum(p.numel() for p in net.parameters())
        7782913
    """

    decoder_arguments = ("upsampling",)

    def __init__(
        self,
        heads: Sequence[str],
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        upsampling: Literal["transposed", "bilinear"] = "bilinear",
        norm: Literal["none", "batch"] = "none",
        stem: int = 1,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        sd: Sequence[float] = (0.5, 0.5, 0.5),
    ) -> None:
        super().__init__()
        if stem not in (1, 2, 4) or len(widths) < 2 or not heads or min(widths) < 1:
            raise ConfigError("unet: needs a stem of 1, 2 or 4, two widths and one head.")
        if upsampling not in ("transposed", "bilinear") or norm not in ("none", "batch"):
            raise ConfigError(
                "unet: upsampling must be transposed or bilinear, and norm none or batch."
            )
        self.norm = norm
        self.align_px = stem * 2 ** (len(widths) - 1)
        self.enter = Enter(self.align_px, stem, mean, sd)
        entering = (3 * stem * stem, *widths[:-1])
        self.encoder = nn.ModuleList(map(self.level, entering, widths))
        transposed = upsampling == "transposed"
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, 2, stride=2)
            if transposed
            else nn.Upsample(scale_factor=2.0, mode="bilinear")
            for fine, coarse in pairwise(widths)
        )
        self.decoder = nn.ModuleList(
            self.level(fine + (fine if transposed else coarse), fine)
            for fine, coarse in pairwise(widths)
        )
        self.leave = Leave(widths[0], heads, stem)

    def level(self, entering: int, leaving: int) -> nn.Module:
        """Return the convolutions of one level of encoder or decoder."""
        layers: list[nn.Module] = []
        for channels in (entering, leaving):
            layers.append(nn.Conv2d(channels, leaving, 3, padding=1, bias=self.norm == "none"))
            if self.norm == "batch":
                layers.append(nn.BatchNorm2d(leaving))
            layers.append(nn.ReLU())
        return nn.Sequential(*layers)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the features of every level."""
        x = self.enter(image)
        levels: list[Tensor] = []
        for level in self.encoder:
            x = level(F.max_pool2d(levels[-1], 2) if levels else x)
            levels.append(x)
        return levels

    def forward(self, image: Tensor, finish: Finish = as_it_is) -> dict[str, Tensor]:
        """Return head -> logits (B, H, W) for images (B, 3, H, W) with values 0..255."""
        *skips, x = self.encode(image)
        for up, level in zip(reversed(self.up), reversed(self.decoder), strict=True):
            x = level(torch.cat([skips.pop(), up(x)], 1))
        return self.leave.maps(x, image, finish)

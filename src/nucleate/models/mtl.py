"""MTL: one encoder-decoder that predicts several maps (a faster MTL-NucleusSeg).

    image ── stem ──► E0 ───────────── gate ──► D0 ── head ──► foreground, distance, …
               (1/s)     │ pool                    ▲ ×2
                         ▼                         │
                        E1 ───────────── gate ──► D1
                         │ pool                    ▲ ×2
                         ▼                         │
                        …  ─► E3 ─► transformer ───┘

Every E and D is a sequence of multi-dilated residual blocks. No kernel reaches more than 32 image
pixels to a side: on the coarse maps of a training crop it would cover mostly padding, and learn
what does not occur in a whole image. The stem folds s × s pixels into channels (space to depth)
and the head unfolds them again (pixel shuffle): all convolutions run at 1/s of the resolution, the
maps are at full resolution. Each ingredient can be switched off for ablations: `dilations=(1,)`,
`transformer_layers=0`, `gates=False`.

The context is bounded: convolutions reach a fixed distance, and attention works inside fixed
windows. Windows start at the corner of the image, so tiles agree if their origins are multiples
of `align_px`.

References:
    Multi-task distance + semantic network, transformer, attention gates: the MTL-NucleusSeg paper,
    Biomedical Signal Processing and Control 112 (2026) 108724. Its widths, dilations and depth are
    not public; those here are ours. Residual blocks: He et al. 2016, doi:10.1109/CVPR.2016.90.
    Attention gates: Oktay et al. 2018, arXiv:1804.03999. Windows with relative positions: Liu et
    al. 2021, doi:10.1109/ICCV48922.2021.00986. Pixel shuffle: Shi et al. 2016,
    doi:10.1109/CVPR.2016.207.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nucleate.errors import ConfigError
from nucleate.models.network import Network
from nucleate.models.stem_head import Enter, Finish, Leave, as_it_is

_REACH_PX = 32  # largest reach of a dilated kernel to a side, in image pixels


class MTL(Network):
    """Image (B, 3, H, W), 0..255 -> one map of logits (B, H, W) per head; any H and W.

    Args:
        heads: names of the maps, in the order of the output.
        widths: channels per level, from the finest to the coarsest.
        stem: 1, 2 or 4: the finest level has 1/stem of the image's resolution.
        blocks: residual blocks per encoder level; one number, or one for each level.
        decoder_blocks: residual blocks per decoder level.
        dilations: dilations of the parallel convolutions in each block; (1,) gives plain residual
            blocks. On coarse levels, dilations that reach beyond 32 pixels are omitted.
        transformer_layers: transformer layers in the coarsest level; 0 for none.
        window: edge of an attention window, in pixels of the coarsest level.
        attention_heads: heads of the transformer.
        gates: whether skips pass an attention gate.
        skips: how skips are merged: "concatenate" as in U-Net, or "add" as in LinkNet, which makes
            the decoder cheaper.

    Raises:
        ConfigError: an argument is out of range.

    Example:
        >>> net = MTL(["foreground"], widths=(8, 16), stem=2, transformer_layers=0).eval()
        >>> net(torch.zeros(1, 3, 33, 20))["foreground"].shape
        torch.Size([1, 33, 20])
    """

    encoder_parts = ("enter", "encoder", "transformer")
    decoder_arguments = ("decoder_blocks", "gates", "skips")

    def __init__(
        self,
        heads: Sequence[str],
        widths: Sequence[int] = (32, 64, 128, 256),
        stem: int = 2,
        blocks: int | Sequence[int] = 2,
        decoder_blocks: int = 1,
        dilations: Sequence[int] = (1, 2, 3),
        transformer_layers: int = 2,
        window: int = 8,
        attention_heads: int = 4,
        gates: bool = True,
        skips: str = "concatenate",
    ) -> None:
        super().__init__()
        if stem not in (1, 2, 4):
            raise ConfigError(f"mtl: stem must be 1, 2 or 4, not {stem}.")
        if transformer_layers < 0 or min(window, attention_heads, *dilations, 1) < 1:
            raise ConfigError(
                "mtl: transformer_layers must be at least 0; window, attention_heads and every "
                "dilation at least 1."
            )
        depths = [blocks] * len(widths) if isinstance(blocks, int) else list(blocks)
        if len(widths) < 2 or min(*depths, decoder_blocks) < 1 or not dilations or not heads:
            raise ConfigError("mtl: needs two widths, one block, one dilation and one head.")
        if skips not in ("concatenate", "add"):
            raise ConfigError(f"mtl: skips must be concatenate or add, not {skips!r}.")
        if len(depths) != len(widths):
            raise ConfigError("mtl: blocks must be one number, or one for each of the widths.")
        if min(widths) < len(dilations):
            raise ConfigError("mtl: every width must be at least the number of dilations.")
        if transformer_layers and widths[-1] % attention_heads:
            raise ConfigError(
                f"mtl: the last width, {widths[-1]}, must be a multiple of attention_heads, "
                f"{attention_heads}."
            )
        self.align_px = stem * 2 ** (len(widths) - 1) * (window if transformer_layers else 1)
        self.fold = Enter(self.align_px, stem)
        self.enter = nn.Sequential(*_convolution(3 * stem * stem, widths[0]), nn.ReLU())
        near = [
            [d for d in dilations if d * stem * 2**level <= _REACH_PX] or [1]
            for level in range(len(widths))
        ]
        self.encoder = nn.ModuleList(
            _row(widths[max(0, i - 1)], width, depths[i], near[i]) for i, width in enumerate(widths)
        )
        self.transformer = nn.Sequential(
            *(
                WindowAttention(widths[-1], window, attention_heads)
                for _ in range(transformer_layers)
            )
        )
        self.reduce = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(widths))
        self.gates = nn.ModuleList(Gate(fine) if gates else nn.Identity() for fine in widths[:-1])
        self.adds = skips == "add"
        self.decoder = nn.ModuleList(
            _row(fine if self.adds else 2 * fine, fine, decoder_blocks, near[i])
            for i, fine in enumerate(widths[:-1])
        )
        self.leave = Leave(widths[0], heads, stem)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the features of every level, the last one after the transformer."""
        x = self.enter(self.fold(image))
        levels: list[Tensor] = []
        for row in self.encoder:
            x = row(F.max_pool2d(levels[-1], 2) if levels else x)
            levels.append(x)
        return [*levels[:-1], self.transformer(x)]

    def forward(self, image: Tensor, finish: Finish = as_it_is) -> dict[str, Tensor]:
        """Return head -> logits (B, H, W) for images (B, 3, H, W) with values 0..255."""
        *skips, x = self.encode(image)
        for reduce, gate, row, skip in zip(
            reversed(self.reduce),
            reversed(self.gates),
            reversed(self.decoder),
            reversed(skips),
            strict=True,
        ):
            x = F.interpolate(reduce(x), scale_factor=2.0, mode="nearest")
            skip = gate(skip, x) if isinstance(gate, Gate) else skip
            x = row(x + skip if self.adds else torch.cat([x, skip], 1))
        return self.leave.maps(x, image, finish)


class Block(nn.Module):
    """Multi-dilated residual block: parallel 3 × 3 convolutions -> fuse -> add the input.

    The branches divide the width among them, so that the cost does not depend on their number.
    """

    def __init__(self, entering: int, width: int, dilations: Sequence[int]) -> None:
        super().__init__()
        shares = [
            width // len(dilations) + (i < width % len(dilations)) for i in range(len(dilations))
        ]
        self.branches = nn.ModuleList(
            nn.Conv2d(entering, share, 3, padding=dilation, dilation=dilation, bias=False)
            for share, dilation in zip(shares, dilations, strict=True)
        )
        self.norm = nn.BatchNorm2d(width)
        self.fuse = nn.Sequential(*_convolution(width, width))
        self.project = (
            nn.Identity() if entering == width else nn.Sequential(*_convolution(entering, width, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, H, W) for (B, entering, H, W)."""
        y = torch.cat([branch(x) for branch in self.branches], 1)
        return F.relu(self.fuse(F.relu(self.norm(y))) + self.project(x))


class Gate(nn.Module):
    """Additive attention gate: the coarser features weight the skip per pixel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = max(8, width // 2)
        self.from_skip = nn.Conv2d(width, hidden, 1, bias=False)
        self.from_coarse = nn.Conv2d(width, hidden, 1)
        self.score = nn.Conv2d(hidden, 1, 1)

    def forward(self, skip: Tensor, coarse: Tensor) -> Tensor:
        """Return `skip` (B, width, H, W) scaled per pixel by 0..1; `coarse` has the same shape."""
        return skip * torch.sigmoid(
            self.score(F.relu(self.from_skip(skip) + self.from_coarse(coarse)))
        )


class WindowAttention(nn.Module):
    """Transformer layer with attention inside fixed windows and learned relative positions."""

    def __init__(self, width: int, window: int, heads: int) -> None:
        super().__init__()
        self.window, self.heads = window, heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.bias = nn.Parameter(torch.zeros(heads, (2 * window - 1) ** 2))
        nn.init.trunc_normal_(self.bias, std=0.02)
        axis = torch.arange(window)
        yx = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
        apart = yx[:, None] - yx[None, :] + window - 1  # 0 .. 2 * window - 2 in y and in x
        index = apart[..., 0] * (2 * window - 1) + apart[..., 1]
        self.register_buffer("pair", index, persistent=False)
        self.pair: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W) for (B, C, H, W); H and W are multiples of the window."""
        batch, channels, height, width = x.shape
        w = self.window
        rows, columns = height // w, width // w
        tokens = (
            x.reshape(batch, channels, rows, w, columns, w)
            .permute(0, 2, 4, 3, 5, 1)
            .reshape(batch * rows * columns, w * w, channels)
        )
        normal = self.norm_attention(tokens)
        q, k, v = (
            part.reshape(-1, w * w, self.heads, channels // self.heads).transpose(1, 2)
            for part in self.qkv(normal).chunk(3, -1)
        )
        seen = F.scaled_dot_product_attention(
            q, k, v, attn_mask=self.bias[:, self.pair].unsqueeze(0).to(q.dtype)
        )
        tokens = tokens + self.out(seen.transpose(1, 2).reshape(-1, w * w, channels))
        tokens = tokens + self.mlp(self.norm_mlp(tokens))
        whole: Tensor = (
            tokens.reshape(batch, rows, columns, w, w, channels)
            .permute(0, 5, 1, 3, 2, 4)
            .reshape(batch, channels, height, width)
        )
        return whole


def _convolution(entering: int, leaving: int, kernel: int = 3) -> list[nn.Module]:
    return [
        nn.Conv2d(entering, leaving, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(leaving),
    ]


def _row(entering: int, width: int, blocks: int, dilations: Sequence[int]) -> nn.Sequential:
    return nn.Sequential(
        *(Block(entering if i == 0 else width, width, dilations) for i in range(blocks))
    )

"""U-Net on any encoder of segmentation-models-pytorch or timm: the strong generic baseline.

References:
    Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28; the encoders' own papers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from nucleate.errors import ConfigError, optional
from nucleate.models.imagenet import LEVELS, MEAN, SD, make_encoder
from nucleate.models.network import Network
from nucleate.models.stem_head import Enter, Finish, Leave, as_it_is


class EncoderUNet(Network):
    """Image (B, 3, H, W), 0..255 -> one map of logits (B, H, W) per head; any H and W.

    Args:
        heads: names of the maps, in the order of the output.
        encoder: name in segmentation-models-pytorch (resnet34, efficientnet-b3, …), or in timm
            with the prefix tu- (tu-convnext_tiny, …).
        levels: levels of the encoder, 2 to 5; coarser levels are omitted.
        decoder_widths: channels of the decoder, from the coarsest to the finest level. With fewer
            than `levels`, the decoder stops at 1/2 or 1/4 of the resolution and the head unfolds
            the pixels (pixel shuffle), which is much faster.
        mean: mean per channel, of pixels in 0..1, subtracted first.
        sd: standard deviation per channel, divides afterwards.

    Raises:
        ConfigError: no such encoder, or an argument out of range.

    Example:
        >>> import torch
        >>> net = EncoderUNet(["foreground"], "resnet18", 3, (32, 16)).eval()
        >>> net(torch.zeros(1, 3, 33, 20))["foreground"].shape
        torch.Size([1, 33, 20])
    """

    decoder_arguments = ("decoder_widths",)

    def __init__(
        self,
        heads: Sequence[str],
        encoder: str = "resnet34",
        levels: int = LEVELS,
        decoder_widths: Sequence[int] = (256, 128, 64, 32, 16),
        mean: Sequence[float] = MEAN,
        sd: Sequence[float] = SD,
    ) -> None:
        super().__init__()
        unfolded = levels - len(decoder_widths)
        if not heads or not 2 <= levels <= LEVELS or not 0 <= unfolded <= 2 or not decoder_widths:
            raise ConfigError(
                f"encoder_unet: needs one head and 2 to {LEVELS} levels, and up to two "
                "decoder_widths fewer than levels."
            )
        decoders: Any = optional("segmentation_models_pytorch.decoders.unet.decoder", "train")
        self.encoder_name = encoder
        self.align_px = 2**levels
        self.enter = Enter(self.align_px, 1, mean, sd)
        self.encoder = make_encoder(encoder, levels)
        self.decoder = decoders.UnetDecoder(
            encoder_channels=self.encoder.out_channels,
            decoder_channels=tuple(decoder_widths),
            n_blocks=len(decoder_widths),
        )
        self.leave = Leave(decoder_widths[-1], heads, 2**unfolded)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the normalised image and the features of every level."""
        return list(self.encoder(self.enter(image)))

    def forward(self, image: Tensor, finish: Finish = as_it_is) -> dict[str, Tensor]:
        """Return head -> logits (B, H, W) for images (B, 3, H, W) with values 0..255."""
        return self.leave.maps(self.decoder(self.encode(image)), image, finish)

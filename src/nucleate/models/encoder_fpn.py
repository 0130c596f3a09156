"""Feature pyramid on any encoder of segmentation-models-pytorch or timm (Medical_segmentation).

Medical_segmentation uses EfficientNet-B3, a pyramid of 256 and 128 channels, and a 3 × 3
convolution to maps at a quarter of the resolution, which are then upsampled. It does not
normalise: `mean` 0, `sd` 1/255.

References:
    Lin et al. 2017, doi:10.1109/CVPR.2017.106; Kirillov et al. 2019, doi:10.1109/CVPR.2019.00656
    (the pyramid for segmentation); the encoders' own papers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from nucleate.errors import ConfigError, optional
from nucleate.models.imagenet import MEAN, SD, make_encoder
from nucleate.models.network import Network
from nucleate.models.stem_head import Enter, Finish, as_it_is


class EncoderFPN(Network):
    """Image (B, 3, H, W), 0..255 -> one map of logits (B, H, W) per head; any H and W.

    Args:
        heads: names of the maps, in the order of the output.
        encoder: name in segmentation-models-pytorch (resnet34, efficientnet-b3, …), or in timm
            with the prefix tu- (tu-convnext_tiny, …).
        pyramid_width: channels of the pyramid.
        width: channels of the levels before they are summed.
        dropout: fraction of the channels of the sum that a training step drops.
        mean: mean per channel, of pixels in 0..1, subtracted first.
        sd: standard deviation per channel, divides afterwards.

    Raises:
        ConfigError: no heads, no such encoder, or an argument out of range.
    """

    decoder_arguments = ("pyramid_width", "width", "dropout")

    def __init__(
        self,
        heads: Sequence[str],
        encoder: str = "efficientnet-b3",
        pyramid_width: int = 256,
        width: int = 128,
        dropout: float = 0.2,
        mean: Sequence[float] = MEAN,
        sd: Sequence[float] = SD,
    ) -> None:
        super().__init__()
        if not heads or min(pyramid_width, width) < 1 or not 0 <= dropout < 1:
            raise ConfigError(
                "encoder_fpn: needs one head, widths of at least 1 and a dropout below 1."
            )
        decoders: Any = optional("segmentation_models_pytorch.decoders.fpn.decoder", "train")
        self.heads, self.encoder_name = tuple(heads), encoder
        self.align_px = 32
        self.enter = Enter(self.align_px, 1, mean, sd)
        self.encoder = make_encoder(encoder)
        self.decoder = decoders.FPNDecoder(
            encoder_channels=self.encoder.out_channels,
            encoder_depth=5,
            pyramid_channels=pyramid_width,
            segmentation_channels=width,
            dropout=dropout,
        )
        self.leave = nn.Conv2d(self.decoder.out_channels, len(heads), 3, padding=1)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the normalised image and the features of every level."""
        return list(self.encoder(self.enter(image)))

    def forward(self, image: Tensor, finish: Finish = as_it_is) -> dict[str, Tensor]:
        """Return head -> logits (B, H, W) for images (B, 3, H, W) with values 0..255."""
        maps = self.leave(self.decoder(self.encode(image)))
        maps = F.interpolate(maps, scale_factor=4.0, mode="bilinear")
        height, width = image.shape[-2:]
        if maps.shape[-2:] != (height, width):
            maps = maps[..., :height, :width]
        return dict(zip(self.heads, finish(maps).unbind(1), strict=True))

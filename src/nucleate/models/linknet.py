"""LinkNet-34: a ResNet-34 encoder and a decoder with additive skips (Nuclei-Segmentation).

As published in Nuclei-Segmentation, the decoder has no activations (`activations=False`), and
images are not normalised as the encoder's ImageNet weights expect (`mean` 0, `sd` 1); both are
options here.

References:
    Chaurasia and Culurciello 2017, doi:10.1109/VCIP.2017.8305148. He et al. 2016,
    doi:10.1109/CVPR.2016.90.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nucleate.errors import ConfigError
from nucleate.models.imagenet import MEAN, SD, make_encoder
from nucleate.models.network import Network
from nucleate.models.stem_head import Enter, Finish, Leave, as_it_is


class LinkNet(Network):
    """Image (B, 3, H, W), 0..255 -> one map of logits (B, H, W) per head; any H and W.

    Args:
        heads: names of the maps, in the order of the output.
        activations: whether ReLUs follow the normalised convolutions of the decoder.
        mean: mean per channel, of pixels in 0..1, subtracted first.
        sd: standard deviation per channel, divides afterwards.

    Raises:
        ConfigError: no heads.
    """

    encoder_name = "resnet34"
    decoder_arguments = ("activations",)

    def __init__(
        self,
        heads: Sequence[str],
        activations: bool = True,
        mean: Sequence[float] = MEAN,
        sd: Sequence[float] = SD,
    ) -> None:
        super().__init__()
        if not heads:
            raise ConfigError("linknet: needs at least one head. Add one to heads.")
        self.align_px = 32
        self.enter = Enter(self.align_px, 1, mean, sd)
        self.encoder = make_encoder(self.encoder_name)
        # 1/32 -> 1/16 -> 1/8 -> 1/4 -> 1/2; the last level has no skip
        leaving = (256, 128, 64, 64)
        self.decoder = nn.ModuleList(
            _up(coarse, fine, activations)
            for coarse, fine in zip((512, *leaving[:-1]), leaving, strict=True)
        )
        self.last = nn.Sequential(
            nn.ConvTranspose2d(64, 32, 3, stride=2, padding=1, output_padding=1),
            *_maybe(activations),
            nn.Conv2d(32, 32, 3, padding=1),
            *_maybe(activations),
            nn.Conv2d(32, 16, 3, padding=1),
            *_maybe(activations),
        )
        self.leave = Leave(16, heads)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the normalised image and the features of every level."""
        return list(self.encoder(self.enter(image)))

    def forward(self, image: Tensor, finish: Finish = as_it_is) -> dict[str, Tensor]:
        """Return head -> logits (B, H, W) for images (B, 3, H, W) with values 0..255."""
        _, _, *skips, x = self.encode(image)
        for level in self.decoder:
            x = level(x)
            if skips:
                x = x + skips.pop()
        return self.leave.maps(self.last(x), image, finish)


def _up(entering: int, leaving: int, activations: bool) -> nn.Sequential:
    """Return a decoder level: reduce channels to a quarter, double the size, expand channels."""
    narrow = entering // 4
    return nn.Sequential(
        nn.Conv2d(entering, narrow, 1),
        nn.BatchNorm2d(narrow),
        *_maybe(activations),
        nn.ConvTranspose2d(narrow, narrow, 4, stride=2, padding=1),
        nn.BatchNorm2d(narrow),
        *_maybe(activations),
        nn.Conv2d(narrow, leaving, 1),
        nn.BatchNorm2d(leaving),
        *_maybe(activations),
    )


def _maybe(activations: bool) -> list[nn.Module]:
    return [nn.ReLU()] if activations else []

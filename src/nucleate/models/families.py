"""The table of network families. CONTRIBUTING.md explains how to add one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from nucleate.errors import ConfigError, pick
from nucleate.models.encoder_fpn import EncoderFPN
from nucleate.models.encoder_unet import EncoderUNet
from nucleate.models.linknet import LinkNet
from nucleate.models.mask_rcnn import MaskRCNN
from nucleate.models.mtl import MTL
from nucleate.models.network import Network
from nucleate.models.resunet import ResUNet
from nucleate.models.unet import UNet
from nucleate.trees import check_arguments

MODELS: dict[str, Callable[..., Network]] = {
    "mtl": MTL,
    "unet": UNet,
    "resunet": ResUNet,
    "linknet": LinkNet,
    "encoder_unet": EncoderUNet,
    "encoder_fpn": EncoderFPN,
    "mask_rcnn": MaskRCNN,
}


def build(family: str, heads: Sequence[str], arguments: dict[str, Any]) -> Network:
    """Build a new network.

    Args:
        family: key of `MODELS`.
        heads: names of the output maps.
        arguments: keyword arguments of the family's class.

    Raises:
        ConfigError: no such family, or an unknown argument.
    """
    make: Callable[..., Network] = pick(MODELS, family, "model family")
    check_arguments(make, arguments, f"model.arguments: {family}", ("heads",))
    owner = next((name for name in MODELS for h in heads if h in _own_heads(name)), family)
    if owner != family:
        own = ", ".join(_own_heads(owner))
        raise ConfigError(
            f"The head {own!r} belongs to {owner}; {family} predicts maps. Use other heads, or "
            f"model.family={owner}."
        )
    try:
        return make(heads, **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        said = str(error).splitlines()[0][:120]
        raise ConfigError(f"model.arguments: {family} cannot be built: {said}.") from error


def some_heads(family: str) -> list[str]:
    """Return valid heads for a family, for use when only its encoder matters."""
    return _own_heads(family) or ["foreground"]


def _own_heads(family: str) -> list[str]:
    """Return the heads that only this family has; empty for a family that predicts maps."""
    return list(getattr(MODELS.get(family), "only_heads", ()))


def parameter_count(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def flops_per_pixel(network: Network, edge: int = 512) -> float:
    """Return the floating-point operations of a forward pass per pixel; a multiply-add is two.

    Convolutions, matrix products and attention are counted on an image of `edge` × `edge` pixels.
    Costs per nucleus are not counted.

    Example:
        >>> from nucleate.models.stem_head import Leave
        >>> class One(Network):  # one 1 × 1 convolution of 3 channels to 1: 3 multiply-adds
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.leave = Leave(3, ["foreground"])
        ...     def forward(self, image):
        ...         return self.leave.maps(image, image)
        ...     encode = forward
        >>> flops_per_pixel(One(), 8)
        6.0
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    blank = torch.zeros(1, 3, edge, edge)
    with counter, torch.no_grad():
        network.eval().probe(blank)
    return counter.get_total_flops() / edge**2

"""Networks: one readable file per family, and one table of them. Adding one: CONTRIBUTING.md."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from nucleate.errors import ConfigError, nearest, pick
from nucleate.models.encoder_unet import EncoderUNet
from nucleate.models.linknet import LinkNet
from nucleate.models.mtl import MTL
from nucleate.models.resunet import ResUNet
from nucleate.models.unet import UNet

MODELS: dict[str, Callable[..., nn.Module]] = {
    "mtl": MTL,
    "unet": UNet,
    "resunet": ResUNet,
    "linknet": LinkNet,
    "encoder_unet": EncoderUNet,
}


def build(family: str, heads: Sequence[str], arguments: dict[str, Any]) -> nn.Module:
    """Return a new network.

    Args:
        family: key of `MODELS`.
        heads: names of the output maps.
        arguments: of the family's class.

    Raises:
        ConfigError: no such family, or an argument that it does not have.
    """
    make = pick(MODELS, family, "model family")
    known = [name for name in inspect.signature(make).parameters if name != "heads"]
    for name in arguments:
        if name not in known:
            raise ConfigError(f"model.arguments: {family} has no {name!r}. {nearest(name, known)}")
    try:
        return make(heads, **arguments)  # type: ignore[no-any-return]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model.arguments: {family} cannot be built: {error}.") from error


def parameter_count(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)

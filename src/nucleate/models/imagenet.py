"""Encoders that were published with ImageNet weights, and how a network starts from those."""

from __future__ import annotations

from typing import Any

from torch import nn

from nucleate.errors import ConfigError, ModelError, optional

MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, pixels in 0..1


def make_encoder(name: str) -> Any:  # noqa: ANN401
    """Return an encoder of five levels with random weights.

    Raises:
        ConfigError: no such encoder.
    """
    encoders: Any = optional("segmentation_models_pytorch.encoders", "train")
    try:
        return encoders.get_encoder(name, in_channels=3, depth=5, weights=None)
    except (KeyError, RuntimeError, ValueError) as error:
        said = " ".join(str(error.args[0] if error.args else error).split())[:120]
        raise ConfigError(
            f"There is no encoder {name!r} ({said}). Name one of segmentation-models-pytorch, or "
            "one of timm with the prefix tu-."
        ) from error


def start_from_imagenet(network: nn.Module) -> None:
    """Replace the weights of a network's encoder by published ones, trained on ImageNet.

    Raises:
        ConfigError: the network has no such encoder.
        ModelError: the weights cannot be reached.
    """
    name = getattr(network, "encoder_name", None)
    if name is None:
        raise ConfigError(
            f"init.imagenet: {type(network).__name__} has no encoder with published weights. "
            "Leave it away, or take linknet or encoder_unet."
        )
    encoders: Any = optional("segmentation_models_pytorch.encoders", "train")
    try:
        trained = encoders.get_encoder(name, in_channels=3, depth=5, weights="imagenet")
    except Exception as error:  # whatever the hub's client raises: no connection, no such file
        said = " ".join(str(error).split())[:120]
        raise ModelError(
            f"The ImageNet weights of {name} cannot be reached ({type(error).__name__}: {said}). "
            "Set init.imagenet=never to start at random, or connect to the internet."
        ) from error
    network.encoder.load_state_dict(trained.state_dict())  # type: ignore[union-attr]

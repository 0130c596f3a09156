"""Encoders published with ImageNet weights, and how to load those weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nucleate.errors import ConfigError, ModelError, optional

MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet, pixels in 0..1
LEVELS = 5  # levels of published encoders, from 1/2 to 1/32 of the image's resolution


def make_encoder(name: str, levels: int = LEVELS) -> Any:  # noqa: ANN401
    """Return an encoder with random weights.

    Args:
        name: name in segmentation-models-pytorch, or in timm with the prefix tu-.
        levels: number of levels; coarser levels are omitted.

    Raises:
        ConfigError: no such encoder.
    """
    encoders: Any = optional("segmentation_models_pytorch.encoders", "train")
    try:
        return encoders.get_encoder(name, in_channels=3, depth=levels, weights=None)
    except (KeyError, RuntimeError, ValueError) as error:
        said = " ".join(str(error.args[0] if error.args else error).split())[:120]
        raise ConfigError(
            f"Unknown encoder {name!r} ({said}). Name one of segmentation-models-pytorch, or one "
            "of timm with the prefix tu-."
        ) from error


def start_from_imagenet(network: nn.Module, file: str | Path | None = None) -> None:
    """Replace the weights of a network's encoder with published ImageNet weights.

    Args:
        network: a network with such an encoder.
        file: safetensors file with the encoder's arrays, named as in timm or torchvision; None
            downloads them from the hub.

    Raises:
        ConfigError: the network has no such encoder.
        ModelError: the weights cannot be loaded, or belong to another encoder.
    """
    name = getattr(network, "encoder_name", None)
    if name is None:
        raise ConfigError(
            f"init.imagenet: {type(network).__name__} has no encoder with published weights. Omit "
            "the key, or use linknet or encoder_unet."
        )
    encoder: Any = network.encoder
    published = _from_hub(name) if file is None else _from_file(name, Path(file))
    own = encoder.state_dict()
    strange = {k for k, v in own.items() if k not in published or published[k].shape != v.shape}
    if strange:
        raise ModelError(
            f"init.imagenet: {file or 'the hub'} lacks {min(strange)} of {name} (and "
            f"{len(strange) - 1} more arrays). Use the weights of this encoder."
        )
    encoder.load_state_dict({key: published[key] for key in own})


def _from_hub(name: str) -> dict[str, Tensor]:
    encoders: Any = optional("segmentation_models_pytorch.encoders", "train")
    try:
        trained = encoders.get_encoder(name, in_channels=3, depth=LEVELS, weights="imagenet")
    except Exception as error:  # whatever the hub's client raises: no connection, no such file
        said = " ".join(str(error).split())[:120]
        raise ModelError(
            f"The ImageNet weights of {name} cannot be reached ({type(error).__name__}: {said}). "
            "Connect to the internet, name a safetensors file of the weights, or set "
            "init.imagenet=never for random weights."
        ) from error
    state: dict[str, Tensor] = trained.state_dict()
    return state


def _from_file(name: str, path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        arrays: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"init.imagenet: {path} is missing or not a safetensors file ({error}). Name the "
            f"weights of {name}, or set init.imagenet=required to download them."
        ) from error
    prefix = "model." if name.startswith("tu-") else ""  # timm's encoders are wrapped in `model`
    return {f"{prefix}{key}": array for key, array in arrays.items()}

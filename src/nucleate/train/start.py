"""What the weights are before the first step: random, another model's, or ImageNet's."""

from __future__ import annotations

import torch
from safetensors.numpy import load_file
from torch import nn

from nucleate.checkpoint import WEIGHTS, find_model, read_card, trusted_file
from nucleate.config import Recipe
from nucleate.errors import ConfigError, ModelError
from nucleate.models.imagenet import start_from_imagenet


def start(network: nn.Module, recipe: Recipe) -> str:
    """Fill in the weights that the recipe starts from; return a sentence that says which.

    Raises:
        ConfigError: the model to start from has another network.
        ModelError: there is no such model, or weights that are required cannot be reached.
    """
    init = recipe.init
    if init.from_model is not None:
        return _from_model(network, recipe, init.from_model)
    if init.imagenet == "never":
        return "Starts from random weights."
    try:
        start_from_imagenet(network)
    except ModelError as error:
        if init.imagenet == "required":
            raise
        return f"Starts from random weights: {error}"
    return f"The encoder {network.encoder_name} starts from ImageNet weights."


def _from_model(network: nn.Module, recipe: Recipe, name: str) -> str:
    folder = find_model(name)
    card = read_card(folder)
    wanted = {
        "model.family": (recipe.model.family, card.family),
        "model.arguments": (recipe.model.arguments, card.arguments),
        "heads": (list(recipe.maps), card.heads),
        "data.mpp": (recipe.data.mpp, card.mpp),
    }
    for key, (here, there) in wanted.items():
        if here != there:
            raise ConfigError(
                f"init.from: {key} is {here} in the recipe, but {there} in {card.name}. Make them "
                "the same, or start from another model."
            )
    arrays = load_file(trusted_file(folder, card, WEIGHTS))
    network.load_state_dict({key: torch.from_numpy(a).float() if a.dtype.kind == "f" else
                             torch.from_numpy(a) for key, a in arrays.items()})  # fmt: skip
    digest = card.files[WEIGHTS][:12]
    trained = ", ".join(str(d["name"]) for d in card.training_data if "name" in d)
    return (
        f"All {len(arrays)} arrays start from {card.name} (sha256 {digest}), which was trained on "
        f"{trained}."
    )

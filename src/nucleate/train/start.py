"""What the weights are before the first step: random, another model's, or ImageNet's."""

from __future__ import annotations

from typing import Any

from torch import nn

from nucleate.checkpoint import WEIGHTS, find_model, read_card
from nucleate.config import Recipe
from nucleate.datasets.collect import Collection
from nucleate.errors import ConfigError, ModelError
from nucleate.inference.backends import read_weights
from nucleate.models.imagenet import start_from_imagenet
from nucleate.types import ModelCard


def check_start(recipe: Recipe, data: Collection) -> None:
    """Raise an error where the model to start from does not suit: before anything is written.

    Raises:
        ConfigError: it has another network, or was trained or chosen on what is held out here.
        ModelError: there is no such model.
    """
    if recipe.init.from_model is None:
        return
    card = read_card(find_model(recipe.init.from_model))
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
    leaked = _seen(card, data)
    if leaked is not None:
        raise ConfigError(
            f"init.from: {card.name} was trained or chosen on {leaked}, which is held out here: "
            "the result would say nothing. Start from another model, or hold others out."
        )


def start(network: nn.Module, recipe: Recipe) -> tuple[str, list[Any]]:
    """Fill in the weights that the recipe starts from.

    Returns:
        A sentence that says which, and what those were trained on, for the card.

    Raises:
        ConfigError: the network has no encoder with published weights.
        ModelError: weights that are required cannot be reached, or are damaged.
    """
    init = recipe.init
    if init.from_model is not None:
        return _from_model(network, init.from_model)
    if init.imagenet == "never":
        return "Starts from random weights.", []
    try:
        start_from_imagenet(network)
    except ModelError as error:
        if init.imagenet == "required":
            raise
        return f"Starts from random weights: {error}", []
    return f"The encoder {network.encoder_name} starts from ImageNet weights.", []


def _from_model(network: nn.Module, name: str) -> tuple[str, list[Any]]:
    folder = find_model(name)
    card = read_card(folder)
    weights = read_weights(folder, card)
    network.load_state_dict(weights)
    digest = card.files[WEIGHTS][:12]
    trained = ", ".join(str(d["name"]) for d in card.training_data if "name" in d)
    said = (
        f"All {len(weights)} arrays start from {card.name} (sha256 {digest}), which was trained on "
        f"{trained}."
    )
    return said, [
        {**entry, "through": entry.get("through", card.name)} for entry in card.training_data
    ]


def _seen(card: ModelCard, data: Collection) -> str | None:
    """Return a patient or data set that a model has seen though it is held out here, or None.

    Pictures that both were chosen on may be the same: going on with the same split is no leak.
    """
    held = {
        part: {data.split.groups[name] for name in data.split.parts.get(part, ())}
        for part in ("validation", "test")
    }
    groups = [entry["groups"] for entry in card.training_data if "groups" in entry]
    if groups:
        trained = {group for entry in groups for group in entry["train"]}
        chosen = {group for entry in groups for group in entry["validation"]}
        leaked = (held["validation"] | held["test"]) & trained | held["test"] & chosen
    else:  # an older card names its data sets only
        names = [n for part in ("validation", "test") for n in data.split.parts.get(part, ())]
        mine = {str(data.sources[int(name.partition(":")[0])]["name"]) for name in names}
        leaked = mine & {str(entry.get("name")) for entry in card.training_data}
    return min(leaked, default=None)

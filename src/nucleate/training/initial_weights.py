"""Set the initial weights of a training: random, from another model, or from ImageNet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nucleate.cards import EncoderCard, ModelCard
from nucleate.config import Recipe
from nucleate.datasets.loading import Collection
from nucleate.errors import ConfigError, ModelError
from nucleate.files import sha256, short
from nucleate.inference.torch_backend import read_weights
from nucleate.models.card import (
    ENCODER,
    WEIGHTS,
    find_encoder,
    find_model,
    read_card,
    read_encoder_card,
)
from nucleate.models.families import build
from nucleate.models.fingerprints import is_copy, looked_at
from nucleate.models.imagenet import start_from_imagenet
from nucleate.models.network import Network
from nucleate.training.teacher import teacher_cards
from nucleate.types import Sample


def check_start(recipe: Recipe, data: Collection, held_out: list[Sample]) -> None:
    """Check the models that a training starts from, before anything is written.

    Raises:
        ConfigError: a model has another network, or was trained or selected on held-out images.
        ModelError: there is no such model or file of weights.
    """
    cards: list[tuple[str, ModelCard | EncoderCard]] = [
        ("teacher.models", card) for card in teacher_cards(recipe)
    ]
    if recipe.init.from_model is not None:
        folder = find_encoder(recipe.init.from_model)
        card = _check_model(recipe) if folder is None else _check_encoder(recipe, folder)
        cards.append(("init.from", card))
    if recipe.init.imagenet.endswith(".safetensors"):
        network = build(recipe.model.family, list(recipe.maps), recipe.model.arguments)
        start_from_imagenet(network, recipe.init.imagenet)
    for key, card in cards:
        leaked = _seen(card, data) or seen_pixels(card, held_out)
        if leaked is not None:
            raise ConfigError(
                f"{key}: {card.name} was trained or chosen on {leaked}, which is held out here, "
                "so that the score would be invalid. Use another model, or hold out other images."
            )


def _check_model(recipe: Recipe) -> ModelCard:
    card = read_card(find_model(str(recipe.init.from_model)))
    _check_same(recipe, card, {"heads": (list(recipe.maps), card.heads)}, ())
    return card


def _check_encoder(recipe: Recipe, folder: Path) -> EncoderCard:
    card = read_encoder_card(folder)
    network = build(recipe.model.family, list(recipe.maps), recipe.model.arguments)
    _check_same(recipe, card, {}, network.decoder_arguments)
    _check_arrays(network, read_weights(folder, card, ENCODER), card)
    return card


def _check_same(
    recipe: Recipe,
    card: ModelCard | EncoderCard,
    more: dict[str, tuple[object, object]],
    free: tuple[str, ...],
) -> None:
    """Raise a `ConfigError` if recipe and card differ, except in the arguments in `free`."""
    mine, theirs = (
        {name: value for name, value in arguments.items() if name not in free}
        for arguments in (recipe.model.arguments, card.arguments)
    )
    wanted = {
        "model.family": (recipe.model.family, card.family),
        "model.arguments": (mine, theirs),
        **more,
        "data.mpp": (recipe.data.mpp, card.mpp),
    }
    for key, (here, there) in wanted.items():
        if here != there:
            raise ConfigError(
                f"init.from: {key} is {here} in the recipe, but {there} in {card.name}. Change the "
                "recipe, or start from another model."
            )


def start(network: Network, recipe: Recipe) -> tuple[str, list[Any]]:
    """Load the initial weights of a recipe.

    Returns:
        A sentence about the initial weights, and the training data of those weights and of the
        teachers, for the card.

    Raises:
        ConfigError: the network has no encoder with published weights.
        ModelError: required weights cannot be loaded, or are damaged.
    """
    said, trained_on = _start(network, recipe)
    cards = teacher_cards(recipe)
    if cards:
        names = ", ".join(card.name for card in cards)
        said += f" Targets are blended with the maps of {names} (weight {recipe.teacher.weight})."
    return said, trained_on + [entry for card in cards for entry in _through(card)]


def _start(network: Network, recipe: Recipe) -> tuple[str, list[Any]]:
    init = recipe.init
    if init.from_model is not None:
        folder = find_encoder(init.from_model)
        if folder is not None:
            return _from_encoder(network, folder)
        return _from_model(network, init.from_model)
    return imagenet_start(network, init.imagenet), []


def imagenet_start(network: Network, imagenet: str) -> str:
    """Load published weights according to `init.imagenet` of the recipe.

    Returns:
        A sentence about the initial weights.

    Raises:
        ConfigError: the network has no encoder with published weights.
        ModelError: required weights cannot be loaded, or do not fit.
    """
    if imagenet == "never":
        return "Starts from random weights."
    file = Path(imagenet) if imagenet.endswith(".safetensors") else None
    try:
        start_from_imagenet(network, file)
    except ModelError as error:
        if imagenet != "if-reachable":
            raise
        return f"Starts from random weights: {error}"
    which = f" ({file.name}, sha256 {short(sha256(file))})" if file else ""
    return f"The encoder {network.encoder_name} starts from ImageNet weights{which}."


def _from_model(network: Network, name: str) -> tuple[str, list[Any]]:
    folder = find_model(name)
    card = read_card(folder)
    weights = read_weights(folder, card)
    network.load_state_dict(weights)
    digest = short(card.files[WEIGHTS])
    said = (
        f"All {len(weights)} arrays start from {card.name} (sha256 {digest}), which was trained on "
        f"{_data_names(card)}."
    )
    return said, _through(card)


def _from_encoder(network: Network, folder: Path) -> tuple[str, list[Any]]:
    card = read_encoder_card(folder)
    weights = read_weights(folder, card, ENCODER)
    _check_arrays(network, weights, card)
    network.load_state_dict(weights, strict=False)
    fresh = network.state_dict().keys() - weights.keys()
    said = (
        f"{len(weights)} arrays ({_counted(weights)}) start from {card.name} (sha256 "
        f"{short(card.files[ENCODER])}), pretrained by {card.task} without labels on "
        f"{_data_names(card)}; "
        f"{len(fresh)} ({_counted(fresh)}) start at random."
    )
    return said, _through(card)


def _check_arrays(network: Network, weights: dict[str, Any], card: EncoderCard) -> None:
    """Raise a `ModelError` unless the arrays cover the encoder and all fit the network."""
    state = network.state_dict()
    missing = network.encoder_state().keys() - weights.keys()
    strange = {n for n, a in weights.items() if n not in state or state[n].shape != a.shape}
    for names, what in ((missing, "lacks"), (strange, "does not fit the network:")):
        if names:
            raise ModelError(
                f"init.from: {card.name} {what} {min(names)} (and {len(names) - 1} more arrays). "
                "Start from an encoder of the same network."
            )


def _counted(names: Iterable[str]) -> str:
    """Count the arrays per part of a network.

    Example:
        >>> _counted(["encoder.0.weight", "encoder.0.bias", "leave.weight"])
        'encoder 2, leave 1'
    """
    counts = Counter(name.split(".")[0] for name in names)
    return ", ".join(f"{part} {count}" for part, count in sorted(counts.items()))


def _data_names(card: ModelCard | EncoderCard) -> str:
    """List the data sets of a card once each, also those of its teachers and starts."""
    return "; ".join(dict.fromkeys(str(d["name"]) for d in card.training_data if "name" in d))


def _through(card: ModelCard | EncoderCard) -> list[Any]:
    """Return the training data of a model, for the card of a model that starts from it."""
    return [{**entry, "through": entry.get("through", card.name)} for entry in card.training_data]


def seen_pixels(card: ModelCard | EncoderCard, samples: Iterable[Sample]) -> str | None:
    """Return the name of an image that a model was trained on, under any name, or None.

    Copies are recognised by the fingerprints in the card, even after re-encoding or resizing; crops
    of training images are not.
    """
    known = looked_at(card)
    return next((s.name for s in samples if is_copy(s.image, known)), None)


def _seen(card: ModelCard | EncoderCard, data: Collection) -> str | None:
    """Return a held-out patient or data set on which a model was trained or selected, or None.

    Both may use the same validation images: continuing with the same split is not a leak.
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
    else:  # an older card lists only data sets
        names = [n for part in ("validation", "test") for n in data.split.parts.get(part, ())]
        mine = {str(data.sources[int(name.partition(":")[0])]["name"]) for name in names}
        leaked = mine & {str(entry.get("name")) for entry in card.training_data}
    return min(leaked, default=None)

"""Distillation: the target of a crop is between the truth and what finished networks say of it.

A large network, or several, say of a blurred edge how sure one can be; the truth states 0 or 1. The
teachers see the very crop that the pupil sees, after augmentation.

References:
    Hinton et al. 2015, arXiv:1503.02531; Beyer et al. 2022, doi:10.1109/CVPR52688.2022.01065 (the
    same crops for teacher and pupil, and patience).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nucleate.cards import ModelCard
from nucleate.config import Recipe
from nucleate.errors import ConfigError
from nucleate.inference.torch_backend import read_weights
from nucleate.models.card import find_model, read_card
from nucleate.models.families import build
from nucleate.models.network import Network


def teacher_cards(recipe: Recipe) -> list[ModelCard]:
    """Return the cards of the teachers that a recipe names.

    Raises:
        ConfigError: one of them draws none of the recipe's maps, or at another resolution.
        ModelError: there is no such model.
    """
    if recipe.teacher.within_px is not None and "foreground" not in recipe.maps:
        raise ConfigError("teacher.within_px needs the head foreground. Add it, or omit the key.")
    cards = [read_card(find_model(name)) for name in recipe.teacher.models]
    for card in cards:
        if not set(card.heads) & set(recipe.maps):
            raise ConfigError(
                f"teacher.models: {card.name} predicts {', '.join(card.heads)}, but not "
                f"{', '.join(recipe.maps)}. Use another teacher."
            )
        if card.mpp != recipe.data.mpp or card.stain is not None:
            raise ConfigError(
                f"teacher.models: {card.name} sees {card.mpp} um per pixel"
                + (", normalised in stain" if card.stain is not None else "")
                + f"; the crops have {recipe.data.mpp}. Take another teacher."
            )
    return cards


class Teachers:
    """Finished networks that are asked, not trained.

    Args:
        networks: the teachers, in evaluation mode.
        weight: of what they say, 0 to 1; the truth has the rest.
        within_px: distance from true nuclei beyond which the truth alone counts; None: nowhere.
    """

    def __init__(
        self, networks: Sequence[Network], weight: float, within_px: int | None = None
    ) -> None:
        self._networks, self._weight, self._within_px = tuple(networks), weight, within_px

    @classmethod
    def load(cls, recipe: Recipe, device: torch.device) -> Teachers | None:
        """Return the teachers of a recipe, None if it has none."""
        networks = []
        for name, card in zip(recipe.teacher.models, teacher_cards(recipe), strict=True):
            network = build(card.family, card.heads, card.arguments)
            network.load_state_dict(read_weights(find_model(name), card))
            network.requires_grad_(False).eval()
            networks.append(network.to(device).to(memory_format=torch.channels_last))
        how = recipe.teacher
        return cls(networks, how.weight, how.within_px) if networks else None

    @torch.no_grad()
    def blend(self, images: Tensor, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the targets (B, H, W) moved towards the teachers' mean, where they draw them.

        Args:
            images: (B, 3, H, W), 0..255.
            targets: head -> (B, H, W) in 0..1.
        """
        said: dict[str, list[Any]] = {}
        for network in self._networks:
            for head, drawn in network.maps(images).items():
                said.setdefault(head, []).append(drawn)
        weight = torch.full_like(next(iter(targets.values())), self._weight)
        if self._within_px is not None:
            edge = 2 * self._within_px + 1
            near = F.max_pool2d(targets["foreground"][:, None], edge, 1, self._within_px)[:, 0]
            weight *= near > 0
        return {
            head: torch.lerp(truth, torch.stack(said[head]).mean(0).to(truth), weight.to(truth))
            if head in said
            else truth
            for head, truth in targets.items()
        }

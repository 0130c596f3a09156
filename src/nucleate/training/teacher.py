"""Distillation: the targets of a crop are a blend of the ground truth and the teachers' maps.

At a blurred edge, large networks predict the uncertainty, while the ground truth is 0 or 1.
Teachers and student get the same crop, after augmentation.

References:
    Hinton et al. 2015, arXiv:1503.02531; Beyer et al. 2022, doi:10.1109/CVPR52688.2022.01065 (the
    same crops for teacher and student, and patience).
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
    """Return the cards of the teachers of a recipe.

    Raises:
        ConfigError: a teacher predicts none of the recipe's maps, or has another resolution, or
            normalises the stain.
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
                f"teacher.models: {card.name} works at {card.mpp} um per pixel"
                + (" with stain normalisation" if card.stain is not None else "")
                + f"; the crops have {recipe.data.mpp}. Use another teacher."
            )
    return cards


class Teachers:
    """Trained networks whose maps are blended into the targets.

    Args:
        networks: the teachers, in evaluation mode.
        weight: weight of their maps, 0 to 1; the ground truth has the rest.
        within_px: distance from true nuclei within which they count; None: everywhere.
    """

    def __init__(
        self, networks: Sequence[Network], weight: float, within_px: int | None = None
    ) -> None:
        self._networks, self._weight, self._within_px = tuple(networks), weight, within_px

    @classmethod
    def load(cls, recipe: Recipe, device: torch.device) -> Teachers | None:
        """Load the teachers of a recipe; None if it has none."""
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
        """Blend the targets (B, H, W) with the mean of the teachers' maps, for shared heads.

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

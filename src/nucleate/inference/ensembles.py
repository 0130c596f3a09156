"""Backends that average other backends: eight views of one network, or several networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from nucleate.errors import ModelError
from nucleate.inference.backends import Backend, Model
from nucleate.postprocess import require_maps
from nucleate.types import Maps, UInt8


class EightViews:
    """Test-time augmentation: the mean map over four rotations and their mirror images."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.about = f"{backend.about}, mean of 8 views"

    def __call__(self, batch: UInt8) -> Maps:
        """Return head -> float32 (B, H, W) for uint8 (B, H, W, 3)."""
        total: Maps = {}
        for turns in range(4):
            for mirrored in (False, True):
                view = np.rot90(batch[:, :, ::-1] if mirrored else batch, turns, (1, 2))
                for head, m in self._backend(np.ascontiguousarray(view)).items():
                    back = np.rot90(m, -turns, (1, 2))
                    back = back[:, :, ::-1] if mirrored else back
                    total[head] = total[head] + back if head in total else back.copy()
        return {head: np.asarray(m / 8, np.float32) for head, m in total.items()}


class Mean:
    """An ensemble: the mean map over networks with the same heads."""

    def __init__(self, backends: Sequence[Backend]) -> None:
        self._backends = backends
        self.about = f"{backends[0].about}, mean of {len(backends)} networks"

    def __call__(self, batch: UInt8) -> Maps:
        """Return head -> float32 (B, H, W) for uint8 (B, H, W, 3)."""
        found = [backend(batch) for backend in self._backends]
        return {h: np.mean([maps[h] for maps in found], axis=0, dtype=np.float32) for h in found[0]}


def with_tta(model: Model) -> Model:
    """Return a model that averages eight views of every tile, at eight times the cost.

    Raises:
        ModelError: the model returns no maps; nothing else can be averaged.
    """
    _check_maps(model, "--tta")
    return Model(model.card, EightViews(model.backend))


def ensemble(models: Sequence[Model], name: str) -> Model:
    """Return the mean of several models, with the median of their thresholds.

    Raises:
        ModelError: they differ in heads, decoder, resolution, classes or stain, or return no maps.
    """
    for model in models:
        _check_maps(model, name)
    first = models[0].card
    for key in ("heads", "decoder", "mpp", "classes", "stain"):
        other = next((m.card for m in models if getattr(m.card, key) != getattr(first, key)), None)
        if other is not None:
            raise ModelError(
                f"{name}: its networks differ in {key} ({first.name}, {other.name}), so their maps "
                "cannot be averaged. Pass the folder of one of them."
            )
    card = replace(
        first,
        name=name,
        thresholds={k: median(m.card.thresholds[k] for m in models) for k in first.thresholds},
        align_px=int(np.lcm.reduce([m.card.align_px for m in models])),
        halo_px=max(m.card.halo_px for m in models),
        tile_px=min(m.card.tile_px for m in models),
        training_data=[entry for m in models for entry in m.card.training_data],
        metrics={},
        sensitivity={},
        files={
            f"{i + 1}/{k}": digest
            for i, m in enumerate(models)
            for k, digest in m.card.files.items()
        },
        notes=f"Mean of {len(models)} networks.",
    )
    return Model(card, Mean([m.backend for m in models]))


def _check_maps(model: Model, owner: str) -> None:
    card = model.card
    require_maps(card.decoder, f"{owner}: {card.name}", "averaged", "Use it by itself.")

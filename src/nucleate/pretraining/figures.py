"""Figures of a pretraining: progress against chance, nearest neighbours, attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from nucleate.files import atomic
from nucleate.models.network import Network
from nucleate.pages import SERIES
from nucleate.pretraining.corpus import TissueTile, draw_window, shares_of
from nucleate.pretraining.pretext import Pretext, pooled
from nucleate.training.run_folder import RunFolder
from nucleate.types import Float32, UInt8

_PATCH_PX, _PATCHES = 64, 600  # patches among which neighbours are searched
_QUERIES, _NEIGHBOURS = 6, 5
_SHOWN_PX, _SHOWN = 256, 4  # windows for which attention is drawn


def draw_progress(run: RunFolder, pretext: Pretext) -> None:
    """Plot the scores over the steps, with chance level, into progress.png."""
    from matplotlib.figure import Figure  # no pyplot: no global state, no window

    rows = run.numbers()
    figure = Figure(figsize=(4.5 * len(pretext.chance), 3.6), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(pretext.chance)))
    for axes, (name, chance) in zip(panels, pretext.chance.items(), strict=True):
        for part, colour in (("val", SERIES[0]), ("train", "grey")):
            points = [(r["step"], r[f"{part}_{name}"]) for r in rows if f"{part}_{name}" in r]
            if points:
                label = "held-out images" if part == "val" else "training images"
                axes.plot(*zip(*points, strict=True), color=colour, label=label)
        axes.axhline(chance, color=SERIES[1], linestyle="--", label=f"chance {chance:g}")
        axes.set(xlabel="step", title=name.replace("_", " "))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    with atomic(run.path / "progress.png") as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def draw_images(learned: Network, first: Network, tiles: list[TissueTile], folder: Path) -> None:
    """Write neighbours.png and attention.png, which compare the encoder before and after.

    Args:
        learned: the pretrained network.
        first: the same network before the first step.
        tiles: tiles of held-out images.
        folder: output folder.
    """
    rng = np.random.default_rng(0)
    size = min(_PATCH_PX, *(min(tile.image.shape[:2]) for tile in tiles))
    drawn = [draw_window(tiles, shares_of(tiles), size, rng) for _ in range(_PATCHES)]
    owners = np.array([tiles[number].name for number, _ in drawn])
    patches = np.stack([patch for _, patch in drawn])
    columns = [_neighbours(network, patches, owners) for network in (learned, first)]
    _save(folder / "neighbours.png", _beside(columns))
    edge = min(_SHOWN_PX, *(min(tile.image.shape[:2]) for tile in tiles))
    windows = [draw_window(tiles, shares_of(tiles), edge, rng)[1] for _ in range(_SHOWN)]
    shown = [
        np.vstack([w, heat(w, attention(learned, w)), heat(w, attention(first, w))])
        for w in windows
    ]
    _save(folder / "attention.png", np.hstack([_framed(column, 2) for column in shown]))


def attention(network: Network, image: UInt8) -> Float32:
    """Return the attention map of the deepest features: float32 (H, W), 0..1.

    The mean of the squares over the channels, as in Zagoruyko and Komodakis 2017,
    arXiv:1612.03928.

    Args:
        network: network with an encoder.
        image: uint8 (H, W, 3).
    """
    with torch.inference_mode():
        batch = torch.from_numpy(image)[None].permute(0, 3, 1, 2)
        deepest = network.eval().encode(batch)[-1].float()
        strength = deepest.square().mean(1, keepdim=True)
        strength = F.interpolate(strength, image.shape[:2], mode="bilinear")[0, 0]
        low, high = torch.quantile(strength.flatten(), torch.tensor([0.02, 0.98]))
        return np.asarray(((strength - low) / (high - low).clamp_min(1e-9)).clamp(0, 1).numpy())


def heat(image: UInt8, strength: Float32) -> UInt8:
    """Overlay an image with a heat map of 0..1, dark to bright: uint8 (H, W, 3)."""
    coloured = cv2.applyColorMap((strength * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    return np.asarray(cv2.addWeighted(image, 0.45, coloured[..., ::-1].copy(), 0.55, 0), np.uint8)


def nearest_patches(
    vectors: Float32, owners: np.ndarray[Any, Any], queries: int, count: int
) -> np.ndarray[Any, Any]:
    """Return the nearest neighbours of the first patches among patches of other images.

    Args:
        vectors: float32 (n, k).
        owners: (n,), the image of each patch.
        queries: number of leading patches used as queries.
        count: neighbours per query; fewer if there are not enough.

    Returns:
        int64 (queries, count), by descending cosine similarity.

    Example:
        >>> vectors = np.array([[1, 0.1], [1, 0], [0, 1], [1, 0.2]], np.float32)
        >>> nearest_patches(vectors, np.array(["a", "b", "b", "a"]), 1, 2).tolist()
        [[1, 2]]
    """
    centred = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    alike = centred[:queries] @ centred.T
    alike[owners[:queries, None] == owners[None]] = -2  # same image, including the patch itself
    enough = int((alike > -2).sum(1).min(initial=count))
    return np.argsort(-alike, axis=1, kind="stable")[:, : min(count, enough)]


def _neighbours(network: Network, patches: UInt8, owners: np.ndarray[Any, Any]) -> UInt8:
    """Draw rows of a patch and its nearest neighbours."""
    with torch.inference_mode():
        parts = [
            pooled(network.eval(), torch.from_numpy(patches[i : i + 64]), 1)
            for i in range(0, len(patches), 64)
        ]
    vectors = torch.cat(parts).float().numpy()
    found = nearest_patches(vectors - vectors.mean(0), owners, _QUERIES, _NEIGHBOURS)
    gap = np.full((patches.shape[1] + 4, 8, 3), 255, np.uint8)
    rows = [
        np.hstack([_framed(patches[q], 2), gap, *(_framed(patches[n], 2) for n in near)])
        for q, near in enumerate(found)
    ]
    return np.vstack(rows)


def _framed(image: UInt8, px: int) -> UInt8:
    return np.pad(image, ((px, px), (px, px), (0, 0)), constant_values=255)


def _beside(columns: list[UInt8]) -> UInt8:
    return np.hstack([_framed(column, 8) for column in columns])


def _save(path: Path, image: UInt8) -> None:
    with atomic(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", image[..., ::-1])[1].tobytes())

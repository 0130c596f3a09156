"""Predict the relative position of two patches: Doersch's task, as in Medical_segmentation.

    ┌───┐ ┌───┐ ┌───┐     gaps of up to `gap_px` separate the patches, and each is shifted by up
    │ 0 │ │ 1 │ │ 2 │     to `jitter_px`, so that no edge continues from one into another
    └───┘ └───┘ └───┘
    ┌───┐ ┌───┐ ┌───┐     two patches ─► one encoder ─► two vectors ─► joined ─► 8 classes
    │ 3 │ │ ∙ │ │ 4 │
    └───┘ └───┘ └───┘     against shortcuts, for each patch separately: stain and light jitter,
    ┌───┐ ┌───┐ ┌───┐     two of three channels replaced by noise, coarse resampling
    │ 5 │ │ 6 │ │ 7 │
    └───┘ └───┘ └───┘

The nine patches of a window give sixteen pairs: the middle patch with each neighbour, in both
orders. So a step learns from many more pairs than with single pairs, at half the cost.

The task is hard in tissue: with only the full gap, a small network stays at chance for thousands
of steps. With gaps drawn from 0 on, it learns from narrow gaps first. Validation uses the full gap.

References:
    Doersch, Gupta and Efros 2015, doi:10.1109/ICCV.2015.167.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from nucleate.augment import colours
from nucleate.config import AugmentConfig
from nucleate.errors import ConfigError
from nucleate.models.network import Network
from nucleate.pretraining.pretext import Pretext, Score, deepest_shape, pooled, right
from nucleate.types import UInt8

_MIDDLE = 4  # index of the middle one of nine patches, row by row
_AROUND = (0, 1, 2, 3, 5, 6, 7, 8)
# indices of the first and second patch, and position of the second relative to the first
PAIRS = (
    (*(_MIDDLE,) * 8, *_AROUND),
    (*_AROUND, *(_MIDDLE,) * 8),
    (*range(8), *reversed(range(8))),
)


class RelativePosition(Pretext):
    """Predict which of eight neighbours the other patch is.

    Args:
        network: network whose encoder is trained.
        patch_px: edge of a patch; at least half of a nucleus' surroundings.
        gap_px: gap between the patches of the grid, in pixels.
        narrower: whether training gaps vary from 0 to `gap_px`; Medical_segmentation has a fixed
            gap.
        jitter_px: maximum shift of each patch in both directions; at most half of the gap.
        width: width of the joined vectors ("fc6" in the paper).
        cells: the features of a patch are pooled to cells × cells; 1 in Medical_segmentation.
        stain: strength of stain jitter, per patch; 0 for none.
        drop: probability that a patch keeps only one of its channels.
        coarse: probability that a patch is shrunk to as few as `fewest_px` pixels and enlarged.
        fewest_px: total number of pixels of the coarsest patch.

    Raises:
        ConfigError: patches would overlap, or a number is out of range.

    Example:
        >>> from nucleate.models.families import build
        >>> network = build("unet", ["foreground"], {"widths": (8, 16)})
        >>> task = RelativePosition(network, patch_px=32, gap_px=8, jitter_px=2, width=16)
        >>> task.window_px  # 3 patches, 2 gaps, the shift at both ends
        116
        >>> window = np.full((116, 116, 3), 200, np.uint8)
        >>> task.views(window, np.random.default_rng(1))["patches"].shape
        (9, 32, 32, 3)
    """

    score = "accuracy"

    def __init__(
        self,
        network: Network,
        patch_px: int = 64,
        gap_px: int = 16,
        narrower: bool = True,
        jitter_px: int = 7,
        width: int = 512,
        cells: int = 2,
        stain: float = 0.3,
        drop: float = 0.3,
        coarse: float = 0.3,
        fewest_px: int = 100,
    ) -> None:
        super().__init__()
        if min(patch_px, width, cells) < 1 or min(gap_px, jitter_px) < 0 or patch_px < 16:
            raise ConfigError(
                "relative_position: patch_px must be at least 16, width and cells at least 1, "
                "gap_px and jitter_px at least 0."
            )
        if 2 * jitter_px > gap_px:
            raise ConfigError(
                f"relative_position: two patches shifted by {jitter_px} overlap if the gap is "
                f"{gap_px}. Set gap_px to at least twice jitter_px."
            )
        if not (0 <= stain < 1 and 0 <= drop <= 1 and 0 <= coarse <= 1):
            raise ConfigError("relative_position: stain, drop and coarse must be between 0 and 1.")
        if not 1 <= fewest_px <= patch_px**2:
            raise ConfigError(
                "relative_position: fewest_px must be between 1 and patch_px squared."
            )
        self.chance = {"accuracy": 1 / 8}
        self.network = network
        self.patch_px, self.gap_px, self.jitter_px, self.cells = patch_px, gap_px, jitter_px, cells
        self.narrower = narrower
        self.drop, self.coarse, self.fewest_px = drop, coarse, fewest_px
        self.light = AugmentConfig(stain=stain)
        self.window_px = 3 * patch_px + 2 * gap_px + 2 * jitter_px
        entering = deepest_shape(network, patch_px)[0] * cells**2
        self.each = nn.Sequential(nn.Linear(entering, width), nn.ReLU(), nn.BatchNorm1d(width))
        self.joined = nn.Sequential(
            nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, 8),
        )  # fmt: skip

    def views(self, window: UInt8, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Return `patches`, uint8 (9, patch, patch, 3), row by row."""
        gap = int(rng.integers(self.gap_px + 1)) if self.narrower else self.gap_px
        return self._patches(window, gap, rng)

    def exam(self, window: UInt8, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Return `patches` with the full gap."""
        return self._patches(window, self.gap_px, rng)

    def forward(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Score]]:
        """Return the cross-entropy and the accuracy over the pairs of all windows."""
        patches = batch["patches"]
        vectors = self.each(pooled(self.network, patches.flatten(0, 1), self.cells))
        vectors = vectors.reshape(len(patches), 9, -1)
        first, second, place = (torch.tensor(part, device=patches.device) for part in PAIRS)
        joined = torch.cat([vectors[:, first], vectors[:, second]], -1)
        logits = self.joined(joined).float().flatten(0, 1)
        truth = place.repeat(len(patches))
        score = right(logits.argmax(1), truth)
        return {"place": F.cross_entropy(logits, truth)}, {"accuracy": score}

    def _patches(
        self, window: UInt8, gap: int, rng: np.random.Generator
    ) -> dict[str, NDArray[Any]]:
        """Return the patches of a grid with a gap, at a random position in the window."""
        size = self.patch_px
        jitter = min(self.jitter_px, gap // 2)
        grid = 3 * size + 2 * gap
        top, left = rng.integers(jitter, self.window_px - grid - jitter + 1, 2)
        patches = []
        for row in range(3):
            for column in range(3):
                shift = rng.integers(-jitter, jitter + 1, 2)
                y = top + row * (size + gap) + shift[0]
                x = left + column * (size + gap) + shift[1]
                patches.append(self._as_seen(window[y : y + size, x : x + size], rng))
        return {"patches": np.stack(patches)}

    def _as_seen(self, patch: UInt8, rng: np.random.Generator) -> UInt8:
        """Return an augmented patch: stain and light, resolution, channels."""
        patch = colours(np.ascontiguousarray(patch), self.light, rng)
        if rng.random() < self.coarse:
            patch = coarsened(patch, self.fewest_px, rng)
        if rng.random() < self.drop:
            patch = one_colour(patch, rng)
        return patch


def one_colour(patch: UInt8, rng: np.random.Generator) -> UInt8:
    """Return a patch with one channel kept and the others replaced by faint noise about their mean.

    The noise has a hundredth of the spread of the kept channel, as in Doersch et al.
    """
    kept = int(rng.integers(3))
    spread = max(float(patch[..., kept].std()) / 100, 0.5)
    noise = patch.reshape(-1, 3).mean(0) + rng.normal(0, spread, patch.shape)
    found = np.clip(np.rint(noise), 0, 255).astype(np.uint8)
    found[..., kept] = patch[..., kept]
    return np.asarray(found, np.uint8)


def coarsened(patch: UInt8, fewest_px: int, rng: np.random.Generator) -> UInt8:
    """Return a patch shrunk to between `fewest_px` and all of its pixels, then enlarged again."""
    edge = patch.shape[0]
    small = round(float(np.exp(rng.uniform(np.log(fewest_px**0.5), np.log(edge)))))
    shrunk = cv2.resize(patch, (max(1, small), max(1, small)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (edge, edge), interpolation=cv2.INTER_LINEAR), np.uint8)

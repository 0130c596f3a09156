"""What a network is punished for: one function per term, weighted in the recipe.

Every term has the shape (logits, target, weight) -> scalar, all of shape (B, H, W); `weight` is
0 on ignored pixels. Adding a loss: write its function, add a row to `LOSSES`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from nucleate.config import HeadConfig
from nucleate.errors import pick


def bce(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean binary cross-entropy of logits.

    Example:
        >>> zero = torch.zeros(1, 1, 1)
        >>> round(float(bce(zero, zero, zero + 1)), 4)  # -log(1 / 2)
        0.6931
    """
    per_pixel = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return _mean(per_pixel, weight)


def dice(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return 1 - soft Dice, per picture, averaged over the batch; smoothed by one pixel.

    References:
        Milletari et al. 2016, V-Net, doi:10.1109/3DV.2016.79 (there with squares; here without).

    Example:
        >>> one = torch.ones(1, 1, 1)
        >>> round(float(dice(20 * one, one, one)), 4)
        0.0
    """
    probability = torch.sigmoid(logits)
    overlap = (weight * probability * target).sum((1, 2))
    total = (weight * (probability + target)).sum((1, 2))
    return (1 - (2 * overlap + 1) / (total + 1)).mean()


def mse(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean squared error of the sigmoid of logits.

    Example:
        >>> one = torch.ones(1, 1, 1)
        >>> float(mse(0 * one, one, one))
        0.25
    """
    return _mean((torch.sigmoid(logits) - target) ** 2, weight)


def smooth_l1(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean smooth L1 (Huber, beta 0.1) of the sigmoid of logits.

    References:
        Girshick 2015, Fast R-CNN, doi:10.1109/ICCV.2015.169.

    Example:
        >>> one = torch.ones(1, 1, 1)
        >>> round(float(smooth_l1(0 * one, one, one)), 4)
        0.45
    """
    per_pixel = F.smooth_l1_loss(torch.sigmoid(logits), target, reduction="none", beta=0.1)
    return _mean(per_pixel, weight)


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "bce": bce,
    "dice": dice,
    "mse": mse,
    "smooth_l1": smooth_l1,
}


def total_loss(
    logits: dict[str, Tensor],
    targets: dict[str, Tensor],
    ignore: Tensor,
    heads: dict[str, HeadConfig],
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weighted sum of all terms of all heads, and each weighted term by itself.

    Args:
        logits: head -> (B, H, W).
        targets: head -> (B, H, W) in 0..1.
        ignore: bool (B, H, W), True where nothing counts.
        heads: the recipe's losses and weights.

    Raises:
        ConfigError: a loss does not exist.
    """
    parts: dict[str, Tensor] = {}
    valid = (~ignore).float()
    for head, config in heads.items():
        scores, truth = logits[head].float(), targets[head].float()
        inside = (truth > 0).float()
        weight = valid * (inside + config.background * (1 - inside))
        for name, factor in config.loss.items():
            parts[f"{head}/{name}"] = factor * pick(LOSSES, name, "loss")(scores, truth, weight)
    return torch.stack(list(parts.values())).sum(), parts


def _mean(per_pixel: Tensor, weight: Tensor) -> Tensor:
    return (per_pixel * weight).sum() / weight.sum().clamp(min=1)

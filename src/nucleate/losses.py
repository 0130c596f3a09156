"""Loss functions: one per term, weighted in the recipe.

Every term maps (logits, target, weight), each of shape (B, H, W), to a scalar; `weight` is 0 on
ignored pixels. The total is the weighted sum over terms and heads; with `Uncertainty`, the weights
of the heads are learned. To add a loss, write its function and add a row to `LOSSES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nucleate.config import HeadConfig
from nucleate.errors import pick


def bce(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Compute the weighted mean binary cross-entropy.

    Example:
        >>> zero = torch.zeros(1, 1, 1)
        >>> round(float(bce(zero, zero, zero + 1)), 4)  # -log(1 / 2)
        0.6931
    """
    per_pixel = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return _mean(per_pixel, weight)


def focal(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Compute the weighted mean focal loss (gamma 2, no class balancing): easy pixels count less.

    References:
        Lin et al. 2017, doi:10.1109/ICCV.2017.324. An alpha that is applied to both classes, as in
        Nuclei-Segmentation, only scales the loss: set the term's weight in the recipe instead.

    Example:
        >>> zero = torch.zeros(1, 1, 1)
        >>> round(float(focal(zero, zero, zero + 1)), 4)  # (1 / 2)² · -log(1 / 2)
        0.1733
    """
    per_pixel = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    # |probability - target|: for a target of 0 or 1, one minus the probability of the true class
    missed = (torch.sigmoid(logits) - target).abs()
    return _mean(missed**2 * per_pixel, weight)


def dice(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Compute 1 - soft Dice per image, averaged over the batch, smoothed by one pixel.

    References:
        Milletari et al. 2016, V-Net, doi:10.1109/3DV.2016.79 (there with squares, here without).

    Example:
        >>> one = torch.ones(1, 1, 1)
        >>> round(float(dice(20 * one, one, one)), 4)
        0.0
    """
    probability = torch.sigmoid(logits)
    overlap = (weight * probability * target).sum((1, 2))
    total = (weight * (probability + target)).sum((1, 2))
    return (1 - (2 * overlap + 1) / (total + 1)).mean()


def dice_pooled(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Compute 1 - soft Dice over all pixels of the batch, as Nuclei-Segmentation does.

    Example:
        >>> one = torch.ones(1, 1, 1)
        >>> round(float(dice_pooled(0 * one, one, one)), 4)  # 1 - 2 · 0.5 / 1.5
        0.3333
    """
    probability = torch.sigmoid(logits)
    overlap = (weight * probability * target).sum()
    total = (weight * (probability + target)).sum()
    return 1 - (2 * overlap + 1e-6) / (total + 1e-6)


def tversky(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Compute 1 - Tversky index per image; false negatives weigh 0.7, false positives 0.3.

    References:
        Salehi et al. 2017, doi:10.1007/978-3-319-67389-9_44.

    Example:
        >>> one = torch.ones(1, 1, 1)  # half a pixel found, half missed: (0.5 + 1) / (0.85 + 1)
        >>> round(float(tversky(0 * one, one, one)), 4)
        0.1892
    """
    probability = torch.sigmoid(logits)
    found = (weight * probability * target).sum((1, 2))
    missed = (weight * (1 - probability) * target).sum((1, 2))
    false = (weight * probability * (1 - target)).sum((1, 2))
    return (1 - (found + 1) / (found + 0.7 * missed + 0.3 * false + 1)).mean()


def lovasz(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Compute the Lovász hinge per image, a convex bound of 1 - IoU, without ignored pixels.

    References:
        Berman et al. 2018, doi:10.1109/CVPR.2018.00464 (algorithm 1).

    Example:
        >>> row = torch.tensor([[[0.0, -2.0]]])  # one pixel on the border, one right: hinge 1 of 1
        >>> float(lovasz(row, torch.tensor([[[1.0, 0.0]]]), torch.ones(1, 1, 2)))
        1.0
    """
    return torch.stack(
        [
            _lovasz_hinge(scores[counts > 0], truth[counts > 0] > 0.5)
            for scores, truth, counts in zip(logits, target, weight, strict=True)
        ]
    ).mean()


def _lovasz_hinge(logits: Tensor, truth: Tensor) -> Tensor:
    """Compute the Lovász hinge of the pixels of one image, (n,) each."""
    if not len(logits):
        return logits.sum()
    sign = 2 * truth.to(logits.dtype) - 1
    errors, order = torch.sort(1 - logits * sign, descending=True)
    true = truth[order].to(logits.dtype)
    shared = true.sum() - true.cumsum(0)
    union = true.sum() + (1 - true).cumsum(0)
    jaccard = 1 - shared / union
    gain = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    return torch.dot(F.relu(errors), gain)


def mse(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Compute the weighted mean squared error of the sigmoid of the logits.

    Example:
        >>> one = torch.ones(1, 1, 1)
        >>> float(mse(0 * one, one, one))
        0.25
    """
    return _mean((torch.sigmoid(logits) - target) ** 2, weight)


def smooth_l1(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Compute the weighted mean smooth L1 (Huber, beta 0.1) of the sigmoid of the logits.

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
    "focal": focal,
    "dice": dice,
    "dice_pooled": dice_pooled,
    "tversky": tversky,
    "lovasz": lovasz,
    "mse": mse,
    "smooth_l1": smooth_l1,
}


# head -> losses that the network computes itself, here on its proposed boxes
OWN_LOSSES = {"instances": ("objectness", "proposal", "classifier", "box", "mask")}


class Uncertainty(nn.Module):
    """Learned weights of the heads: exp(-s) · loss + s for each head.

    References:
        Kendall et al. 2018, doi:10.1109/CVPR.2018.00781 (equation 10, factors absorbed in s).

    Example:
        >>> weighing = Uncertainty(["foreground"])
        >>> float(weighing("foreground", torch.tensor(0.5)).detach())
        0.5
    """

    def __init__(self, heads: Iterable[str]) -> None:
        super().__init__()
        self.log_variance = nn.ParameterDict({h: nn.Parameter(torch.zeros(())) for h in heads})

    def forward(self, head: str, loss: Tensor) -> Tensor:
        """Return the weighted loss of a head."""
        s: Tensor = self.log_variance[head]
        return torch.exp(-s) * loss + s


def total_loss(
    logits: dict[str, Tensor],
    targets: dict[str, Tensor],
    ignore: Tensor,
    heads: dict[str, HeadConfig],
    weighing: Uncertainty | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weighted sum of all terms of all heads, and each weighted term.

    Args:
        logits: head -> (B, H, W).
        targets: head -> (B, H, W) in 0..1.
        ignore: bool (B, H, W), True on pixels that are excluded.
        heads: losses and weights from the recipe.
        weighing: learned weights of the heads; None uses the recipe's weights alone.

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
    if weighing is None:
        return torch.stack(list(parts.values())).sum(), parts
    sums = [
        weighing(head, torch.stack([v for k, v in parts.items() if k.startswith(f"{head}/")]).sum())
        for head in heads
    ]
    return torch.stack(sums).sum(), parts


def _mean(per_pixel: Tensor, weight: Tensor) -> Tensor:
    return (per_pixel * weight).sum() / weight.sum().clamp(min=1)

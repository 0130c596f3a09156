import numpy as np
import pytest
import torch

from nucleate.config import HeadConfig
from nucleate.losses import LOSSES, Uncertainty, total_loss

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 2, (2, 5, 6))
TARGET = (RNG.random((2, 5, 6)) > 0.5).astype(float)
WEIGHT = (RNG.random((2, 5, 6)) > 0.3).astype(float)
P = 1 / (1 + np.exp(-LOGITS))


def _expected(name):
    if name == "dice":
        overlap = (WEIGHT * P * TARGET).sum((1, 2))
        total = (WEIGHT * (P + TARGET)).sum((1, 2))
        return (1 - (2 * overlap + 1) / (total + 1)).mean()
    if name == "dice_pooled":
        overlap, total = (WEIGHT * P * TARGET).sum(), (WEIGHT * (P + TARGET)).sum()
        return 1 - (2 * overlap + 1e-6) / (total + 1e-6)
    if name == "tversky":
        found = (WEIGHT * P * TARGET).sum((1, 2))
        missed = (WEIGHT * (1 - P) * TARGET).sum((1, 2))
        false = (WEIGHT * P * (1 - TARGET)).sum((1, 2))
        return (1 - (found + 1) / (found + 0.7 * missed + 0.3 * false + 1)).mean()
    if name == "lovasz":
        return np.mean([_lovasz(*row) for row in zip(LOGITS, TARGET, WEIGHT, strict=True)])
    apart = np.abs(P - TARGET)
    cross_entropy = -(TARGET * np.log(P) + (1 - TARGET) * np.log(1 - P))
    per_pixel = {
        "focal": apart**2 * cross_entropy,
        "bce": cross_entropy,
        "mse": apart**2,
        "smooth_l1": np.where(apart < 0.1, apart**2 / 0.2, apart - 0.05),
    }[name]
    return (per_pixel * WEIGHT).sum() / WEIGHT.sum()


def _lovasz(logits, target, weight):
    """The Lovász extension of 1 - IoU by its definition: a sum over the sorted errors."""
    logits, target = logits[weight > 0], target[weight > 0]
    errors = np.maximum(0, 1 - logits * (2 * target - 1))
    order = np.argsort(-(1 - logits * (2 * target - 1)), kind="stable")

    def jaccard_loss(wrong):
        """1 - IoU when the pixels `wrong` are predicted wrongly and all others rightly."""
        pred = target.astype(bool).copy()
        pred[wrong] = ~pred[wrong]
        return 1 - (pred & (target > 0)).sum() / (pred | (target > 0)).sum()

    losses = [0.0] + [jaccard_loss(order[: i + 1]) for i in range(len(order))]
    return sum(errors[k] * (losses[i + 1] - losses[i]) for i, k in enumerate(order))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_loss_agrees_with_its_formula(name):
    tensors = [torch.from_numpy(a) for a in (LOGITS, TARGET, WEIGHT)]
    assert float(LOSSES[name](*tensors)) == pytest.approx(_expected(name))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_loss_is_small_for_the_truth_and_large_for_its_opposite(name):
    target = torch.from_numpy(TARGET)
    one = torch.ones_like(target)
    right = LOSSES[name](40 * target - 20, target, one)
    wrong = LOSSES[name](20 - 40 * target, target, one)
    assert float(right) < 1e-3 < 0.4 < float(wrong)


def test_ignored_pixels_have_no_gradient_and_background_is_weighted():
    heads = {"distance": HeadConfig(loss={"mse": 2.0}, background=0.25)}
    logits = torch.zeros(1, 1, 3, requires_grad=True)
    target = torch.tensor([[[1.0, 0.0, 1.0]]])
    ignore = torch.tensor([[[False, False, True]]])
    loss, parts = total_loss({"distance": logits}, {"distance": target}, ignore, heads)
    # two pixels count, with weights 1 and 0.25; each has the error 0.25
    assert float(loss.detach()) == pytest.approx(2 * 0.25)
    assert list(parts) == ["distance/mse"]
    loss.backward()
    assert logits.grad[0, 0, 2] == 0
    assert abs(logits.grad[0, 0, 0]) == pytest.approx(4 * abs(float(logits.grad[0, 0, 1])))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_pixels_that_do_not_count_change_nothing(name):
    logits, target, weight = (torch.from_numpy(a.copy()) for a in (LOGITS, TARGET, WEIGHT))
    before = LOSSES[name](logits, target, weight)
    logits[weight == 0] = 7.0
    target[weight == 0] = 1.0
    assert float(LOSSES[name](logits, target, weight)) == pytest.approx(float(before))
    logits.requires_grad_()
    LOSSES[name](logits, target, 0 * weight).backward()
    assert torch.isfinite(logits.grad).all()


def test_learned_weights_start_at_one_and_follow_the_losses():
    heads = {"foreground": HeadConfig(loss={"bce": 1.0}), "distance": HeadConfig(loss={"mse": 1.0})}
    logits = {h: torch.zeros(1, 4, 4) for h in heads}
    targets = {h: torch.ones(1, 4, 4) for h in heads}
    ignore = torch.zeros(1, 4, 4, dtype=torch.bool)
    weighing = Uncertainty(heads)
    plain, parts = total_loss(logits, targets, ignore, heads)
    weighted, _ = total_loss(logits, targets, ignore, heads, weighing)
    assert float(weighted.detach()) == pytest.approx(float(plain))
    weighted.backward()
    for head, part in zip(heads, parts.values(), strict=True):
        # d/ds of exp(-s) loss + s at s = 0
        assert float(weighing.log_variance[head].grad.detach()) == pytest.approx(1 - float(part))

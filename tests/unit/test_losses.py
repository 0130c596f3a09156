import numpy as np
import pytest
import torch

from nucleate.config import HeadConfig
from nucleate.losses import LOSSES, total_loss

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
    apart = np.abs(P - TARGET)
    per_pixel = {
        "bce": -(TARGET * np.log(P) + (1 - TARGET) * np.log(1 - P)),
        "mse": apart**2,
        "smooth_l1": np.where(apart < 0.1, apart**2 / 0.2, apart - 0.05),
    }[name]
    return (per_pixel * WEIGHT).sum() / WEIGHT.sum()


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

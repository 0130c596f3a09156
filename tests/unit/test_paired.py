"""Paired comparison: against scipy's permutation test, and by hand."""

import numpy as np
import pytest

from nucleate.errors import InputError
from nucleate.metrics.paired import paired


def _named(values):
    return {f"p{i}": float(v) for i, v in enumerate(values)}


@pytest.mark.parametrize("n", [5, 10, 40])
def test_p_is_that_of_scipy(n):
    from scipy.stats import permutation_test

    rng = np.random.default_rng(n)
    a = rng.normal(0.6, 0.1, n)
    b = a + rng.normal(0.03, 0.05, n)
    expected = permutation_test(
        (b, a), lambda x, y, axis: np.mean(x - y, axis=axis), vectorized=True,
        permutation_type="samples", n_resamples=20_000, rng=1,
    ).pvalue  # fmt: skip
    found = paired(_named(a), _named(b))
    assert found.p == pytest.approx(expected, abs=0 if n <= 13 else 0.015)
    assert found.difference == pytest.approx((b - a).mean())
    assert found.low < found.difference < found.high


def test_no_difference_is_no_evidence():
    found = paired(_named([0.5, 0.6]), _named([0.5, 0.6]))
    assert (found.difference, found.p) == (0, 1)


def test_what_is_not_defined_is_left_out():
    found = paired(_named([0.5, np.nan, 0.1]), _named([0.6, 0.9, 0.3]))
    assert found.n == 2
    assert found.difference == pytest.approx(0.15)


def test_other_pictures_are_refused():
    with pytest.raises(InputError, match="q: is in one of the two"):
        paired({"q": 1.0}, {})
    with pytest.raises(InputError, match="No picture"):
        paired({"q": np.nan}, {"q": 1.0})


def test_pictures_of_one_slide_are_drawn_together():
    """31 slides shift their 21 tiles each: no true difference, so rarely an alarm."""
    rng = np.random.default_rng(1)
    owners = np.repeat(np.arange(31), 21)
    covered = alarms = 0
    for _ in range(60):
        change = rng.normal(0, 1, 31)[owners] + rng.normal(0, 1, 31 * 21)
        names = [f"t{i}" for i in range(len(change))]
        zero = dict.fromkeys(names, 0.0)
        other = dict(zip(names, change.tolist(), strict=True))
        found = paired(zero, other, dict(zip(names, map(str, owners), strict=True)))
        covered += found.low <= 0 <= found.high
        alarms += found.p < 0.05
    assert covered >= 50
    assert alarms <= 8
    assert paired(zero, other).high - paired(zero, other).low < (found.high - found.low) / 2


def test_means_over_groups_by_hand():
    from nucleate.metrics.paired import resampled_means

    means = set(resampled_means(np.array([0.0, 1.0, 1.0]), ["a", "b", "b"]).round(6).tolist())
    assert means == {0.0, 0.666667, 1.0}

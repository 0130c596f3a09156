"""Paired comparison: against scipy's permutation test, and by hand."""

import numpy as np
import pytest

from nucleate.errors import InputError
from nucleate.evaluation.compare import paired, paired_over_seeds
from tests.errors import says


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


def test_other_images_are_refused():
    with pytest.raises(InputError, match=says("q:", "one of the two")):
        paired({"q": 1.0}, {})
    with pytest.raises(InputError, match="No image"):
        paired({"q": np.nan}, {"q": 1.0})


def test_images_of_one_slide_are_drawn_together():
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
    from nucleate.evaluation.compare import resampled_means

    means = set(resampled_means(np.array([0.0, 1.0, 1.0]), ["a", "b", "b"]).round(6).tolist())
    assert means == {0.0, 0.666667, 1.0}


def _seeds(changes, noise=0.0, images=12, seed=0):
    """One pair of systems per change, which the second gains on every image, give or take."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(0.4, 0.6, images)
    return [
        (_named(base), _named(base + change + rng.normal(0, noise, images))) for change in changes
    ]


def test_over_seeds_means_are_of_all_seeds_and_images():
    runs = _seeds([0.1, 0.2, 0.3])
    found = paired_over_seeds(runs, {name: name for name in runs[0][0]})
    assert found.difference == pytest.approx(0.2)
    assert found.b - found.a == pytest.approx(0.2)
    assert found.n == 12
    # all 27 draws of three seeds are between the least and the most of them
    assert (found.low, found.high) == (pytest.approx(0.1), pytest.approx(0.3))


def test_over_seeds_the_interval_knows_of_seeds_and_of_patients():
    runs = _seeds([0.1, 0.1, 0.1], noise=0.05)
    alone = {name: name for name in runs[0][0]}
    in_pairs = {name: str(i // 2) for i, name in enumerate(runs[0][0])}
    narrow = paired_over_seeds(runs, alone)
    wide = paired_over_seeds(_seeds([0.0, 0.1, 0.2], noise=0.05), alone)
    assert narrow.low < 0.1 < narrow.high
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    one = paired_over_seeds(runs[:1], in_pairs)
    assert (one.low, one.high) == pytest.approx(
        (paired(*runs[0], in_pairs).low, paired(*runs[0], in_pairs).high), abs=0.003
    )


def test_over_seeds_images_without_a_value_are_left_out_of_all():
    runs = _seeds([0.1, 0.2])
    name = next(iter(runs[0][0]))
    runs[1][1][name] = float("nan")
    found = paired_over_seeds(runs, {n: n for n in runs[0][0]})
    assert found.n == 11
    with pytest.raises(InputError, match=says("one of the two")):
        paired_over_seeds([runs[0], ({"q": 1.0}, {"q": 1.0})], {"q": "q"})
    with pytest.raises(InputError, match=says("has a value")):
        paired_over_seeds([({"q": np.nan}, {"q": 1.0})], {"q": "q"})

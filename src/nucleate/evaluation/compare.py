"""Two systems on the same images: the difference, its interval, and could it be chance?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from nucleate.errors import InputError
from nucleate.types import Float64

_DRAWS = 10_000
_EXACT = 13  # up to this many images all 2**n signs are tried


@dataclass(frozen=True, slots=True)
class Paired:
    """The mean difference b - a of a metric over images that both have.

    Attributes:
        n: images.
        a: mean of the first system.
        b: mean of the second system.
        difference: b - a.
        low: of the 95 % percentile bootstrap interval of the difference.
        high: of the same.
        p: two-sided, of the paired permutation test.
    """

    n: int
    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float


def paired(
    a: dict[str, float], b: dict[str, float], groups: dict[str, str] | None = None
) -> Paired:
    """Compare two systems image by image.

    The permutation test asks how often the mean difference would be as large if for each patient
    or slide a coin decided which system gave which values (exact up to 13 of them, else 10,000
    draws). Images of one patient or slide are drawn and flipped together.

    Args:
        a: name of an image -> value of the first system; NaN is left out.
        b: of the second.
        groups: name of an image -> patient or slide; None: each is its own.

    Raises:
        InputError: the images are not the same, or none has both values.

    References:
        Fisher 1935, The Design of Experiments, section 21 (the test); Efron 1979,
        doi:10.1214/aos/1176344552 (the bootstrap).

    Example:
        >>> paired({"x": 0.5, "y": 0.6}, {"x": 0.6, "y": 0.7}).p  # 2 of the 4 signs are as far off
        0.5
    """
    alone = sorted(a.keys() ^ b.keys())
    if alone:
        raise InputError(
            f"{alone[0]}: is missing from one of the two results (and {len(alone) - 1} more). "
            "Compare results on the same images."
        )
    names = [k for k in sorted(a) if not (math.isnan(a[k]) or math.isnan(b[k]))]
    if not names:
        raise InputError("No image has a value in both results. Compare another metric.")
    both = np.array([(a[k], b[k]) for k in names])
    owners = names if groups is None else [groups[k] for k in names]
    change = both[:, 1] - both[:, 0]
    low, high = np.percentile(resampled_means(change, owners), [2.5, 97.5])
    first, second = both.mean(0)
    return Paired(
        len(change), float(first), float(second), float(change.mean()), float(low), float(high),
        _permutation_p(change, owners),
    )  # fmt: skip


def paired_over_seeds(
    runs: Sequence[tuple[dict[str, float], dict[str, float]]], groups: dict[str, str]
) -> Paired:
    """Compare two systems that were trained several times, by pairs of one seed.

    Values are averaged over seeds, then compared image by image as in `paired`; but the
    interval draws seeds as well as patients, so that it speaks of other trainings too. With few
    seeds such an interval is still rather too narrow. There is no p: one of images alone would
    say nothing of other seeds.

    Args:
        runs: per seed, name of an image -> value of the first and of the second system.
        groups: name of an image -> patient or slide.

    Raises:
        InputError: the images are not the same, or none has all values.

    References:
        Davison and Hinkley 1997, doi:10.1017/CBO9780511802843, section 3.8 (drawing at two levels).

    Example:
        >>> runs = [({"x": 0.5, "y": 0.6}, {"x": 0.6, "y": 0.7})] * 2
        >>> round(paired_over_seeds(runs, {"x": "x", "y": "y"}).difference, 3)
        0.1
    """
    for a, b in runs[1:]:
        paired(runs[0][0], a, groups), paired(runs[0][1], b, groups)  # the same images
    names = [k for k in runs[0][0] if not any(math.isnan(v[k]) for run in runs for v in run)]
    means = [{k: sum(run[i][k] for run in runs) / len(runs) for k in names} for i in (0, 1)]
    whole = paired(means[0], means[1], groups)
    change = np.array([[b[k] - a[k] for k in names] for a, b in runs])  # (seeds, images)
    owners = [groups[k] for k in names]
    parts = [_per_group(row, owners) for row in change]
    sums, sizes = np.stack([s for s, _ in parts]), parts[0][1]
    rng = np.random.default_rng(0)
    seeds = rng.integers(0, len(runs), (_DRAWS, len(runs), 1))
    drawn = rng.integers(0, len(sizes), (_DRAWS, 1, len(sizes)))
    draws = sums[seeds, drawn].sum((1, 2)) / (len(runs) * sizes[drawn].sum((1, 2)))
    low, high = np.percentile(draws, [2.5, 97.5])
    return replace(whole, low=float(low), high=float(high), p=math.nan)


def resampled_means(values: Float64, owners: Sequence[str]) -> Float64:
    """Return the means of 10,000 bootstrap samples, in which whole groups are drawn.

    Args:
        values: float64 (n,).
        owners: the group of each.

    Example:
        >>> sorted(set(resampled_means(np.array([0.0, 0.0, 1.0]), ["a", "a", "b"]).tolist()))
        [0.0, 0.3333333333333333, 1.0]
    """
    sums, sizes = _per_group(values, owners)
    drawn = np.random.default_rng(0).integers(0, len(sums), (_DRAWS, len(sums)))
    return np.asarray(sums[drawn].sum(1) / sizes[drawn].sum(1))


def _permutation_p(change: Float64, owners: Sequence[str]) -> float:
    """Return how often random signs of the groups give as large a mean as the one observed."""
    sums, _ = _per_group(change, owners)
    if len(sums) <= _EXACT:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(sums))))
        extra = 0  # the observed signs are among them
    else:
        signs = np.random.default_rng(0).choice((-1.0, 1.0), (_DRAWS, len(sums)))
        extra = 1  # the observed signs count as one draw
    as_far = np.abs(signs @ sums) >= abs(sums.sum()) - 1e-12 * len(change)
    return (int(as_far.sum()) + extra) / (len(signs) + extra)


def _per_group(values: Float64, owners: Sequence[str]) -> tuple[Float64, Float64]:
    """Return sum and number of the values of each group, in the order of first appearance."""
    order = {owner: i for i, owner in enumerate(dict.fromkeys(owners))}
    index = np.array([order[owner] for owner in owners])
    sums = np.asarray(np.bincount(index, weights=values), np.float64)
    return sums, np.asarray(np.bincount(index), np.float64)

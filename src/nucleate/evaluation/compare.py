"""Paired comparison of two systems on the same images: difference, interval, test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from nucleate.errors import InputError
from nucleate.types import Float64

_DRAWS = 10_000
_EXACT = 13  # up to this many groups, all 2**n signs are tried


@dataclass(frozen=True, slots=True)
class Paired:
    """The mean difference b - a of a metric over images scored by both systems.

    Attributes:
        n: number of images.
        a: mean of the first system.
        b: mean of the second system.
        difference: b - a.
        low: lower end of the 95 % percentile bootstrap interval of the difference.
        high: upper end of the interval.
        p: two-sided p-value of the paired permutation test.
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

    The permutation test swaps the two systems at random for each patient or slide, and counts how
    often the mean difference is as large (exact up to 13 of them, else 10,000 draws). Images of one
    patient or slide are drawn and swapped together.

    Args:
        a: name of an image -> value of the first system; NaN is omitted.
        b: the same for the second system.
        groups: name of an image -> patient or slide; None makes each image its own group.

    Raises:
        InputError: the images differ, or none has both values.

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
    """Compare two systems that were trained several times, paired by seed.

    Values are averaged over seeds, then compared image by image as in `paired`; but the interval
    draws seeds as well as patients, so that it covers retraining. With few seeds it is still rather
    too narrow. There is no p-value: one from images alone would not apply to other seeds.

    Args:
        runs: per seed, name of an image -> value of the first and of the second system.
        groups: name of an image -> patient or slide.

    Raises:
        InputError: the images differ, or none has all values.

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
    """Return the means of 10,000 bootstrap samples that draw whole groups.

    Args:
        values: float64 (n,).
        owners: the group of each value.

    Example:
        >>> sorted(set(resampled_means(np.array([0.0, 0.0, 1.0]), ["a", "a", "b"]).tolist()))
        [0.0, 0.3333333333333333, 1.0]
    """
    sums, sizes = _per_group(values, owners)
    drawn = np.random.default_rng(0).integers(0, len(sums), (_DRAWS, len(sums)))
    return np.asarray(sums[drawn].sum(1) / sizes[drawn].sum(1))


def _permutation_p(change: Float64, owners: Sequence[str]) -> float:
    """Return how often random signs of the groups give a mean as large as the observed one."""
    sums, _ = _per_group(change, owners)
    if len(sums) <= _EXACT:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(sums))))
        extra = 0  # all signs include the observed ones
    else:
        signs = np.random.default_rng(0).choice((-1.0, 1.0), (_DRAWS, len(sums)))
        extra = 1  # the observed signs count as one draw
    as_far = np.abs(signs @ sums) >= abs(sums.sum()) - 1e-12 * len(change)
    return (int(as_far.sum()) + extra) / (len(signs) + extra)


def _per_group(values: Float64, owners: Sequence[str]) -> tuple[Float64, Float64]:
    """Return sum and count of the values of each group, in order of first appearance."""
    order = {owner: i for i, owner in enumerate(dict.fromkeys(owners))}
    index = np.array([order[owner] for owner in owners])
    sums = np.asarray(np.bincount(index, weights=values), np.float64)
    return sums, np.asarray(np.bincount(index), np.float64)

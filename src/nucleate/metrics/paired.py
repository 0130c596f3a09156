"""Two systems on the same pictures: the difference, its interval, and could it be chance?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np

from nucleate.errors import InputError

_DRAWS = 10_000
_EXACT = 13  # up to this many pictures all 2**n signs are tried


@dataclass(frozen=True, slots=True)
class Paired:
    """The mean difference b - a of a metric over pictures that both have.

    Attributes:
        n: pictures.
        a: mean of the first system.
        b: mean of the second system.
        difference: b - a.
        low: of the 95 % percentile bootstrap interval of the difference, over pictures.
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


def paired(a: dict[str, float], b: dict[str, float]) -> Paired:
    """Compare two systems picture by picture.

    The permutation test asks how often the mean difference would be as large if for each picture
    a coin decided which system gave which value (exact up to 13 pictures, else 10,000 draws).

    Args:
        a: name of a picture -> value of the first system; NaN is left out.
        b: of the second.

    Raises:
        InputError: the pictures are not the same, or none has both values.

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
            f"{alone[0]}: is in one of the two results only (and {len(alone) - 1} more). Compare "
            "results on the same pictures."
        )
    both = np.array([(a[k], b[k]) for k in sorted(a) if not (math.isnan(a[k]) or math.isnan(b[k]))])
    if not len(both):
        raise InputError("No picture has a value in both results. Compare another metric.")
    change = both[:, 1] - both[:, 0]
    rng = np.random.default_rng(0)
    means = change[rng.integers(0, len(change), (_DRAWS, len(change)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    if len(change) <= _EXACT:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(change))))
        extra = 0  # the observed signs are among them
    else:
        signs = rng.choice((-1.0, 1.0), (_DRAWS, len(change)))
        extra = 1  # the observed signs count as one draw
    as_far = np.abs((signs * change).mean(1)) >= abs(change.mean()) - 1e-12
    p = (int(as_far.sum()) + extra) / (len(signs) + extra)
    first, second = both.mean(0)
    return Paired(
        len(change), float(first), float(second), float(change.mean()), float(low), float(high), p
    )

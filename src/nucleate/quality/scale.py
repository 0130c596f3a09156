"""Does the stated resolution fit the nuclei that are found at it?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nucleate.quality.calibration import CALIBRATION
from nucleate.types import Float64, Instances

FEWEST = 5  # nuclei that are enough to judge
NEEDED = ("area_um2", "texture_gradient", "haematoxylin_sd", "nearest_um")
USUAL_MPP = (0.125, 0.25, 0.5, 1.0)
_TOGETHER, _APART, _MOST = 0.25, 0.5, 3  # octaves within which votes gather; of alternatives
_LONELY_UM = 50.0  # distance to the nearest nucleus where there is none


def scale_facts(nuclei: Instances, mm2: float) -> Float64 | None:
    """Return what tells at which scale nuclei were found; None of fewer than five.

    Args:
        nuclei: with the columns `NEEDED`.
        mm2: area that they were looked for in.

    Returns:
        Log2 of the areas (um²) that 10, 50 and 90 % do not exceed; log2 of the nuclei per mm²;
        log2 of the gradient of the haematoxylin, and of the same over its spread; log2 of the
        distance to the nearest nucleus (um); share of the area that is nucleus. No scores: they
        differ between models and thresholds.

    Example:
        >>> from nucleate.types import Frame
        >>> scale_facts(Instances.empty(Frame(10, 10)), 0.1) is None
        True
    """
    if len(nuclei) < FEWEST or any(name not in nuclei.features for name in NEEDED):
        return None
    area, gradient, spread, nearest = (nuclei.features[name] for name in NEEDED)
    near = nearest[np.isfinite(nearest)]
    return np.array(
        [
            *np.quantile(_log2(area), (0.1, 0.5, 0.9)),
            _log2(len(nuclei) / mm2),
            _log2(np.median(gradient)),
            _log2(np.median(gradient / np.maximum(spread, 0.01))),
            _log2(np.median(near) if len(near) else _LONELY_UM),
            area.sum() / 1e6 / mm2,
        ],
        np.float64,
    )


def octaves_off(nuclei: Instances, mm2: float) -> float | None:
    """Return log2 of the stated mpp over what the nuclei look like; None of fewer than five.

    Example:
        >>> from nucleate.types import Frame
        >>> octaves_off(Instances.empty(Frame(10, 10)), 0.1) is None
        True
    """
    facts = scale_facts(nuclei, mm2)
    return None if facts is None else CALIBRATION.octaves(facts)


def most_plausible(tried: dict[float, float | None]) -> list[tuple[float, float]]:
    """Return the most plausible mpp first, and alternatives, each with its share of the votes.

    Every scale votes for the mpp that its nuclei look like: the more, the nearer that is, because
    a scale is judged best from close by. The first is the mean of the votes, on a logarithmic
    scale; the others are where votes gather, half an octave or more away.

    Returns:
        At most three; empty where nothing could be judged.

    Example:
        >>> found = most_plausible({0.25: -1.0, 0.5: 0.0, 1.0: 1.0, 2.0: None})
        >>> round(found[0][0], 2), len(found)
        (0.5, 1)
    """
    judged = {float(np.log2(mpp)): off for mpp, off in tried.items() if off is not None}
    if not judged:
        return []
    places, offs = np.array(list(judged)), np.array(list(judged.values()))
    weights = np.exp(-(offs**2) / 2) + 1e-6
    best = float(np.average(places - offs, weights=weights))
    grid = np.append(np.arange(places.min() - 1, places.max() + 1, 1 / 32), best)
    distance = (grid - (places - offs)[:, None]) / _TOGETHER
    votes = (weights[:, None] / (1 + distance**2)).sum(axis=0)
    chosen = [len(grid) - 1]
    for i in sorted(_peaks(votes[:-1]), key=lambda i: -votes[i]):
        apart = all(abs(grid[i] - grid[j]) >= _APART for j in chosen)
        if apart and len(chosen) < _MOST and votes[i] > votes.max() / 4:
            chosen.append(i)
    total = float(votes[chosen].sum())
    return [(float(2.0 ** grid[i]), float(votes[i]) / total) for i in chosen]


def usual_scan(mpp: float) -> tuple[float, int]:
    """Return the usual scan resolution nearest to an mpp, and its magnification.

    Scanners sample near 1, 0.5, 0.25 or 0.125 um per pixel: 10x, 20x, 40x, 80x.

    Example:
        >>> usual_scan(0.3)
        (0.25, 40)
    """
    best = min(USUAL_MPP, key=lambda usual: abs(np.log2(mpp / usual)))
    return best, round(10 / best)


def _peaks(values: Float64) -> list[int]:
    """Return where values are larger than before and not smaller than after.

    Example:
        >>> _peaks(np.array([0.0, 2.0, 1.0, 3.0, 3.0, 0.0]))
        [1, 3]
    """
    middle = values[1:-1]
    return (np.flatnonzero((middle > values[:-2]) & (middle >= values[2:])) + 1).tolist()


def _log2(values: float | NDArray[np.floating]) -> Float64:
    return np.log2(np.maximum(values, 1e-6)).astype(np.float64)

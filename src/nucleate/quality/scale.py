"""Check whether the stated resolution fits the nuclei found at it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nucleate.quality.calibration import CALIBRATION
from nucleate.types import Float64, Instances

FEWEST = 5  # nuclei needed for a judgement
NEEDED = ("area_um2", "texture_gradient", "haematoxylin_sd", "nearest_um")
USUAL_MPP = (0.125, 0.25, 0.5, 1.0)
_TOGETHER, _APART, _MOST = 0.25, 0.5, 3  # octaves: width of a vote, spacing; maximum of results
_LONELY_UM = 50.0  # distance to the nearest nucleus if there is none


def scale_facts(nuclei: Instances, mm2: float) -> Float64 | None:
    """Return features of nuclei that indicate their scale; None for fewer than five nuclei.

    Args:
        nuclei: nuclei with the columns `NEEDED`.
        mm2: area in which they were searched.

    Returns:
        Log2 of the 10th, 50th and 90th percentiles of the area (um²); log2 of the nuclei per mm²;
        log2 of the haematoxylin gradient, and of the gradient over its spread; log2 of the
        distance to the nearest nucleus (um); fraction of the area covered by nuclei. No scores:
        they differ between models and thresholds.

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
    """Return log2 of the stated mpp over the mpp that the nuclei suggest; None for fewer than five.

    Example:
        >>> from nucleate.types import Frame
        >>> octaves_off(Instances.empty(Frame(10, 10)), 0.1) is None
        True
    """
    facts = scale_facts(nuclei, mm2)
    return None if facts is None else CALIBRATION.octaves(facts)


def most_plausible(tried: dict[float, float | None]) -> list[tuple[float, float]]:
    """Return the most plausible mpp, then alternatives, each with its share of the votes.

    Every scale votes for the mpp that its nuclei suggest, with a higher weight the nearer it is,
    because a nearby scale is estimated best. The first is the weighted mean of the votes on a
    logarithmic scale; the others are local maxima of the votes, at least half an octave away.

    Returns:
        At most three; empty if no scale could be judged.

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
    """Return the indices of local maxima, the first of equal values.

    Example:
        >>> _peaks(np.array([0.0, 2.0, 1.0, 3.0, 3.0, 0.0]))
        [1, 3]
    """
    middle = values[1:-1]
    return (np.flatnonzero((middle > values[:-2]) & (middle >= values[2:])) + 1).tolist()


def _log2(values: float | NDArray[np.floating]) -> Float64:
    return np.log2(np.maximum(values, 1e-6)).astype(np.float64)

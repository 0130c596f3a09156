"""Choose reference images: the medoid of those with enough tissue, focus and little clipping."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from nucleate.errors import ConfigError, InputError
from nucleate.stain.tissue import sample_pixels, tissue_mask
from nucleate.types import Float64, UInt8


@dataclass(frozen=True, slots=True)
class Criteria:
    """Requirements on a reference image.

    Attributes:
        min_tissue: minimum fraction of tissue.
        max_clipped: maximum fraction of tissue pixels with a channel at 0 or 255.
        drop_focus: fraction of the images, the least sharp, to reject.
    """

    min_tissue: float = 0.5
    max_clipped: float = 0.05
    drop_focus: float = 0.1


@dataclass(frozen=True, slots=True)
class Candidate:
    """Measurements and rank of one image as a candidate reference.

    Attributes:
        name: name of the image.
        tissue: fraction of pixels that are tissue.
        focus: variance of the Laplacian of the brightness on tissue; higher is sharper.
        clipped: fraction of tissue pixels with a channel at 0 or 255.
        cdf: float64 (3, 256), fraction of tissue pixels at or below each level, per channel.
        distance: mean distance to the colours of the other candidates, in grey levels; NaN if
            rejected.
        rejected: reason of rejection, or empty.
        chosen: 1, 2, … for the references in order of choice, 0 for all others.
    """

    name: str
    tissue: float
    focus: float
    clipped: float
    cdf: Float64
    distance: float = float("nan")
    rejected: str = ""
    chosen: int = 0


def examine(name: str, image: UInt8) -> Candidate:
    """Measure one image as a candidate."""
    pixels = sample_pixels(image)
    tissue = pixels[tissue_mask(pixels)]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    sharpness = cv2.Laplacian(grey, cv2.CV_32F)
    mask = tissue_mask(image)
    clipped = ((tissue == 0) | (tissue == 255)).any(axis=1) if len(tissue) else np.zeros(1)
    counts = np.stack([np.bincount(tissue[:, c], minlength=256) for c in range(3)])
    return Candidate(
        name=name,
        tissue=len(tissue) / len(pixels),
        focus=float(sharpness[mask].var()) if mask.any() else 0.0,
        clipped=float(clipped.mean()),
        cdf=np.cumsum(counts, axis=1) / max(1, len(tissue)),
    )


def select(
    candidates: Iterable[Candidate], count: int = 1, criteria: Criteria | None = None
) -> list[Candidate]:
    """Rank images as stain references, with the chosen references first.

    The distance of two images is the mean over the channels of the 1-Wasserstein distance of
    their tissue's levels. The first reference is the medoid: smallest mean distance to all other
    candidates. Each further reference is the one that most lowers the mean distance to the nearest
    reference.

    Args:
        candidates: results of `examine`.
        count: number of references.
        criteria: requirements on references.

    Returns:
        All images: references, other candidates by distance, then rejected images with the reason.

    Raises:
        ConfigError: `count` is not positive.
        InputError: fewer than `count` images meet the criteria.
    """
    demands = criteria or Criteria()
    if count < 1:
        raise ConfigError(f"{count} references: too few. Ask for at least one.")
    everyone = sorted(candidates, key=lambda c: c.name)
    judged = _judge(everyone, demands)
    good = [c for c in judged if not c.rejected]
    if len(good) < count:
        reasons = "; ".join(f"{c.name}: {c.rejected}" for c in judged if c.rejected)[:300]
        raise InputError(
            f"{len(good)} of {len(judged)} images qualify as a stain reference, but {count} are "
            f"needed ({reasons or 'there are no more'}). Add images, or relax the criteria."
        )
    table = distances(good)
    mean = table.sum(axis=1) / max(1, len(good) - 1)
    order = _medoids(table, count)
    ranked = [
        replace(c, distance=float(mean[i]), chosen=order.index(i) + 1 if i in order else 0)
        for i, c in enumerate(good)
    ]
    ranked.sort(key=lambda c: (c.chosen or count + 1, c.distance, c.name))
    return ranked + [c for c in judged if c.rejected]


def distances(candidates: list[Candidate]) -> NDArray[np.float64]:
    """Return the pairwise distances of candidates, float64 (n, n), in grey levels.

    Example:
        >>> flat = [examine(str(v), np.full((8, 8, 3), v, np.uint8)) for v in (90, 95)]
        >>> distances(flat).round(6).tolist()
        [[0.0, 5.0], [5.0, 0.0]]
    """
    return np.array(
        [[np.abs(a.cdf - b.cdf).sum(axis=1).mean() for b in candidates] for a in candidates]
    ).reshape(len(candidates), len(candidates))


def _judge(candidates: list[Candidate], demands: Criteria) -> list[Candidate]:
    """Set the reason of rejection of every image that does not meet the criteria."""
    sharp = [c.focus for c in candidates if c.tissue >= demands.min_tissue]
    least = np.quantile(sharp, demands.drop_focus) if sharp and demands.drop_focus > 0 else 0.0
    judged = []
    for c in candidates:
        reason = ""
        if c.tissue < demands.min_tissue:
            reason = f"tissue {c.tissue:.0%}, below {demands.min_tissue:.0%}"
        elif c.clipped > demands.max_clipped:
            reason = f"clipped {c.clipped:.1%}, above {demands.max_clipped:.0%}"
        elif len(sharp) > 1 and c.focus < least:
            reason = f"focus {c.focus:.0f}, in the lowest {demands.drop_focus:.0%} ({least:.0f})"
        judged.append(replace(c, rejected=reason))
    return judged


def _medoids(table: NDArray[np.float64], count: int) -> list[int]:
    """Return indices of the medoid and of the further references, chosen greedily."""
    chosen = [int(np.argmin(table.sum(axis=1)))]
    nearest = table[chosen[0]].copy()
    while len(chosen) < count:
        costs = np.minimum(nearest, table).sum(axis=1)
        costs[chosen] = np.inf
        chosen.append(int(np.argmin(costs)))
        nearest = np.minimum(nearest, table[chosen[-1]])
    return chosen

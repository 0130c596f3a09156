"""Macenko: the plane of the two stains from principal components, the stains from angles in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from nucleate.types import Float32, Float64, UInt8

LIGHT = 240.0  # transmitted light, as published; 1 is added to pixels, so that 0 is finite
_MIN_DENSITY = 0.15  # per channel; paler pixels are omitted from the estimate
_PERCENT = 1.0  # percentile of the smallest and largest angle


def stain_statistics(pixels: UInt8) -> dict[str, Any] | None:
    """Return the stain vectors and robust maximal amounts of tissue pixels; None if degenerate.

    Args:
        pixels: uint8 (n, 3), RGB, tissue only.

    Returns:
        `stains`: 2 × 3, haematoxylin first (it absorbs more red), rows of length 1;
        `amounts`: the 99th percentiles of the two amounts.

    References:
        Macenko et al. 2009, doi:10.1109/ISBI.2009.5193250.
    """
    density = to_density(pixels)
    dense = density[(density >= _MIN_DENSITY).all(axis=1)]
    if len(dense) < 100:
        return None
    _, vectors = np.linalg.eigh(np.cov(dense.T))
    plane = vectors[:, 1:]
    plane = plane * np.where(plane.sum(axis=0) < 0, -1.0, 1.0)  # towards positive densities
    angle = np.arctan2(*(dense @ plane).T[::-1])
    low, high = np.percentile(angle, (_PERCENT, 100 - _PERCENT))
    if high - low < 1e-3:
        return None  # fewer than two stains
    ends = np.array([[np.cos(a), np.sin(a)] for a in (low, high)]) @ plane.T
    stains = ends[np.argsort(-ends[:, 0], kind="stable")]
    return with_amounts(stains, amounts(density, stains))


def with_amounts(stains: Float64, found: Float64) -> dict[str, Any] | None:
    """Return stains and the robust maxima of their amounts as plain values; None if degenerate."""
    top = np.percentile(found, 99, axis=0)
    if not np.isfinite(stains).all() or not (top > 1e-3).all():
        return None
    return {"stains": stains.tolist(), "amounts": top.tolist()}


def plausible(target: dict[str, Any]) -> bool:
    """Return whether `target` can be the statistics of an image."""
    stains, top = np.array(target["stains"], float), np.array(target["amounts"], float)
    lengths = np.linalg.norm(stains, axis=-1)
    return (
        stains.shape == (2, 3)
        and top.shape == (2,)
        and bool((np.abs(lengths - 1) < 1e-3).all() and (top > 1e-3).all() and (top < 50).all())
        and np.linalg.matrix_rank(stains, tol=1e-6) == 2
    )


def to_density(pixels: UInt8 | Float32) -> Float64:
    """Return the optical densities of pixels (n, 3).

    Example:
        >>> to_density(np.array([[239, 239, 239]], np.uint8)).tolist()
        [[-0.0, -0.0, -0.0]]
    """
    return -np.log((pixels.astype(np.float64) + 1.0) / LIGHT)


def amounts(density: Float64, stains: Float64) -> Float64:
    """Return the least-squares amounts (n, 2) of two stains for densities (n, 3)."""
    return density @ np.linalg.pinv(stains)


def convert(colours: Float32, source: dict[str, Any], target: dict[str, Any]) -> Float64:
    """Return colours (n, 3) with the source's stains replaced by the target's.

    Args:
        colours: RGB, 0 to 255.
        source: `stain_statistics` of the image that the colours are from.
        target: `stain_statistics` of the reference.

    Returns:
        float64 (n, 3), not clipped.
    """
    found = amounts(to_density(colours), np.array(source["stains"]))
    scaled = found * (np.array(target["amounts"]) / np.array(source["amounts"]))
    return LIGHT * np.exp(-scaled @ np.array(target["stains"]))  # type: ignore[no-any-return]

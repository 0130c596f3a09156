"""Vahadane: stains as a sparse, non-negative factorisation of the optical densities."""

from __future__ import annotations

from typing import Any

import numpy as np

from nucleate.stain import macenko
from nucleate.types import Float32, Float64, UInt8

_SPARSITY = 0.1  # weight of the sum of amounts when stains are estimated, as published
_SHRINKAGE = 0.01  # the same when amounts are measured; larger values make images paler
_PIXELS = 20_000
_ROUNDS = 200


def stain_statistics(pixels: UInt8) -> dict[str, Any] | None:
    """Return the stain vectors and robust maximal amounts of tissue pixels; None if degenerate.

    Starts from Macenko's vectors, so that the result is deterministic; alternates exact sparse
    amounts (a closed form for two stains) and least-squares stains, clipped at 0 and normalised to
    length 1, until they change by less than 1e-5.

    Args:
        pixels: uint8 (n, 3), RGB, tissue only.

    Returns:
        `stains`: 2 × 3, haematoxylin first; `amounts`: the 99th percentiles of the two amounts.

    References:
        Vahadane et al. 2016, doi:10.1109/TMI.2016.2529665.
    """
    start = macenko.stain_statistics(pixels)
    if start is None:
        return None
    density = np.maximum(_to_density(pixels), 0)
    some = density[:: max(1, len(density) // _PIXELS)]
    stains = _unit(np.maximum(np.array(start["stains"]), 1e-6))
    for _ in range(_ROUNDS):
        found = _sparse_amounts(some, stains, _SPARSITY)
        better = _better_stains(some, found, stains)
        if better is None:
            return None
        moved = np.abs(better - stains).max()
        stains = better
        if moved < 1e-5:
            break
    stains = stains[np.argsort(-stains[:, 0], kind="stable")]
    return macenko.with_amounts(stains, _sparse_amounts(density, stains, _SHRINKAGE))


def _better_stains(density: Float64, found: Float64, stains: Float64) -> Float64 | None:
    """Return non-negative stains of length 1 that fit given amounts better; None if degenerate.

    One block coordinate step per stain, as in online dictionary learning (Mairal et al. 2009).
    """
    gram, fit = found.T @ found, found.T @ density
    better = stains.copy()
    for j in range(2):
        if gram[j, j] <= 1e-9 * gram.sum():
            return None
        step = better[j] + (fit[j] - gram[j] @ better) / gram[j, j]
        step = np.maximum(step, 0)
        if not step.any():
            return None
        better[j] = step / np.linalg.norm(step)
    return better


def convert(colours: Float32, source: dict[str, Any], target: dict[str, Any]) -> Float64:
    """Return colours (n, 3) with the source's stains replaced by the target's.

    Args:
        colours: RGB, 0 to 255.
        source: `stain_statistics` of the image that the colours are from.
        target: `stain_statistics` of the reference.

    Returns:
        float64 (n, 3), not clipped.
    """
    density = np.maximum(_to_density(colours), 0)
    found = _sparse_amounts(density, np.array(source["stains"]), _SHRINKAGE)
    scaled = found * (np.array(target["amounts"]) / np.array(source["amounts"]))
    return 255.0 * np.exp(-scaled @ np.array(target["stains"]))  # type: ignore[no-any-return]


def _to_density(pixels: UInt8 | Float32) -> Float64:
    return -np.log(np.maximum(pixels.astype(np.float64), 1.0) / 255.0)


def _unit(stains: Float64) -> Float64:
    return np.asarray(stains / np.linalg.norm(stains, axis=1, keepdims=True))


def _sparse_amounts(density: Float64, stains: Float64, sparsity: float) -> Float64:
    """Return the amounts a ≥ 0 that minimise ½ |density - a · stains|² + sparsity · sum(a).

    With two stains of length 1, the solution has both stains, either one, or none.

    Example:
        >>> _sparse_amounts(np.array([[1.0, 0, 0]]), np.eye(2, 3), 0.1).tolist()
        [[0.9, 0.0]]
    """
    pull = density @ stains.T - sparsity
    overlap = float(stains[0] @ stains[1])
    both = np.stack([pull[:, 0] - overlap * pull[:, 1], pull[:, 1] - overlap * pull[:, 0]], 1)
    both /= max(1e-9, 1 - overlap**2)
    alone = np.maximum(pull, 0)
    first = pull[:, 0] >= pull[:, 1]
    one = np.where(np.stack([first, ~first], 1), alone, 0.0)
    return np.asarray(np.where((both >= 0).all(axis=1, keepdims=True), both, one))

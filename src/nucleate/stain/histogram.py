"""Histogram matching: each channel's distribution on tissue is matched to the reference's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nucleate.stain.deconvolution import OD_TO_STAINS, STAINS_TO_OD
from nucleate.stain.reinhard import from_lab, to_lab
from nucleate.types import Float32, Float64, UInt8

_LEVELS = np.linspace(0.0, 1.0, 257)


def _to_stains(colours: Float32) -> Float32:
    return np.asarray(-np.log(np.maximum(colours, 1) / 255) @ OD_TO_STAINS, np.float32)


def _from_stains(stains: Float32) -> Float32:
    return np.asarray(255 * np.exp(-(stains @ STAINS_TO_OD)), np.float32)


SPACES: dict[str, tuple[Callable[[Float32], Float32], Callable[[Float32], Float32]]] = {
    "rgb": (lambda colours: colours, lambda colours: colours),
    "lab": (to_lab, from_lab),
    "stains": (_to_stains, _from_stains),
}


def stain_statistics(pixels: UInt8, space: str = "rgb") -> dict[str, Any] | None:
    """Return the distribution of each channel of tissue pixels; None if a channel is constant.

    Args:
        pixels: uint8 (n, 3), RGB, tissue only.
        space: `rgb`, `lab` (CIELAB) or `stains` (haematoxylin, eosin, residual, see Ruifrok).

    Returns:
        `quantiles`: 3 × 257, the quantiles 0, 1/256, …, 1 of each channel; `space`.

    Example:
        >>> ramp = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
        >>> [row[128] for row in stain_statistics(ramp)["quantiles"]]
        [127.5, 127.5, 127.5]
    """
    values = SPACES[space][0](pixels.astype(np.float32))
    quantiles = np.quantile(values, _LEVELS, axis=0).T
    if not (quantiles[:, -1] - quantiles[:, 0] > 1e-2).all():
        return None
    return {"space": space, "quantiles": quantiles.round(5).tolist()}


def plausible(target: dict[str, Any]) -> bool:
    """Return whether `target` can be the statistics of an image."""
    quantiles = np.array(target["quantiles"], float)
    return (
        quantiles.shape == (3, len(_LEVELS))
        and bool(np.isfinite(quantiles).all() and (np.abs(quantiles) < 1e3).all())
        and bool((np.diff(quantiles, axis=1) >= 0).all())
        and bool((quantiles[:, -1] - quantiles[:, 0] > 1e-3).all())
    )


def convert(colours: Float32, source: dict[str, Any], target: dict[str, Any]) -> Float64:
    """Map colours (n, 3) to the target colours of the same quantile, per channel.

    Args:
        colours: RGB, 0 to 255.
        source: `stain_statistics` of the image that the colours are from.
        target: `stain_statistics` of the reference, in the same space.

    Returns:
        float64 (n, 3), not clipped.

    References:
        Gonzalez and Woods, Digital Image Processing, histogram specification.
    """
    forward, back = SPACES[target["space"]]
    values = forward(colours)
    out = np.empty(values.shape, np.float32)
    for channel in range(3):
        before = _increasing(np.array(source["quantiles"][channel]))
        rank = np.interp(values[:, channel], before, _LEVELS)
        out[:, channel] = np.interp(rank, _LEVELS, np.array(target["quantiles"][channel]))
    return back(out).astype(np.float64)


def _increasing(values: Float64) -> Float64:
    """Make values strictly increasing, as interpolation requires."""
    return values + np.arange(len(values)) * 1e-7 * max(1.0, float(np.ptp(values)))

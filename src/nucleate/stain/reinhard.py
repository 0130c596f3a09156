"""Reinhard: means and standard deviations in CIELAB, matched to those of a reference."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from nucleate.types import Float32, Float64, UInt8


def stain_statistics(pixels: UInt8) -> dict[str, Any] | None:
    """Return the means and standard deviations of tissue pixels in CIELAB; None if degenerate.

    Args:
        pixels: uint8 (n, 3), RGB, tissue only.

    Returns:
        `mean` and `sd` of lightness (0 to 100), green-red and blue-yellow.

    References:
        Reinhard et al. 2001, doi:10.1109/38.946629; in CIELAB, as is usual in histology.
    """
    mean, sd = (m.reshape(-1) for m in cv2.meanStdDev(to_lab(pixels.astype(np.float32))[None]))
    if not (sd > 1e-2).all():
        return None
    return {"mean": mean.tolist(), "sd": sd.tolist()}


def plausible(target: dict[str, Any]) -> bool:
    """Return whether `target` can be the statistics of an image."""
    mean, sd = np.array(target["mean"], float), np.array(target["sd"], float)
    return (
        mean.shape == (3,)
        and sd.shape == (3,)
        and bool((np.abs(mean) < 200).all() and (sd > 1e-3).all() and (sd < 200).all())
    )


def convert(colours: Float32, source: dict[str, Any], target: dict[str, Any]) -> Float64:
    """Shift and scale colours (n, 3) from the source's to the target's mean and SD.

    Args:
        colours: RGB, 0 to 255.
        source: `stain_statistics` of the image that the colours are from.
        target: `stain_statistics` of the reference.

    Returns:
        float64 (n, 3), 0 to 255.
    """
    scale = np.array(target["sd"]) / np.array(source["sd"])
    lab = (to_lab(colours) - np.array(source["mean"])) * scale + np.array(target["mean"])
    return from_lab(lab.astype(np.float32)).astype(np.float64)


def to_lab(colours: Float32) -> Float32:
    """Convert sRGB colours (n, 3) in 0..255 to CIELAB (D65).

    Example:
        >>> np.round(to_lab(np.array([[255, 255, 255]], np.float32)), 1).tolist()[0][0]
        100.0
    """
    return cv2.cvtColor(colours[None] / np.float32(255), cv2.COLOR_RGB2Lab)[0]  # type: ignore[no-any-return]


def from_lab(lab: Float32) -> Float32:
    """Convert CIELAB colours (n, 3) to sRGB in 0..255: the inverse of `to_lab`."""
    return cv2.cvtColor(lab[None], cv2.COLOR_Lab2RGB)[0] * np.float32(255)  # type: ignore[no-any-return]

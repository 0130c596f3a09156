"""Calibration of the plausibility checks, fitted by `benchmarks/plausibility.py --fit`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from nucleate.types import Float64


@dataclass(frozen=True, slots=True)
class Calibration:
    """Coefficients and thresholds of the plausibility checks.

    Attributes:
        scale_mean: mean of each feature of `quality.scale`, for standardisation.
        scale_sd: standard deviation of each feature.
        scale_weights: weights of the terms of `quadratic`.
        scale_least: octaves at and above which the scale is implausible.
        exchange_weights: weights of the features of `quality.colours`, the intercept first.
        exchange_least: logit above which red and blue are considered exchanged.
    """

    scale_mean: Float64
    scale_sd: Float64
    scale_weights: Float64
    scale_least: float
    exchange_weights: Float64
    exchange_least: float

    def octaves(self, facts: Float64) -> float:
        """Return by how much the stated mpp is too large, as log2, from `scale_facts`."""
        z = np.clip((facts - self.scale_mean) / self.scale_sd, -4, 4)
        return float(quadratic(z) @ self.scale_weights)

    def exchange(self, facts: Float64) -> float:
        """Return the logit that red and blue are exchanged."""
        return float(self.exchange_weights[0] + facts @ self.exchange_weights[1:])


def quadratic(values: Float64) -> Float64:
    """Return the quadratic terms of values: 1, the values, and all products of two of them.

    Example:
        >>> quadratic(np.array([2.0, 3.0])).tolist()
        [1.0, 2.0, 3.0, 4.0, 6.0, 9.0]
    """
    rows, columns = np.triu_indices(len(values))
    return np.concatenate([[1.0], values, values[rows] * values[columns]])


def _read() -> Calibration:
    text = files("nucleate.quality").joinpath("calibration.json").read_text(encoding="utf-8")
    kept = json.loads(text)
    return Calibration(
        scale_mean=np.array(kept["scale_mean"]),
        scale_sd=np.array(kept["scale_sd"]),
        scale_weights=np.array(kept["scale_weights"]),
        scale_least=kept["scale_least"],
        exchange_weights=np.array(kept["exchange_weights"]),
        exchange_least=kept["exchange_least"],
    )


CALIBRATION = _read()

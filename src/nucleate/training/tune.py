"""Tune decoder thresholds on validation images; they are stored with the model."""

from __future__ import annotations

import numpy as np

from nucleate.errors import pick
from nucleate.evaluation.metrics.instance import aji
from nucleate.evaluation.metrics.matching import overlap
from nucleate.postprocess import DECODERS, Decoder, flat
from nucleate.types import Bool, Int32, Maps

Truth = tuple[Int32, Bool | None]  # labels and ignored pixels


def tune_thresholds(
    maps: list[Maps], truths: list[Truth], decoder: str, start: dict[str, float]
) -> tuple[dict[str, float], float]:
    """Return the thresholds with the highest mean AJI over images, and that AJI.

    Coordinate search: thresholds are set one by one to the best value in the decoder's grid, until
    a whole round changes nothing. This takes dozens of trials; all combinations take hundreds.

    Args:
        maps: maps of the network per image.
        truths: labels and ignored pixels per image, on the grid of the maps.
        decoder: key of `DECODERS`.
        start: complete initial thresholds.
    """
    table: Decoder = pick(DECODERS, decoder, "decoder")
    best, score = dict(start), mean_aji(maps, truths, decoder, start)
    improved = True
    while improved:
        improved = False
        for name, values in table.grid.items():
            for value in values:
                trial = {**best, name: value}
                if value == best[name]:
                    continue
                reached = mean_aji(maps, truths, decoder, trial)
                if reached > score + 1e-6:
                    best, score, improved = trial, reached, True
    return best, score


def mean_aji(
    maps: list[Maps], truths: list[Truth], decoder: str, thresholds: dict[str, float]
) -> float:
    """Decode `maps` with `thresholds`, and return the mean AJI over images."""
    decode = pick(DECODERS, decoder, "decoder").decode
    scores = [
        aji(overlap(labels, flat(decode(m, thresholds, labels.shape)), ignore))
        for m, (labels, ignore) in zip(maps, truths, strict=True)
    ]
    return float(np.nanmean(scores))

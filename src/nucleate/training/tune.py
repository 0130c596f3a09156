"""Thresholds are searched on validation images and travel with the model."""

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
    """Return the thresholds of highest mean AJI over images, and that AJI.

    One threshold after the other is set to its best value of the decoder's grid, until a whole
    round changes nothing: a coordinate search, which needs dozens of trials where all
    combinations need hundreds.

    Args:
        maps: per image the network's maps.
        truths: per image its labels and ignored pixels, on the grid of the maps.
        decoder: key of `DECODERS`.
        start: complete thresholds to begin with.
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
    """Return the mean AJI over images of decoding `maps` with `thresholds`."""
    decode = pick(DECODERS, decoder, "decoder").decode
    scores = [
        aji(overlap(labels, flat(decode(m, thresholds, labels.shape)), ignore))
        for m, (labels, ignore) in zip(maps, truths, strict=True)
    ]
    return float(np.nanmean(scores))

"""nucleate: `--model` is a model folder; the bundled default without."""

from __future__ import annotations

import argparse

import numpy as np
from common import Segment, run

from nucleate import load_model
from nucleate.geometry.outlines import paint
from nucleate.inference.pipeline import EngineOptions
from nucleate.inference.segment import find_nuclei
from nucleate.readers.array import ArraySource


def make(options: argparse.Namespace) -> Segment:
    """Return the function that segments a tile; drawing the table as labels is part of it."""
    model = load_model(options.model or "mtl-small", device="cpu", threads=1)

    def segment(image: np.ndarray) -> np.ndarray:
        found = find_nuclei(ArraySource(image, 0.25), model, None, EngineOptions())
        return paint(found.nuclei, image.shape[:2])

    return segment


if __name__ == "__main__":
    run(make)

"""StarDist by its own package, with weights that `train_stardist.py` has trained."""

from __future__ import annotations

import argparse

import numpy as np
from common import Segment, run


def make(options: argparse.Namespace) -> Segment:
    """Return the function that segments a tile."""
    from csbdeep.utils import normalize
    from stardist.models import StarDist2D

    model = StarDist2D(None, name=options.model.name, basedir=str(options.model.parent))

    def segment(image: np.ndarray) -> np.ndarray:
        return model.predict_instances(normalize(image, 1, 99.8, axis=(0, 1, 2)), verbose=False)[0]

    return segment


if __name__ == "__main__":
    run(make)

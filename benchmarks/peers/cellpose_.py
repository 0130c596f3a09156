"""Cellpose with its default model, whose weights it downloads."""

from __future__ import annotations

import argparse
import sys

import numpy as np
from common import Segment, run


def make(_: argparse.Namespace) -> Segment:
    """Return the function that segments a tile."""
    from cellpose.models import CellposeModel

    try:
        model = CellposeModel(gpu=False)
    except OSError as error:
        sys.exit(f"its weights cannot be downloaded here ({error})")

    def segment(image: np.ndarray) -> np.ndarray:
        return model.eval(image)[0]

    return segment


if __name__ == "__main__":
    run(make)

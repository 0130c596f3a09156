"""HistomicsTK's nuclei detection as its command line does it, at its defaults."""

from __future__ import annotations

import argparse

import numpy as np
from common import Segment, run

# NucleiDetection.xml of the package
REFERENCE_MEAN, REFERENCE_SD = (8.63234435, -0.11501964, 0.03868433), (
    0.57506023, 0.10403329, 0.01364062,
)  # fmt: skip
FOREGROUND, MIN_RADIUS, MAX_RADIUS, SEARCH_RADIUS, MIN_AREA = 60, 6, 20, 10, 80


def make(_: argparse.Namespace) -> Segment:
    """Return the function that segments a tile."""
    from histomicstk.preprocessing.color_deconvolution import (
        color_deconvolution,
        stain_color_map,
    )
    from histomicstk.preprocessing.color_normalization import reinhard
    from histomicstk.segmentation.nuclear import detect_nuclei_kofahi

    stains = np.array([stain_color_map[name] for name in ("hematoxylin", "eosin", "null")]).T

    def segment(image: np.ndarray) -> np.ndarray:
        normalised = reinhard(image, REFERENCE_MEAN, REFERENCE_SD)
        nuclei = color_deconvolution(normalised, stains).Stains[..., 0].astype(float)
        found = detect_nuclei_kofahi(
            nuclei, nuclei < FOREGROUND, MIN_RADIUS, MAX_RADIUS, MIN_AREA, SEARCH_RADIUS
        )
        return np.asarray(found)

    return segment


if __name__ == "__main__":
    run(make)

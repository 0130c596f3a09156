"""The floor: Otsu's threshold on haematoxylin, then a watershed of the distance transform."""

from __future__ import annotations

import argparse

import numpy as np
from common import Segment, run
from scipy import ndimage
from skimage import color, feature, filters, morphology, segmentation


def make(_: argparse.Namespace) -> Segment:
    """Return the function that segments a tile."""

    def segment(image: np.ndarray) -> np.ndarray:
        haematoxylin = filters.gaussian(color.rgb2hed(image)[..., 0], 1)
        mask = haematoxylin > filters.threshold_otsu(haematoxylin)
        mask = morphology.remove_small_objects(ndimage.binary_fill_holes(mask), max_size=30)
        distance = filters.gaussian(ndimage.distance_transform_edt(mask), 2)
        peaks = feature.peak_local_max(distance, min_distance=6, labels=ndimage.label(mask)[0])
        markers = np.zeros(mask.shape, np.int32)
        markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
        return segmentation.watershed(-distance, markers, mask=mask)

    return segment


if __name__ == "__main__":
    run(make)

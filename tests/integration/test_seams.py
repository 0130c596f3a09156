"""The bundled model, tiled and untiled: the same nuclei."""

from pathlib import Path

import numpy as np
import pytest

import nucleate
from nucleate import load_model
from nucleate.evaluation.metrics.instance import matches
from nucleate.evaluation.metrics.matching import overlap
from nucleate.geometry.outlines import rasterise
from nucleate.inference.pipeline import EngineOptions
from nucleate.inference.segment import find_nuclei
from nucleate.readers.array import ArraySource


@pytest.mark.parametrize(
    ("precision", "least_iou", "nuclei", "pixels"),
    [("f32", 0.9, 0.011, 0.0002), ("int8", 0.5, 0.08, 0.01)],
)
def test_bundled_model_finds_the_same_nuclei_whatever_the_tiles(
    precision, least_iou, nuclei, pixels
):
    """One pixel may split a clump otherwise; in integers, unsure nuclei come and go."""
    example = Path(__file__).parents[1] / "data" / "keratin.tif"
    image, mpp = nucleate.read_image(example)
    model = load_model(device="cpu", precision=precision)
    source = ArraySource(image[:500, 100:600], mpp)  # 1000 × 1000 at the model's resolution
    labels = []
    for tile in (512, 768, 2048):
        found = find_nuclei(source, model, None, EngineOptions(tile)).nuclei
        labels.append(rasterise(found.coords_xy, found.offsets, (500, 500))[0])
    for tiled in labels[:2]:
        tp, fp, fn, _ = matches(overlap(labels[2], tiled), least_iou)
        assert tp > 300
        assert fp + fn <= nuclei * tp
        assert np.mean((tiled > 0) != (labels[2] > 0)) < pixels

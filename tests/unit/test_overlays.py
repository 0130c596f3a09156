"""Images for people."""

import numpy as np
import pytest

from nucleate.evaluation.error_overlays import coloured
from nucleate.types import Frame, Instances
from tests.reference.test_coco_ap import table
from tests.synthetic import scattered


def test_every_nucleus_has_a_colour_of_its_own_and_a_box():
    labels = scattered(60, 60, 20, 10)
    grey = np.full((60, 60, 3), 128, np.uint8)
    drawn = coloured(grey, table(labels, np.ones(9)))
    colours = {tuple(drawn[y + 5, x + 5]) for y in (0, 20, 40) for x in (0, 20, 40)}
    assert len(colours) == 9
    assert (drawn[labels == 0] == 128).all()  # squares: the box is the rim
    assert (grey == 128).all()


@pytest.mark.parametrize("corner", [(3.5, 3.5), (0, 0), (18.5, 18.5), (-3, -3), (19.9, 5)])
@pytest.mark.parametrize("edge", [0.3, 1.0, 4.0])
def test_nuclei_of_any_size_and_place_can_be_drawn(corner, edge):
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * edge + corner
    one = Instances(
        ids=np.ones(1, np.int64),
        coords_xy=square.astype(np.float32),
        offsets=np.array([0, 4]),
        boxes_xyxy=np.array([[*corner, corner[0] + edge, corner[1] + edge]], np.float32),
        scores=np.ones(1, np.float32),
        classes=np.zeros(1, np.int16),
        frame=Frame(20, 20),
    )
    assert coloured(np.zeros((20, 20, 3), np.uint8), one).any()


def test_no_nuclei_leave_the_image_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (9, 8, 3), np.uint8)
    assert (coloured(image, Instances.empty(Frame(8, 9))) == image).all()

"""Pictures for people."""

import numpy as np

from nucleate.overlays import coloured
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


def test_no_nuclei_leave_the_picture_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (9, 8, 3), np.uint8)
    assert (coloured(image, Instances.empty(Frame(8, 9))) == image).all()

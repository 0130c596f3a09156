"""Glass, pen and folds are left out; tissue is not."""

import numpy as np
import pytest

from nucleate.quality.tissue import survey
from nucleate.readers.array import ArraySource
from nucleate.readers.reader import Reader
from tests.synthetic_slide import GLASS, tissue_block

PENS = {"green": (20, 120, 60), "blue": (30, 60, 160), "black": (15, 15, 18), "red": (190, 25, 30)}


def _slide():
    """Return an image at 2 um per pixel: a piece of tissue of 800 × 600 um on glass."""
    import cv2

    image = np.full((600, 800, 3), GLASS, np.uint8)
    block = tissue_block().image
    small = cv2.resize(block, None, fx=1 / 8, fy=1 / 8, interpolation=cv2.INTER_AREA)
    image[150:450, 200:600] = np.tile(small, (2, 2, 1))[:300, :400]
    return image


def _survey(image):
    return survey(Reader(ArraySource(image), 2.0))


def test_tissue_is_found_and_glass_is_not():
    seen = _survey(_slide())
    assert seen.mm2 == pytest.approx(0.8 * 0.6, rel=0.2)
    assert seen.pen.mean() < 0.01  # the slide of the block has a trace of green dye
    assert not seen.fold.any()
    inside = np.array([[x, y] for x in range(210, 600, 20) for y in range(160, 450, 20)], float)
    assert seen.tissue.holds(inside).mean() > 0.97
    corners = np.array([[5.0, 5.0], [790, 5], [5, 590], [790, 590]])
    assert not seen.tissue.holds(corners).any()
    assert seen.tissue.touches((300, 200, 400, 300), 1.0)
    assert not seen.tissue.touches((0, 0, 150, 100), 1.0)


def test_blank_glass_holds_nothing():
    seen = _survey(np.full((300, 300, 3), GLASS, np.uint8))
    assert seen.mm2 == 0
    assert not seen.tissue.mask.any()


@pytest.mark.parametrize("pen", PENS)
def test_pen_is_left_out_on_glass_and_on_tissue(pen):
    image = _slide()
    image[80:100, 100:700] = PENS[pen]
    image[280:310, 150:650] = PENS[pen]
    seen = _survey(image)
    line = np.array([[x, 295.0] for x in range(220, 600, 10)])
    assert not seen.tissue.holds(line).any()
    assert not seen.tissue.holds(np.array([[x, 90.0] for x in range(110, 700, 10)])).any()
    beside = np.array([[x, 380.0] for x in range(220, 580, 10)])
    assert seen.tissue.holds(beside).mean() > 0.95


def test_a_fold_is_left_out():
    image = _slide()
    layer = image[250:290, 200:600] / 255.0
    image[250:290, 200:600] = np.rint(255 * layer**3)  # light passes three layers
    seen = _survey(image)
    fold = np.array([[x, 270.0] for x in range(220, 580, 10)])
    assert seen.tissue.holds(fold).mean() < 0.5  # its pale stretches are no denser than tissue
    beside = np.array([[x, 380.0] for x in range(220, 580, 10)])
    assert seen.tissue.holds(beside).mean() > 0.95


def test_dust_is_no_tissue():
    image = np.full((600, 600, 3), GLASS, np.uint8)
    image[300:312, 300:312] = (150, 90, 140)  # 24 um
    assert _survey(image).mm2 == 0

"""Fixing annotations: what is changed is right, and counted."""

import numpy as np
import pytest

from nucleate.curation.clean_labels import CraftOptions, CraftReport, craft_labels
from nucleate.errors import ConfigError
from nucleate.geometry.labels import compact, largest_pieces
from tests.errors import says
from tests.synthetic import tissue

MESSY = np.array(
    [
        [7, 7, 7, 0, 3, 3, 0, 7],
        [7, 0, 7, 0, 3, 3, 0, 7],
        [7, 7, 7, 0, 0, 0, 0, 7],
        [0, 0, 0, 0, 9, 0, 0, 0],
    ],
    np.int32,
)


def test_split_fill_and_drop():
    labels, classes, report = craft_labels(
        MESSY, np.array([4, 5, 6], np.int16), CraftOptions("split", 2)
    )
    assert labels.tolist() == [
        [2, 2, 2, 0, 1, 1, 0, 3],
        [2, 2, 2, 0, 1, 1, 0, 3],
        [2, 2, 2, 0, 0, 0, 0, 3],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]
    assert classes.tolist() == [4, 5, 5]
    assert report == CraftReport(3, 3, 1, 1, 0, 1, 1)


def test_largest_and_keep():
    labels, _, report = craft_labels(MESSY, options=CraftOptions("largest", 2, fill_holes=False))
    assert labels.max() == 2
    assert labels[1, 1] == 0
    assert report == CraftReport(3, 2, 1, 0, 1, 1, 0)
    labels, _, report = craft_labels(MESSY, options=CraftOptions("keep", 0, fill_holes=False))
    np.testing.assert_array_equal(labels, compact(MESSY)[0])
    assert report == CraftReport(3, 3, 1, 0, 0, 0, 0)


def test_a_hole_that_holds_a_nucleus_stays():
    ring = np.ones((5, 5), np.int32)
    ring[2, 2] = 2
    ring[1, 1] = 0
    labels, _, report = craft_labels(ring, options=CraftOptions(min_area_px=0))
    assert labels[2, 2] == 2
    assert labels[1, 1] == 1
    assert report.holes_filled_px == 1


def test_clean_labels_stay():
    for seed in range(5):
        labels = largest_pieces(tissue(96, 96, 20, seed)[1])
        fixed, _, report = craft_labels(labels, options=CraftOptions(min_area_px=0))
        np.testing.assert_array_equal(fixed, labels)
        assert report.after == report.before == labels.max()


def test_empty_and_wrong_options():
    labels, classes, report = craft_labels(np.zeros((3, 3), np.int32), np.zeros(0, np.int16))
    assert not labels.any()
    assert len(classes) == 0
    assert report == CraftReport()
    with pytest.raises(ConfigError, match=says("split", "largest", "keep")):
        CraftOptions("maybe")
    with pytest.raises(ConfigError, match="negative"):
        CraftOptions(min_area_px=-1)

import cv2
import numpy as np
import pytest
from skimage.segmentation import find_boundaries

from nucleate.errors import ConfigError
from nucleate.evaluation.metrics.instance import matches
from nucleate.evaluation.metrics.matching import overlap
from nucleate.postprocess import DECODERS, complete_thresholds, flat, watershed
from nucleate.targets import HEADS, boundary, distance, encode
from tests.errors import says
from tests.synthetic import tissue


def test_distance_by_brute_force():
    _, labels = tissue(40, 50, 12, seed=3)
    ours = distance(labels)
    points = np.stack(np.indices(labels.shape), -1).reshape(-1, 2)
    for number in range(1, labels.max() + 1):
        inside = labels == number
        outside = points[~inside.ravel()]
        mine = np.argwhere(inside)
        far = np.sqrt(((mine[:, None] - outside[None]) ** 2).sum(-1)).min(1)
        np.testing.assert_allclose(ours[inside], far / far.max(), atol=1e-5)
    assert (ours[labels == 0] == 0).all()


def test_every_nucleus_peaks_at_one_even_when_touching():
    labels = np.zeros((9, 20), np.int32)
    labels[1:8, 1:8], labels[1:8, 8:11] = 1, 2
    peaks = [distance(labels)[labels == i].max() for i in (1, 2)]
    assert peaks == [1.0, 1.0]


def test_nucleus_that_fills_the_image_is_finite():
    assert np.isfinite(distance(np.ones((8, 8), np.int32))).all()


def test_boundary_is_two_pixels_inside_each_nucleus():
    _, labels = tissue(80, 80, 20, seed=5)
    ours = boundary(labels) > 0
    inner = find_boundaries(labels, connectivity=2, mode="inner", background=0)
    assert ours[inner].all()
    assert not ours[labels == 0].any()
    wide = labels.copy()
    wide[:] = 0
    wide[10:30, 10:30], wide[10:30, 30:50] = 1, 2
    rim = boundary(wide) > 0
    assert rim[20, 28:32].all()
    assert not rim[20, 13:27].any()


@pytest.mark.parametrize("head", sorted(HEADS))
@pytest.mark.parametrize("labels", [np.zeros((5, 7), np.int32), np.full((3, 3), 70_000, np.int32)])
def test_every_target_is_a_map_in_range(head, labels):
    target = HEADS[head].target(labels)
    assert target.dtype == np.float32
    assert target.shape == labels.shape
    assert target.min() >= 0
    assert target.max() <= 1


def test_unknown_head():
    with pytest.raises(ConfigError, match=says("'distance'")):
        encode(np.zeros((2, 2), np.int32), ["distanse"])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["components", "watershed"])
def test_decoding_the_targets_gives_the_nuclei_back(name, seed):
    decoder = DECODERS[name]
    _, labels = tissue(512, 512, 150, seed)
    if name == "components":  # leaves nuclei that touch as one: give it none
        labels = cv2.connectedComponents((labels > 0).view(np.uint8), connectivity=4)[1]
    maps = encode(labels, list(decoder.heads))
    thresholds = {**decoder.defaults, "min_area": 1, "smooth": 0.5}
    decoded = flat(decoder.decode(maps, thresholds, labels.shape))
    tp, fp, fn, _ = matches(overlap(labels, decoded), 0.5)
    assert tp / (tp + fn) >= 0.97  # slivers left by overlapping ellipses are merged
    assert fp <= 0.03 * tp


@pytest.mark.data
def test_decoding_the_real_targets_gives_99_percent_back(real_data):
    from nucleate.datasets.loading import list_entries

    entries = list_entries("monuseg", real_data / "MoNuSeg" / "MoNuSeg 2018 Training Data.zip", {})
    thresholds = complete_thresholds("watershed", {"smooth": 0.5, "min_area": 10})
    found = total = 0
    for entry in entries[:6]:
        labels = entry.read().labels
        maps = encode(labels, ["foreground", "distance"])
        decoded = watershed(maps, thresholds)
        tp, _, fn, _ = matches(overlap(labels, decoded), 0.5)
        found, total = found + tp, total + tp + fn
    assert found / total >= 0.99

import cv2
import numpy as np
import pytest
from skimage.measure import find_contours, label
from skimage.morphology import h_maxima
from skimage.segmentation import watershed

from nucleate.geometry import runs
from nucleate.geometry.labels import boxes_areas, compact, flood, largest_pieces, nuclei_of, peaks
from nucleate.geometry.outlines import centroids_xy, rasterise, trace
from nucleate.geometry.runs import runs_of
from tests.synthetic import scattered, tissue


@pytest.mark.parametrize("seed", range(5))
def test_rasterising_the_outlines_gives_the_labels_back(seed):
    _, labels = tissue(200, 150, 60, seed)
    xy, offsets, _ = trace(labels)
    back, contested = rasterise(xy, offsets, labels.shape)
    np.testing.assert_array_equal(back, labels)
    assert contested == 0


def test_outline_is_the_marching_squares_contour():
    _, labels = tissue(64, 64, 3, seed=4)
    one = (labels == 1).astype(float)
    xy, offsets, _ = trace((labels == 1).astype(np.int32))
    reference = find_contours(np.pad(one, 1), 0.5)[0][:, ::-1] - 0.5  # to x, y, corner origin
    ours = {tuple(p) for p in xy[offsets[0] : offsets[1]].tolist()}
    assert ours <= {tuple(p) for p in reference.tolist()}
    x, y = reference[:-1].T
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    x, y = xy.T.astype(float)
    assert abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2 == pytest.approx(area)


def test_pixel_belongs_to_an_outline_when_its_centre_is_inside():
    square = np.array([[0.6, 0.4], [2.6, 0.4], [2.6, 1.6], [0.6, 1.6]])
    labels, _ = rasterise(square, np.array([0, 4]), (3, 4))
    # centres 1.5 and 2.5 are between 0.6 and 2.6; rows 0.5 and 1.5 between 0.4 and 1.6
    assert labels.tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_earlier_outline_keeps_shared_pixels():
    a = [[0, 0], [2, 0], [2, 1], [0, 1]]
    b = [[1, 0], [3, 0], [3, 1], [1, 1]]
    labels, contested = rasterise(np.array(a + b, float), np.array([0, 4, 8]), (1, 3))
    assert labels.tolist() == [[1, 1, 2]]
    assert contested == 1


def test_outline_beyond_the_image_is_clipped():
    outline = np.array([[-5, -5], [50, -5], [50, 50], [-5, 50]], float)
    assert rasterise(outline, np.array([0, 4]), (4, 6))[0].all()


def test_seventy_thousand_nuclei_survive():
    labels = scattered(2200, 2200)
    assert labels.max() > 70_000
    xy, offsets, _ = trace(labels)
    np.testing.assert_array_equal(rasterise(xy, offsets, labels.shape)[0], labels)
    assert compact(labels)[1][-1] == labels.max()


@pytest.mark.parametrize("ids", [[3, 7], [2**30, 2**31 - 1], [1]])
def test_compact_keeps_order_whatever_the_ids(ids):
    labels = np.array([[0, *ids]], np.int32)
    new, old = compact(labels)
    assert new.tolist() == [[0, *range(1, len(ids) + 1)]]
    assert old.tolist() == ids


def test_compact_needs_no_background():
    new, old = compact(np.array([[9, 5]], np.int32))
    assert new.tolist() == [[2, 1]]
    assert old.tolist() == [5, 9]


def test_largest_pieces_fills_holes_but_not_neighbours():
    ring = np.ones((5, 5), np.int32)
    ring[1, 1], ring[3, 3] = 0, 2
    out = largest_pieces(ring)
    assert out[1, 1] == 1
    assert out[3, 3] == 2


def test_runs_know_pieces_and_holes():
    rng = np.random.default_rng(0)
    met = np.zeros(2, int)
    for i in range(200):
        shape, count = rng.integers(1, 30, 2), int(rng.integers(1, 8))
        labels = rng.integers(0, count + 1, shape).astype(np.int32)
        if i % 2:
            labels = cv2.medianBlur(np.kron(labels, np.ones((3, 3))).astype(np.uint8), 3)
        labels = labels.astype(np.int32)
        for diagonal in (False, True):
            want = label(labels, background=0, connectivity=1 + diagonal)
            runs = runs_of(labels).pieces(diagonal)
            drawn = runs.draw(runs.labels, np.zeros_like(labels))
            pairs = np.unique(np.stack([want, drawn]).reshape(2, -1), axis=1)
            assert pairs.shape[1] == len(np.unique(want)) == len(np.unique(drawn))
        runs = runs_of(labels).pieces()
        drawn = runs.draw(runs.labels, np.zeros_like(labels))
        for k, holes in enumerate(runs.holes()):
            rest = label(np.pad(drawn, 1) != k + 1, connectivity=1).max()
            assert holes == rest - 1
            met[int(holes > 0)] += 1
    assert met.min() > 20


def test_runs_of_bands_are_those_of_the_image(monkeypatch):
    labels = np.random.default_rng(3).integers(-1, 3, (37, 20)).astype(np.int32)
    whole, mask = runs_of(labels), runs_of(labels > 0)
    assert whole.areas().tolist() == [int((labels == k).sum()) for k in (1, 2)]
    monkeypatch.setattr(runs, "_BAND_PX", 100)
    for one, other in ((whole, runs_of(labels)), (mask, runs_of(labels > 0))):
        for name in ("starts", "ends", "labels"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (1, 1)])
def test_an_image_without_labels_has_no_runs(shape):
    labels = np.zeros(shape, np.int32)
    assert compact(labels)[0].shape == largest_pieces(labels).shape == shape
    assert len(runs_of(labels).pieces().holes()) == 0


def test_nuclei_are_the_largest_pieces_without_holes():
    rng = np.random.default_rng(0)
    for i in range(100):
        noise = rng.integers(0, 4, rng.integers(1, 12, 2))
        labels = np.kron(noise, np.ones((2, 2))).astype(np.int32)
        found = nuclei_of(runs_of(labels), labels.shape, min_area=1 + i % 12)
        for k in range(1, found.max() + 1):
            mask = np.pad(found == k, 1)
            assert label(mask, connectivity=1).max() == 1
            assert mask.sum() >= 1 + i % 12
            holes = label(~mask, connectivity=1)
            assert not ((holes != holes[0, 0]) & ~mask & (np.pad(found, 1) == 0)).any()
        kept = [labels[found == k] for k in range(1, found.max() + 1)]
        ids = [int(values[values > 0].min()) for values in kept]  # a hole adds background only
        assert ids == sorted(ids)


def test_flood_agrees_with_the_reference_watershed():
    rng = np.random.default_rng(1)
    height = cv2.GaussianBlur(rng.random((256, 256)).astype(np.float32), (0, 0), 5)
    height = (height - height.min()) / np.ptp(height)
    levels = np.rint(255 * (1 - height)).astype(np.uint8)
    mask = height > 0.4
    markers = cv2.connectedComponents((height > 0.6).view(np.uint8))[1].astype(np.int32)
    flooded = flood(height, runs_of(markers), runs_of(mask))
    ours = flooded.draw(flooded.labels, np.zeros_like(markers))
    reference = watershed(levels, markers, mask=mask)
    assert ((ours > 0) == (reference > 0)).all()
    assert (ours == reference).mean() > 0.99  # the order of equal pixels is free


def test_peaks_stay_apart_by_the_height_of_the_pass():
    y, x = np.mgrid[:40, :80].astype(np.float32)
    tall, low = np.hypot(y - 20, x - 20) / 20, np.hypot(y - 20, x - 50) / 20
    heights = np.clip(np.maximum(1 - tall, 0.8 - low), 0, 1)  # peaks of 1 and 0.8, pass at 0.15
    runs_ = runs_of(heights > 0.1)
    for rise, count in ((0.6, 2), (0.7, 1), (1.0, 1)):
        found = peaks(heights, runs_, rise, 20)
        assert set(found.labels.tolist()) == set(range(1, count + 1))
    assert set(peaks(heights, runs_, 0.6, 600).labels.tolist()) == {1}  # too few pixels
    apart = peaks(heights, runs_, 0.6, 20)
    drawn = apart.draw(apart.labels, np.zeros(heights.shape, np.int32))
    assert (drawn[20, 20], drawn[20, 50]) in ((1, 2), (2, 1))
    assert heights[drawn > 0].min() > 0.14  # peaks end at the pass
    flooded = flood(heights, apart, runs_)
    assert flooded.lengths.sum() == runs_.lengths.sum()


def test_as_many_peaks_as_h_maxima():
    rng = np.random.default_rng(5)
    met = set()
    for _ in range(30):
        heights = cv2.GaussianBlur(rng.random((40, 40)).astype(np.float32), (0, 0), 2)
        heights = (heights - heights.min()) / np.ptp(heights)
        inside = heights > 0.35
        levels = np.where(inside, 255 - np.rint(255 * (1 - heights)), 0).astype(np.int32)
        for rise in (0.05, 0.1, 0.2, 0.3):
            found = peaks(heights, runs_of(inside), rise, 1)
            drawn = found.draw(found.labels, np.zeros((40, 40), np.int32))
            domes = label(h_maxima(levels, round(255 * rise), np.ones((3, 3))), connectivity=2)
            tops = {}  # peak -> heights of the maxima in it
            for k in range(1, domes.max() + 1):
                (peak,) = np.unique(drawn[domes == k])
                tops.setdefault(int(peak), set()).add(int(levels[domes == k].max()))
            assert sorted(tops) == list(range(1, drawn.max() + 1))
            assert all(len(equal) == 1 for equal in tops.values())  # equal maxima are both marked
            met.add(len(tops))
    assert len(met) > 10


def test_centroid_of_an_outline_far_from_the_origin():
    square = np.array([[0, 0], [2, 0], [2, 2], [0, 2]]) + 1e6
    assert centroids_xy(square, np.array([0, 4])).tolist() == [[1e6 + 1, 1e6 + 1]]


def test_label_that_is_not_there_has_an_empty_outline():
    xy, offsets, _ = trace(np.array([[0, 2]], np.int32))
    assert offsets.tolist() == [0, 0, 4]
    assert xy.tolist() == [[1.5, 0.0], [2.0, 0.5], [1.5, 1.0], [1.0, 0.5]]


def test_empty_image_has_no_outlines():
    xy, offsets, boxes = trace(np.zeros((5, 5), np.int32))
    assert xy.shape == (0, 2)
    assert offsets.tolist() == [0]
    assert boxes.shape == (0, 4)
    assert boxes_areas(np.zeros((5, 5), np.int32), 0)[1].size == 0

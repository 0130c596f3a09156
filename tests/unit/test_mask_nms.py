"""Boxes and masks → nuclei."""

import cv2
import numpy as np
import pytest

from nucleate.evaluation.metrics.instance import matches
from nucleate.evaluation.metrics.matching import overlap
from nucleate.geometry.labels import boxes_areas, compact
from nucleate.geometry.outlines import paint
from nucleate.inference.backends import Model
from nucleate.inference.pipeline import EngineOptions
from nucleate.inference.segment import find_nuclei
from nucleate.mask_nms import mask_nms
from nucleate.postprocess import DECODERS, flat
from nucleate.readers.array import ArraySource
from tests.conftest import oracle_card, painted
from tests.synthetic import scattered, tissue

THRESHOLDS = {"score": 0.5, "mask": 0.5, "overlap": 0.5, "min_area": 1}


def detections(labels, score=0.9):
    """Return boxes, scores and masks of 28 × 28 as a perfect detector would."""
    labels, old = compact(labels)
    boxes, _ = boxes_areas(labels, len(old))
    masks = np.zeros((len(old), 28, 28), np.float32)
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        mask = (labels[y0:y1, x0:x1] == i + 1).astype(np.float32)
        masks[i] = cv2.resize(mask, (28, 28), interpolation=cv2.INTER_LINEAR)
    return {
        "boxes": boxes.astype(np.float32).reshape(-1, 4),
        "scores": np.full(len(old), score, np.float32),
        "masks": masks,
    }


class DetectorOracle:
    """Reads the labels that are painted on an image, and answers with boxes and masks."""

    about = "oracle"

    def __call__(self, batch):
        labels = batch.astype(np.int32) @ np.array([1, 256, 65536], np.int32)
        return {k: v[None] for k, v in detections(labels[0]).items()}


def _oracle(**thresholds):
    card = oracle_card(heads=["instances"], decoder="mask_nms", thresholds=thresholds)
    return Model(card, DetectorOracle())


def test_perfect_detections_give_the_nuclei_back():
    _, labels = tissue(512, 512, 200, 3)
    found = flat(mask_nms(detections(labels), THRESHOLDS, labels.shape))
    tp, fp, fn, iou = matches(overlap(labels, found), 0.5)
    assert fn <= 0.02 * (tp + fn)
    assert fp == 0 or fp <= 0.02 * tp
    assert iou / tp > 0.93


def test_squares_come_back_exactly():
    labels = scattered(96, 96, 12, 7)
    found = mask_nms(detections(labels), THRESHOLDS, labels.shape)
    assert len(found) == 1
    assert (found[0].labels > 0).tolist() == (labels > 0).tolist()
    assert len(found[0].scores) == labels.max()


def test_more_than_1800_nuclei_in_one_tile():
    labels = scattered(1024, 1024, 20, 14)
    assert labels.max() > 1800
    found = find_nuclei(ArraySource(painted(labels), 0.25), _oracle(), None, EngineOptions(2048))
    assert len(found.nuclei) == labels.max()


@pytest.mark.parametrize("tile_px", [384, 512, 2048])
def test_nuclei_on_the_border_of_tiles_are_found_once(tile_px):
    _, labels = tissue(900, 700, 300, 5)
    source = ArraySource(painted(labels), 0.25)
    found = find_nuclei(source, _oracle(min_area=10.0), None, EngineOptions(tile_px)).nuclei
    whole = find_nuclei(source, _oracle(min_area=10.0), None, EngineOptions(4096)).nuclei
    assert len(found) == len(whole)
    pred = paint(found, labels.shape)
    tp, fp, fn, _ = matches(overlap(paint(whole, labels.shape), pred), 0.9)
    assert fp == fn == 0
    assert tp == len(whole)


def test_nothing_found():
    empty = {
        "boxes": np.zeros((0, 4), np.float32),
        "scores": np.zeros(0, np.float32),
        "masks": np.zeros((0, 28, 28), np.float32),
    }
    layers = mask_nms(empty, THRESHOLDS, (5, 7))
    assert [layer.labels.shape for layer in layers] == [(5, 7)]
    assert flat(layers).max() == 0
    blank = ArraySource(np.zeros((300, 200, 3), np.uint8), 0.25)
    assert len(find_nuclei(blank, _oracle(), None, EngineOptions()).nuclei) == 0


def test_of_two_that_are_the_same_the_higher_stays():
    maps = detections(scattered(24, 24, 24, 10))
    twice = {name: np.concatenate([m, m]) for name, m in maps.items()}
    twice["scores"] = np.array([0.6, 0.8], np.float32)
    layers = mask_nms(twice, THRESHOLDS, (24, 24))
    assert [layer.scores.tolist() for layer in layers] == [[pytest.approx(0.8)]]


def test_overlapping_nuclei_survive_whole_as_polygons():
    """The more certain one one keeps the pixel in a label image; the outlines of both are whole."""
    maps = {
        "boxes": np.array([[2, 2, 12, 12], [8, 2, 18, 12], [14, 2, 24, 12]], np.float32),
        "scores": np.array([0.7, 0.9, 0.8], np.float32),
        "masks": np.ones((3, 28, 28), np.float32),
    }
    layers = mask_nms(maps, THRESHOLDS, (14, 26))
    areas = sorted(int((layer.labels == i + 1).sum()) for layer in layers
                   for i in range(len(layer.scores)))  # fmt: skip
    assert areas == [100, 100, 100]
    drawn = flat(layers)
    assert sorted(np.bincount(drawn.ravel())[1:].tolist()) == [60, 60, 100]

    class Fixed:
        about = "fixed"

        def __call__(self, batch):
            return {name: m[None] for name, m in maps.items()}

    card = oracle_card(heads=["instances"], decoder="mask_nms", thresholds={})
    image = ArraySource(np.zeros((14, 26, 3), np.uint8), 0.25)
    nuclei = find_nuclei(image, Model(card, Fixed()), 0.25, EngineOptions()).nuclei
    assert nuclei.features["area_um2"].tolist() == pytest.approx([100 / 16] * 3)
    assert sorted(nuclei.boxes_xyxy[:, 0].tolist()) == [2, 8, 14]
    assert sorted(np.bincount(paint(nuclei, (14, 26)).ravel())[1:].tolist()) == [60, 60, 100]


@pytest.mark.parametrize(
    "box",
    [
        [np.nan, 0, 5, 5], [5, 5, 5, 9], [9, 9, 2, 2], [-20, -20, -5, -5], [40, 40, 60, 60],
        [0, 0, np.inf, 5],
    ],
)  # fmt: skip
def test_boxes_that_hold_no_pixel_are_left_out(box):
    maps = {
        "boxes": np.array([box], np.float32),
        "scores": np.ones(1, np.float32),
        "masks": np.ones((1, 28, 28), np.float32),
    }
    assert flat(mask_nms(maps, THRESHOLDS, (20, 20))).max() == 0


def test_a_box_that_reaches_out_of_the_image_is_cut():
    maps = {
        "boxes": np.array([[-5, -5, 5, 5]], np.float32),
        "scores": np.ones(1, np.float32),
        "masks": np.ones((1, 28, 28), np.float32),
    }
    assert int((flat(mask_nms(maps, THRESHOLDS, (20, 20))) > 0).sum()) == 25


def test_thresholds_do_what_they_say():
    decoder = DECODERS["mask_nms"]
    assert decoder.grid.keys() <= decoder.defaults.keys()
    maps = detections(scattered(48, 48, 24, 10), score=0.4)
    assert flat(mask_nms(maps, THRESHOLDS, (48, 48))).max() == 0
    assert flat(mask_nms(maps, {**THRESHOLDS, "score": 0.3}, (48, 48))).max() == 4
    assert flat(mask_nms(maps, {**THRESHOLDS, "score": 0.3, "min_area": 101}, (48, 48))).max() == 0

"""Average precision against pycocotools, the reference implementation."""

import contextlib
import io

import numpy as np
import pytest

from nucleate.annotations.coco_masks import outline_counts, pixels_of, recorded, run_lengths
from nucleate.evaluation.metrics.coco import LIMITS, Records, average_precision
from nucleate.geometry.outlines import rasterise, trace
from nucleate.types import Frame, Instances
from tests.synthetic import tissue


def table(labels, scores, shift=(0, 0)):
    """Return the nuclei of a label image as a detector's, moved by `shift` pixels."""
    xy, offsets, boxes = trace(labels)
    count = len(offsets) - 1
    return Instances(
        ids=np.arange(1, count + 1),
        coords_xy=xy + np.array(shift, np.float32),
        offsets=offsets,
        boxes_xyxy=(boxes + np.tile(shift, 2)).astype(np.float32),
        scores=np.asarray(scores, np.float32)[:count],
        classes=np.zeros(count, np.int16),
        frame=Frame(labels.shape[1], labels.shape[0]),
    )


def random_records(seed, images=3, crowd=True):
    """Return truth, and detections that are shifted, missed, invented, doubled, unsure."""
    rng = np.random.default_rng(seed)
    records = Records()
    for i in range(images):
        _, truth = tissue(300, 340, 120, seed * 10 + i)
        _, other = tissue(300, 340, 30, seed * 10 + i + 5)
        near = table(truth, rng.random(400), rng.integers(-3, 4, 2))
        found = [near.take(rng.random(len(near)) < 0.8), table(other, rng.random(400) * 0.5)]
        found.append(near.take(rng.random(len(near)) < 0.2))
        ignore = np.zeros(truth.shape, bool)
        ignore[:80, :90] = crowd
        nuclei = Instances.concatenate(found, near.frame)
        records.add(truth, ignore if crowd else None, nuclei)
    return records


def pycoco(records, kind):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        true = COCO()
        true.dataset = {
            "images": records.images, "annotations": records.truth, "info": {},
            "categories": [{"id": 1, "name": "nucleus"}],
        }  # fmt: skip
        true.createIndex()
        other = "segmentation" if kind == "bbox" else "bbox"
        found = [
            {k: v for k, v in entry.items() if k not in (other, "area")} for entry in records.found
        ]
        run = COCOeval(true, true.loadRes(found), kind)
        run.params.maxDets = list(LIMITS)
        run.evaluate()
        run.accumulate()
    return run.eval["precision"], run.eval["recall"]


def _mean(values):
    return values[values > -1].mean() if (values > -1).any() else np.nan


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))]
)
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_the_same_as_pycocotools(seed, kind):
    records = random_records(seed, crowd=seed % 2 == 0)
    assert max(len([r for r in records.found if r["image_id"] == i]) for i in (1, 2, 3)) > 100
    mine = average_precision(records)[kind]
    precision, recall = pycoco(records, kind)
    for m, limit in enumerate(LIMITS):
        got = mine[str(limit)]
        for a, area in enumerate(("", "_small", "_medium", "_large")):
            np.testing.assert_allclose(got[f"AP{area}"], _mean(precision[..., a, m]), atol=1e-9)
            np.testing.assert_allclose(got[f"AR{area}"], _mean(recall[..., a, m]), atol=1e-9)
        np.testing.assert_allclose(got["AP50"], _mean(precision[0, :, 0, 0, m]), atol=1e-9)
        np.testing.assert_allclose(got["AP75"], _mean(precision[5, :, 0, 0, m]), atol=1e-9)
    assert mine["1000"]["AP"] > mine["100"]["AP"] > 0.01


def test_perfect_detections_have_an_ap_of_1():
    _, truth = tissue(256, 256, 60, 1)
    records = Records()
    records.add(truth, None, table(truth, np.linspace(0.2, 1, 200)))
    found = average_precision(records)
    assert found["bbox"]["1000"]["AP"] == pytest.approx(1.0)
    assert found["segm"]["1000"]["AP"] == pytest.approx(1.0)
    assert found["segm"]["1000"]["AR"] == pytest.approx(1.0)


def test_without_truth_there_is_no_ap_and_without_detections_it_is_0():
    empty = Instances.empty(Frame(8, 8))
    records = Records()
    records.add(np.zeros((8, 8), np.int32), None, empty)
    assert np.isnan(average_precision(records)["segm"]["100"]["AP"])
    records.add(np.ones((8, 8), np.int32), None, empty)
    assert average_precision(records)["bbox"]["100"]["AP"] == 0
    assert np.isnan(average_precision(records)["bbox"]["100"]["AP_large"])
    assert np.isnan(average_precision(Records())["bbox"]["100"]["AP"])


def test_run_lengths_of_an_outline_are_those_of_its_pixels():
    _, labels = tissue(90, 70, 25, 4)
    xy, offsets, _ = trace(labels)
    every = run_lengths(rasterise(xy, offsets, labels.shape)[0])
    for row in range(len(offsets) - 1):
        outline = xy[offsets[row] : offsets[row + 1]]
        assert outline_counts(outline, *labels.shape) == every[row + 1]
    outside = np.array([[100, 100], [101, 100], [101, 101]], np.float32)
    assert outline_counts(outside, 9, 9) == [81]


def test_masks_are_those_of_pycocotools():
    from pycocotools import mask as coco_mask

    _, labels = tissue(90, 70, 25, 5)
    for label, counts in run_lengths(labels).items():
        mine = recorded(counts, labels.shape)
        theirs = coco_mask.encode(np.asfortranarray(labels == label, dtype=np.uint8))
        assert mine["segmentation"]["counts"] == theirs["counts"].decode()
        assert mine["bbox"] == coco_mask.toBbox(theirs).tolist()
        assert mine["area"] == coco_mask.area(theirs)
        at = np.flatnonzero((labels == label).T)
        np.testing.assert_array_equal(pixels_of(mine["segmentation"], *labels.shape), at)


@pytest.mark.parametrize("text", ["", "1", "13o", "o" * 40, "1N", "17", "13" * 1000, "\0", "é"])
def test_text_that_no_mask_has_is_refused(text):
    with pytest.raises(ValueError, match=r"\w"):
        pixels_of({"size": [2, 2], "counts": text}, 2, 2)

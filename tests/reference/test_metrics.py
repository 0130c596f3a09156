"""Every metric against an independent transcription of its definition, and the known traps."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nucleate.errors import InputError
from nucleate.evaluation.metrics import instance, pixel
from nucleate.evaluation.metrics.matching import assign, overlap
from nucleate.evaluation.report import Report, mean_interval
from nucleate.evaluation.score import METRICS, score_labels
from tests.errors import says
from tests.reference import slow
from tests.synthetic import scattered, tissue


def _images(max_id=5):
    grid = st.lists(
        st.lists(st.integers(0, max_id), min_size=7, max_size=7), min_size=5, max_size=5
    )
    return grid.map(lambda rows: np.array(rows, np.int32))


def _same(a, b):
    return (math.isnan(a) and math.isnan(b)) or a == pytest.approx(b, abs=1e-12)


@settings(max_examples=300, deadline=None)
@given(_images(), _images())
def test_every_metric_agrees_with_its_definition(truth, pred):
    table = overlap(truth, pred)
    assert _same(instance.aji(table), slow.aji(truth, pred))
    assert _same(instance.aji_plus(table), slow.aji_plus(truth, pred))
    for ours, theirs in zip(
        instance.panoptic(*instance.matches(table, 0.5)), slow.panoptic(truth, pred), strict=True
    ):
        assert _same(ours, theirs)
    assert _same(pixel.confusion(truth, pred).dice, slow.dice(truth, pred))


@pytest.mark.parametrize(
    ("array", "remedy"),
    [
        (np.array([[0, -1]]), "Renumber"),
        (np.array([[0.0, 1.0]]), "integer type"),
        (np.array([[False, True]]), "connected components"),
    ],
    ids=["negative", "floats", "mask"],
)
def test_what_is_no_label_image_is_refused(array, remedy):
    good = np.array([[0, 1]])
    for pair in ((array, good), (good, array)):
        with pytest.raises(InputError, match=remedy):
            score_labels(*pair)


def test_a_tie_of_iou_is_broken_by_shared_pixels():
    """Nucleus 2 overlaps both predictions at IoU 1/8; the one that shares two pixels counts."""
    truth = [[0] * 7, [0, 0, 0, 2, 0, 0, 0], [0, 2, 2, 0, 0, 0, 0], [0] * 6 + [1],
             [2, 0, 0, 0, 2, 2, 2]]  # fmt: skip
    pred = [[0] * 5 + [2, 2], [0] * 4 + [2, 2, 2], [2, 1, 2, 0, 0, 0, 2], [0] * 7,
            [0, 1, 2, 2, 0, 0, 2]]  # fmt: skip
    table = overlap(np.array(truth, np.int32), np.array(pred, np.int32))
    assert instance.aji_plus(table) == pytest.approx(2 / 19)


@settings(max_examples=200, deadline=None)
@given(_images(), _images())
def test_bounds_that_hold_for_any_image(truth, pred):
    m = score_labels(truth, pred).metrics
    if truth.any() or pred.any():
        assert m["aji"] <= m["iou"] + 1e-12 <= m["dice"] + 2e-12
        assert m["f1_70"] <= m["f1_50"] + 1e-12


@settings(max_examples=100, deadline=None)
@given(_images(), _images(), st.permutations([1, 2, 3, 4, 5]))
def test_numbers_of_nuclei_carry_no_meaning(truth, pred, order):
    table = np.array([0, *(1000 * i for i in order)], np.int32)
    one, other = score_labels(truth, pred).metrics, score_labels(truth, table[pred]).metrics
    tied = {"aji", "aji_plus"}  # ties in IoU go to the lower id
    for name in METRICS:
        if name not in tied:
            assert _same(one[name], other[name]), name


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=9),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=9),
)
def test_detection_agrees_with_its_definition(a, b):
    a_xy, b_xy = np.array(a, float).reshape(-1, 2), np.array(b, float).reshape(-1, 2)
    assert instance.detection(a_xy, b_xy, 8.0) == slow.detection(a_xy, b_xy, 8.0)


@pytest.mark.parametrize("seed", range(3))
def test_real_sized_images_agree_too(seed):
    _, truth = tissue(150, 150, 40, seed)
    pred = np.roll(truth, (1, 2), (0, 1))
    pred[pred == 3] = 4  # a merge
    pred[:, 80] = 0  # cuts
    table = overlap(truth, pred)
    assert instance.aji(table) == pytest.approx(slow.aji(truth, pred))
    assert instance.aji_plus(table) == pytest.approx(slow.aji_plus(truth, pred))
    assert instance.panoptic(*instance.matches(table, 0.5)) == pytest.approx(
        slow.panoptic(truth, pred)
    )
    assert pixel.boundary_scores(truth, pred)[1] == pytest.approx(slow.hd95(truth, pred), abs=1e-3)


def test_perfect_prediction_scores_one_everywhere():
    _, labels = tissue(100, 100, 20)
    m = score_labels(labels, labels).metrics
    for name in METRICS:
        lower_is_better = name == "hd95_px" or name.endswith("count_error")
        assert m[name] == (0.0 if lower_is_better else 1.0), name


def test_both_empty_is_undefined_and_one_empty_is_zero():
    empty, full = np.zeros((9, 9), np.int32), np.zeros((9, 9), np.int32)
    full[2:5, 2:5] = 1
    for name in ("dice", "iou", "aji", "aji_plus", "dq", "pq", "f1_50", "f1_detection",
                 "boundary_f"):  # fmt: skip
        assert math.isnan(score_labels(empty, empty).metrics[name]), name
        assert score_labels(full, empty).metrics[name] == 0.0, name
        assert score_labels(empty, full).metrics[name] == 0.0, name


def test_iou_of_exactly_one_half_does_not_match():
    truth, pred = np.array([[1, 1, 1, 0]], np.int32), np.array([[0, 1, 1, 1]], np.int32)
    assert overlap(truth, pred).iou.tolist() == [0.5]
    assert instance.matches(overlap(truth, pred), 0.5) == (0, 1, 1, 0.0)


def test_one_prediction_over_two_nuclei_may_serve_both_in_aji():
    truth, pred = np.array([[1, 1, 2]], np.int32), np.array([[1, 1, 1]], np.int32)
    # AJI: nucleus 1 takes it (2 / 3), nucleus 2 takes it too (1 / 3): C = 3, U = 6
    assert instance.aji_counts(overlap(truth, pred)) == (3, 6)
    assert instance.aji_plus_counts(overlap(truth, pred)) == (2, 4)


def test_missed_nuclei_are_not_free():
    truth = scattered(64, 64)
    pred = truth.copy()
    pred[pred % 2 == 0] = 0
    kept = (pred > 0).sum() / (truth > 0).sum()
    assert instance.aji(overlap(truth, pred)) == pytest.approx(kept)


def test_image_without_background_and_with_gaps_in_ids():
    truth, pred = np.full((4, 4), 900, np.int32), np.full((4, 4), 7, np.int32)
    pred[:, 2:] = 70_001
    # the halves tie at IoU 0.5: one is taken, the other adds its 8 pixels
    assert instance.aji_counts(overlap(truth, pred)) == (8, 24)


def test_more_than_65535_nuclei():
    labels = scattered(2200, 2200)
    assert labels.max() > 65_535
    m = score_labels(labels, labels)
    assert m.counts["tp_50"] == labels.max()
    assert m.metrics["f1_detection"] == 1.0


def test_ignored_pixels_count_nowhere():
    truth, pred = np.zeros((6, 6), np.int32), np.zeros((6, 6), np.int32)
    truth[:2, :2], pred[4:, 4:] = 1, 1
    pred[:2, :2] = 2
    ignore = np.zeros((6, 6), bool)
    ignore[4:, 4:] = True
    m = score_labels(truth, pred, ignore).metrics
    assert m["aji"] == m["pq"] == m["dice"] == 1.0


def test_sizes_must_agree():
    with pytest.raises(InputError, match=says("3 × 2", "2 × 2")):
        overlap(np.zeros((2, 2), np.int32), np.zeros((2, 3), np.int32))


def test_assignment_is_optimal_across_parts():
    rng = np.random.default_rng(0)
    from scipy.optimize import linear_sum_assignment

    for _ in range(20):
        gain = rng.random((12, 9)) * (rng.random((12, 9)) < 0.25)
        pairs = np.argwhere(gain > 0)
        values = gain[gain > 0]
        chosen = assign(pairs, values)
        assert len(set(pairs[chosen, 0])) == len(set(pairs[chosen, 1])) == len(chosen)
        rows, columns = linear_sum_assignment(-gain)
        assert values[chosen].sum() == pytest.approx(gain[rows, columns].sum())


def test_pooled_is_not_the_mean():
    _, a = tissue(80, 80, 15, seed=1)
    _, b = tissue(80, 80, 3, seed=2)
    worse = np.roll(b, 3, 0)
    report = Report([score_labels(a, a, name="a"), score_labels(b, worse, name="b")])
    mean, pooled = report.means()["aji"]["mean"], report.pooled()["aji"]
    assert mean == pytest.approx((1 + report.images[1].metrics["aji"]) / 2)
    counts = [p.counts for p in report.images]
    assert pooled == pytest.approx(
        sum(c["aji_c"] for c in counts) / sum(c["aji_u"] for c in counts)
    )
    assert mean != pytest.approx(pooled, abs=1e-3)


def test_means_leave_out_undefined_images_and_say_how_many():
    empty = np.zeros((5, 5), np.int32)
    _, labels = tissue(60, 60, 5)
    report = Report([score_labels(empty, empty), score_labels(labels, labels)])
    assert report.means()["aji"] == {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 1}


def test_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(200):
        m = mean_interval(rng.normal(0.6, 0.1, 30).tolist())
        hits += m["low"] <= 0.6 <= m["high"]
    assert 0.88 <= hits / 200 <= 0.99


def test_report_files_hold_no_nan(tmp_path):
    import csv
    import json

    empty = np.zeros((5, 5), np.int32)
    _, labels = tissue(60, 60, 5)
    Report(
        [
            score_labels(empty, empty, name="e"),
            score_labels(labels, labels, name="x", organ="liver"),
        ]
    ).write(tmp_path)
    content = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert content["per_organ"]["liver"]["aji"] == 1.0
    rows = list(csv.DictReader((tmp_path / "per_image.csv").read_text().splitlines()))
    assert [row["aji"] for row in rows] == ["", "1.0"]


@pytest.mark.data
def test_human_agreement_on_cryonuseg(real_data):
    """The published layout's annotators agree at AJI 0.541 and PQ 0.509 (mean per image)."""
    from nucleate.annotations.label_images import read_labels

    base = real_data / "CryoNuSeg"
    one = sorted(base.glob("Annotator 1 (biologist)/*/*mask*modify*/*.tif")) or sorted(
        base.glob("Annotator 1 (biologist)/*/*label masks modify*/*.tif")
    )
    two = sorted(base.glob("Annotator 2*/*/*label masks modify*/*.tif"))
    assert len(one) == len(two) == 30
    scores = [score_labels(read_labels(a), read_labels(b)) for a, b in zip(one, two, strict=True)]
    means = Report(scores).means()
    assert means["aji"]["mean"] == pytest.approx(0.541, abs=0.002)
    assert means["pq"]["mean"] == pytest.approx(0.509, abs=0.002)

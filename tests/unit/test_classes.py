"""Metrics per class."""

import numpy as np
import pytest

from nucleate.evaluation.metrics.classes import Typed, compare_classes, per_class

TRUTH = np.array([[1, 1, 0, 2, 2, 0, 3, 3]], np.int32)


def _score(classes, ignore=None):
    truth = Typed(TRUTH, np.array([0, 1, 1], np.int16))
    pred = Typed(TRUTH, np.array(classes, np.int16))
    return compare_classes(truth, pred, ["a", "b"], ignore, 1.0)


def test_right_and_wrong_classes():
    right = per_class([_score([0, 1, 1])])
    assert right["a"]["pq"] == right["b"]["pq"] == right["b"]["f1_detection"] == 1
    wrong = per_class([_score([0, 0, 1])])  # nucleus 2 is said to be a
    assert wrong["a"]["pq"] == pytest.approx(1 / 1.5)  # 1 right, 1 false
    assert wrong["b"]["pq"] == pytest.approx(1 / 1.5)  # 1 right, 1 missed
    assert wrong["b"]["nuclei"] == 2


def test_mean_over_images_and_pooled():
    found = per_class([_score([0, 1, 1]), _score([0, 0, 1])])
    assert found["a"]["pq"] == pytest.approx((1 + 1 / 1.5) / 2)
    assert found["a"]["pq_pooled"] == pytest.approx(2 / 2.5)


def test_a_class_that_is_nowhere_is_left_out_of_its_mean():
    empty = Typed(np.zeros((1, 4), np.int32), np.zeros(0, np.int16))
    counts = compare_classes(empty, empty, ["a"], None, 1.0)
    found = per_class([counts, _score([0, 1, 1])])
    assert found["a"]["images"] == 1
    assert np.isnan(per_class([counts])["a"]["pq"])
    assert per_class([{"tp_50": 3}]) == {}


def test_ignored_nuclei_do_not_count():
    found = per_class([_score([0, 0, 1], TRUTH == 2)])
    assert found["a"]["pq"] == found["b"]["pq"] == 1
    assert found["b"]["nuclei"] == 1


def test_typed_and_untyped_images_are_written_together(tmp_path):
    from nucleate.evaluation.report import Report
    from nucleate.evaluation.score import score_labels

    plain = score_labels(TRUTH, TRUTH, name="plain")
    typed = score_labels(TRUTH, TRUTH, name="typed")
    typed.counts.update(_score([0, 1, 1]))
    for order in ([plain, typed], [typed, plain]):
        Report(order).write(tmp_path)
        header, first, second = (tmp_path / "per_image.csv").read_text().splitlines()
        assert "class:a:tp" in header
        assert len(first.split(",")) == len(second.split(",")) == len(header.split(","))

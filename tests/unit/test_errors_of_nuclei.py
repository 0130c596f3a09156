"""What went wrong with each nucleus, and how it is drawn."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nucleate.evaluation.error_overlays import outlined
from nucleate.evaluation.metrics.matching import overlap
from nucleate.evaluation.metrics.nucleus_errors import outcomes
from nucleate.evaluation.score import score_labels
from nucleate.geometry.palette import OUTCOME_RGB
from tests.synthetic import tissue

LABELS = arrays(np.int32, (7, 9), elements=st.integers(0, 4))


def _counts(truth, pred):
    return outcomes(overlap(np.array(truth, np.int32), np.array(pred, np.int32))).counts()


def test_a_small_nucleus_inside_a_large_prediction_that_matches_another_is_merged():
    # prediction 1 matches nucleus 1 (5 of 7 pixels) and swallows nucleus 2
    found = _counts([[1, 1, 1, 1, 1, 2, 2]], [[1, 1, 1, 1, 1, 1, 1]])
    assert (found["matched"], found["merged"], found["missed"]) == (1, 1, 0)


def test_a_nucleus_that_is_matched_is_not_split_by_crumbs():
    found = _counts([[1, 1, 1, 1, 1, 1]], [[1, 1, 1, 1, 2, 3]])
    assert (found["matched"], found["split"], found["spurious"]) == (1, 0, 0)


def test_half_covered_is_inaccurate_and_barely_touched_is_missed():
    assert _counts([[1, 1, 1, 1]], [[0, 0, 1, 1]])["inaccurate"] == 1
    found = _counts([[1, 1, 1, 1, 0, 0, 0, 0, 0]], [[0, 0, 0, 2, 2, 2, 2, 2, 2]])
    assert (found["missed"], found["spurious"]) == (1, 1)


@given(LABELS, LABELS)
def test_every_nucleus_has_one_outcome(truth, pred):
    table = overlap(truth, pred)
    found = outcomes(table).counts()
    spurious = found.pop("spurious")
    assert sum(found.values()) == len(table.truth_areas)
    assert spurious <= len(table.pred_areas) - found["matched"]
    score = score_labels(truth, pred)
    assert score.counts["matched"] == score.counts["tp_50"]


@given(LABELS)
def test_the_truth_itself_has_no_errors(labels):
    found = outcomes(overlap(labels, labels)).counts()
    assert sum(found.values()) == found["matched"]


def test_outlines_take_the_colour_of_their_outcome():
    image, truth = tissue(96, 96, 8)
    pred = np.where(truth == 2, 0, truth).astype(np.int32)
    drawn = outlined(image, truth, pred)
    assert drawn.shape == image.shape
    assert not np.array_equal(drawn, image)

    def has(name, where):
        close = np.abs(drawn[where].astype(int) - OUTCOME_RGB[name]).max(-1) < 40
        return bool(close.any())

    assert has("missed", truth == 2)
    assert has("matched", truth == 1)
    assert not has("missed", truth == 1)
    ignored = outlined(image, truth, pred, truth == 2)
    near = np.abs(ignored[truth == 2].astype(int) - OUTCOME_RGB["missed"]).max(-1)
    assert near.min() > 40

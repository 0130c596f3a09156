"""Outcome of each nucleus: matched, merged, split, inaccurate, missed or spurious."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nucleate.evaluation.metrics.matching import Overlap
from nucleate.types import Int8

TRUTH_OUTCOMES = ("matched", "merged", "split", "inaccurate", "missed")
PRED_OUTCOMES = ("matched", "part", "spurious")
MEANING = {
    "matched": "found",
    "merged": "drawn together with a neighbour",
    "split": "cut into pieces",
    "inaccurate": "found, but the outline is too far off",
    "missed": "not found",
    "part": "predicted on a true nucleus, but no match",
    "spurious": "predicted where there is none",
}


@dataclass(frozen=True, slots=True)
class Outcomes:
    """One outcome per nucleus, in the order of the overlap table (ascending ids).

    Attributes:
        truth: int8 (n,), indices into `TRUTH_OUTCOMES`.
        pred: int8 (m,), indices into `PRED_OUTCOMES`.
    """

    truth: Int8
    pred: Int8

    def counts(self) -> dict[str, int]:
        """Count the true nuclei by outcome, and the spurious predictions."""
        found = {name: int((self.truth == i).sum()) for i, name in enumerate(TRUTH_OUTCOMES)}
        return found | {"spurious": int((self.pred == PRED_OUTCOMES.index("spurious")).sum())}


def outcomes(table: Overlap) -> Outcomes:
    """Return the outcome of every true nucleus and every prediction.

    A pair matches above IoU 0.5. A prediction belongs to a nucleus that contains more than half of
    it, and swallows a nucleus of which it contains more than half. Nuclei without a match are:

    - merged: swallowed by a prediction that also swallows another nucleus;
    - split: two or more predictions belong to it;
    - inaccurate: one prediction belongs to it or swallows it, but the outline is too far off;
    - missed: none of these.

    Predictions without a match are spurious if they neither belong to nor swallow a nucleus; the
    others are parts of split, merged or inaccurate nuclei.

    Example:
        >>> from nucleate.evaluation.metrics.matching import overlap
        >>> truth = np.array([[1, 1, 2, 2, 0, 3, 3, 3, 3, 0, 0, 4]], np.int32)
        >>> pred_ = np.array([[1, 1, 1, 1, 0, 2, 2, 3, 3, 0, 4, 0]], np.int32)
        >>> outcomes(overlap(truth, pred_)).counts()
        {'matched': 0, 'merged': 2, 'split': 1, 'inaccurate': 0, 'missed': 1, 'spurious': 1}
    """
    n, m = len(table.truth_areas), len(table.pred_areas)
    left, right = table.pairs[:, 0], table.pairs[:, 1]
    matched = table.iou > 0.5
    belongs = 2 * table.shared > table.pred_areas[right]
    swallows = 2 * table.shared > table.truth_areas[left]
    truth, pred = np.full(n, 4, np.int8), np.full(m, 2, np.int8)
    near = belongs | swallows
    truth[left[near]] = 3
    pred[right[near]] = 1
    truth[np.bincount(left[belongs], minlength=n) > 1] = 2
    greedy = np.bincount(right[swallows], minlength=m) > 1
    truth[left[swallows & greedy[right]]] = 1
    truth[left[matched]], pred[right[matched]] = 0, 0
    return Outcomes(truth, pred)

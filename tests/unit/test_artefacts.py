"""Artefacts: drawn from the given chance alone, and none of them is a nucleus."""

import numpy as np
import pytest

from nucleate.artefacts.table import ARTEFACTS, settled, with_artefacts
from tests.synthetic import tissue

IMAGE, LABELS = tissue(160, 160, 50)
NOTHING = np.zeros(LABELS.shape, bool)


@pytest.mark.parametrize("name", sorted(ARTEFACTS))
def test_each_artefact_is_chance_alone_and_leaves_its_input(name):
    draw, before = ARTEFACTS[name][0], IMAGE.copy()
    changed = 0
    for seed in range(6):
        one, other = (draw(IMAGE, np.random.default_rng(seed), 4.0) for _ in range(2))
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
        assert one.image.dtype == np.uint8
        assert one.image.shape == IMAGE.shape
        assert one.hidden.dtype == one.vague.dtype == np.bool_
        assert not (one.hidden & one.vague).any()
        changed += not np.array_equal(one.image, IMAGE)
        # what is neither hidden nor vague still looks much as it did, but for blur, tint and light
        if name in ("keratin", "red_cells", "dust", "pale", "fold"):
            seen = ~one.hidden & ~one.vague
            assert not seen.any() or np.abs(one.image.astype(int) - IMAGE)[seen].mean() < 12
    assert changed >= 5
    np.testing.assert_array_equal(IMAGE, before)


@pytest.mark.parametrize("size", [(16, 16), (40, 90)])
@pytest.mark.parametrize("name", sorted(ARTEFACTS))
def test_any_size_and_resolution(name, size):
    image = np.full((*size, 3), 180, np.uint8)
    for seed, per_um in ((0, 4.0), (1, 1.0), (2, 8.0)):
        assert (
            ARTEFACTS[name][0](image, np.random.default_rng(seed), per_um).image.shape[:2] == size
        )


def test_plain_crops_hold_no_nuclei_and_count():
    drawn = ARTEFACTS["plain"][0](IMAGE, np.random.default_rng(0), 4.0)
    labels, ignore = settled(LABELS, ~NOTHING, drawn.hidden)
    assert not labels.any()
    assert not ignore.any()


def test_strong_blur_is_ignored_and_mild_blur_is_not():
    found = {bool(ARTEFACTS["blur"][0](IMAGE, np.random.default_rng(s), 4.0).vague.any())
             for s in range(12)}  # fmt: skip
    assert found == {True, False}


def test_a_nucleus_that_is_mostly_hidden_is_ignored():
    labels = np.zeros((10, 20), np.int32)
    labels[:, :10], labels[:, 10:] = 4, 9
    hidden = np.zeros((10, 20), bool)
    hidden[:, 4:10] = hidden[:, 10:14] = True  # 60 % of the one, 40 % of the other
    left, ignore = settled(labels, np.zeros_like(hidden), hidden)
    assert not left[hidden].any()
    assert ignore[:, :4].all()
    assert (left[:, 14:] == 9).all()
    assert not ignore[:, 4:].any()


def test_one_or_two_artefacts_keep_labels_and_image_in_step():
    for seed in range(20):
        image, labels, ignore = with_artefacts(IMAGE, LABELS, NOTHING, np.random.default_rng(seed))
        kept = labels > 0
        np.testing.assert_array_equal(labels[kept], LABELS[kept])
        assert image.shape == IMAGE.shape
        assert ignore.dtype == np.bool_

"""Images known again by their fingerprints: what counts as a copy, and what does not."""

import cv2
import numpy as np
import pytest

from nucleate.models.card import bundled_models, find_model, read_card
from nucleate.models.fingerprints import fingerprint, fingerprints, is_copy, seen_as
from tests.conftest import oracle_card
from tests.synthetic import tissue

IMAGES = [tissue(256, 320, 60, seed=seed)[0] for seed in range(6)]


def _jpeg(image, quality):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)


def _scaled(image, factor, way=cv2.INTER_AREA):
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=way)


@pytest.mark.parametrize(
    "change",
    [
        lambda i: i,
        lambda i: _jpeg(i, 75),
        lambda i: _jpeg(i, 50),
        lambda i: _scaled(i, 0.5),
        lambda i: _scaled(i, 2, cv2.INTER_CUBIC),
        lambda i: _jpeg(i[:128, :160], 75),
    ],
    ids=["same", "JPEG 75", "JPEG 50", "half", "twice", "quadrant"],
)
def test_copies_are_found_and_others_are_not(change):
    for number, image in enumerate(IMAGES):
        known = [fingerprints(other) for other in IMAGES[:number] + IMAGES[number + 1 :]]
        assert not is_copy(change(image), known)
        assert is_copy(change(image), [*known, fingerprints(image)])


def test_blank_images_are_copies_of_nothing():
    blank = np.full((64, 64, 3), 240, np.uint8)
    blank[3, 5] = 236
    assert fingerprint(blank) == fingerprints(blank) == ""
    assert not is_copy(blank, [fingerprints(image) for image in IMAGES])
    assert not is_copy(blank, [""])


def test_a_card_tells_how_an_image_was_seen():
    entry = {
        "groups": {"train": ["TCGA-AA-0001", "1"], "validation": ["TCGA-AA-0002"]},
        "fingerprints": {
            "train": [fingerprints(IMAGES[0])], "validation": [fingerprints(IMAGES[1])],
        },
    }  # fmt: skip
    card = oracle_card(training_data=[{"name": "a data set"}, entry])
    assert seen_as(card, "TCGA-AA-0001", None, own_names=False) == "trained on: its patient"
    assert seen_as(card, "TCGA-AA-0002", IMAGES[2]) == "chosen on: its patient"
    assert seen_as(card, "other", _jpeg(IMAGES[0], 75)) == "trained on: its pixels"
    assert seen_as(card, None, IMAGES[1]) == "chosen on: its pixels"
    assert seen_as(card, "1", None) == "trained on: its patient"
    assert seen_as(card, "1", None, own_names=False) is None  # a name that anyone may use
    assert seen_as(card, "other", IMAGES[2]) is None


@pytest.mark.parametrize("name", bundled_models())
def test_bundled_cards_list_every_image(name):
    printed = [e for e in read_card(find_model(name)).training_data if "fingerprints" in e]
    (own,) = [e for e in printed if "through" not in e]  # others list what only they have seen
    assert {part: len(texts) for part, texts in own["fingerprints"].items()} == {
        "train": own["trained_on"], "validation": len(own["validation"]),
    }  # fmt: skip


def test_bundled_cards_know_their_images_again(real_data):
    from nucleate.datasets.loading import list_entries

    card = read_card(find_model("mtl-small"))
    root = real_data / "MoNuSeg"
    for part, seen in (("MoNuSeg 2018 Training Data.zip", True), ("MoNuSegTestData.zip", False)):
        for entry in list_entries("monuseg", root / part)[:3]:
            image = _jpeg(entry.read().image, 75)
            assert (seen_as(card, None, image) is not None) == seen

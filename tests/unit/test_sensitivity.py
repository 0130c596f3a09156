"""Low and high sensitivity put the card's measured thresholds in their place."""

from dataclasses import replace

import numpy as np
import pytest

from nucleate import load_model, segment
from nucleate.errors import ConfigError
from nucleate.inference.backends import Model
from nucleate.inference.loading import at_sensitivity
from nucleate.postprocess import complete_thresholds
from tests.errors import says
from tests.synthetic import tissue

SHIFTS = {"low": {"foreground": 0.7}, "high": {"foreground": 0.2}}


@pytest.fixture(scope="module")
def model():
    bundled = load_model("mtl-small", device="cpu", threads=1)
    return Model(replace(bundled.card, sensitivity=SHIFTS), bundled.backend)


def test_only_the_thresholds_of_the_card_change(model):
    for name, shift in SHIFTS.items():
        card = at_sensitivity(model, name).card
        assert card.thresholds == {
            **complete_thresholds("watershed", model.card.thresholds),
            **shift,
        }
        assert replace(card, thresholds=model.card.thresholds) == model.card
    assert at_sensitivity(model, "normal") is model


def test_a_lower_foreground_finds_more_of_each_nucleus(model):
    image = tissue(256, 256, 40)[0]
    covered = [
        (segment(image, model, mpp=0.25, sensitivity=name).to_labels() > 0).sum()
        for name in ("low", "high")
    ]
    assert 0 < covered[0] < covered[1]


def test_thresholds_that_are_given_count_more(model):
    image = np.full((64, 64, 3), 255, np.uint8)
    assert len(segment(image, model, mpp=0.25, sensitivity="low", thresholds={"marker": 0.5})) == 0


def test_a_model_without_measured_thresholds_is_refused(model):
    bare = Model(replace(model.card, sensitivity={}), model.backend)
    with pytest.raises(ConfigError, match=says("low sensitivity", "thresholds")):
        at_sensitivity(bare, "low")
    with pytest.raises(ConfigError, match=says("sensitivity", "Known")):
        at_sensitivity(model, "medium")


def test_every_bundled_model_states_its_sensitivities():
    card = load_model("mtl-small", device="cpu", threads=1).card
    assert set(card.sensitivity) == {"low", "high"}
    assert all(set(shift) <= set(card.thresholds) for shift in card.sensitivity.values())


def test_the_command_passes_it_on(nucleate, tmp_path):
    from PIL import Image

    Image.fromarray(tissue(128, 128, 10)[0]).save(tmp_path / "a.png")
    words = ("segment", tmp_path / "a.png", "--mpp", "0.25", "-o", tmp_path / "out")
    assert nucleate(*words, "--sensitivity", "high")[0] == 0
    import json

    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    high = load_model("mtl-small", device="cpu", threads=1).card
    high = {**high.thresholds, **high.sensitivity["high"]}
    assert json.dumps(high)[1:-1] in json.dumps(summary)

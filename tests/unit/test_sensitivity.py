"""Low and high sensitivity put the card's measured thresholds in their place."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from nucleate import load_model, open_nuclei, segment, segment_files
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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["foreground"], "key=value"),
        (["foreground=[1]"], "number"),
        (["forground=0.4"], "no threshold 'forground'"),
        (["foreground=-1"], "at least 0"),
    ],
)
def test_a_wrong_threshold_is_one_sentence(nucleate, tmp_path, words, said):
    Image.fromarray(tissue(64, 64, 3)[0]).save(tmp_path / "a.png")
    code, _, errors = nucleate("segment", tmp_path / "a.png", "-o", tmp_path / "out", "--mpp", 0.25,
                               *(w for word in words for w in ("--threshold", word)))  # fmt: skip
    assert code == 2
    assert said in " ".join(errors.split())
    assert not (tmp_path / "out").exists()


def test_the_command_and_python_take_the_same_thresholds(nucleate, tmp_path, model):
    image, chosen = tissue(256, 256, 40)[0], {"foreground": 0.2, "ink": 1}
    Image.fromarray(image).save(tmp_path / "a.png")
    words = [w for name, value in chosen.items() for w in ("--threshold", f"{name}={value}")]
    code, _, _ = nucleate("segment", tmp_path / "a.png", "-o", tmp_path / "out", "--mpp", 0.25,
                          "--device", "cpu", "--formats", "parquet", *words)  # fmt: skip
    assert code == 0
    found = open_nuclei(tmp_path / "out" / "a.nuclei.parquet")
    assert {k: found.facts["job"]["thresholds"][k] for k in chosen} == chosen
    rows = segment_files(tmp_path / "a.png", tmp_path / "two", model, 0.25, thresholds=chosen)
    assert rows[0]["nuclei"] == found.count == len(segment(image, model, 0.25, thresholds=chosen))

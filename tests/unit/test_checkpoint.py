import json
import shutil

import numpy as np
import pytest

from nucleate import load_model
from nucleate.errors import ModelError
from nucleate.models.card import (
    BUNDLED,
    CARD,
    INT8,
    OPEN_MODEL,
    bundled_models,
    find_model,
    read_card,
)
from nucleate.postprocess import complete_thresholds
from nucleate.training.tune import mean_aji, tune_thresholds
from tests.errors import says

LICENCES = {"mtl-small": "CC-BY-NC-SA-4.0", "mtl-open": "CC-BY-4.0"}


def test_the_open_model_has_seen_only_data_that_permit_commercial_use():
    card = read_card(find_model(OPEN_MODEL))
    assert {d["licence"] for d in card.training_data if "name" in d} == {
        "CC-BY-4.0",
        "Apache-2.0",
        "CC0-1.0",
    }
    assert not any("through" in d for d in card.training_data)
    assert not card.recipe["teacher"]["models"]
    assert card.recipe["init"]["from"] is None


@pytest.mark.parametrize("name", bundled_models())
def test_bundled_model_is_complete_small_and_licensed(name):
    folder = find_model(name)
    card = read_card(folder)
    assert sum(f.stat().st_size for f in folder.iterdir()) <= 30e6
    assert card.licence == LICENCES[name]
    assert set(card.files) - {INT8} == {"model.onnx", "model.safetensors"}
    assert set(card.files) == {f.name for f in folder.iterdir()} - {CARD}
    assert card.recipe["data"]["root"] == "."
    assert all(len(digest) == 64 for digest in card.files.values())
    trained = card.training_data[-1]
    assert trained["validation"]
    assert (BUNDLED / "LICENSE").is_file()


@pytest.mark.parametrize("name", bundled_models())
def test_bundled_model_gives_the_same_maps_on_both_engines(name):
    from tests.synthetic import tissue

    image, _ = tissue(256, 320, 60)
    engines = [load_model(name, "cpu", b, "f32") for b in ("openvino", "torch")]
    maps = [model.backend(image[None]) for model in engines]
    for head in maps[0]:
        np.testing.assert_allclose(maps[0][head], maps[1][head], atol=1e-4)


def test_bf16_changes_the_maps_but_not_the_nuclei():
    from nucleate import segment
    from nucleate.evaluation.score import score_labels
    from nucleate.geometry.outlines import rasterise
    from tests.synthetic import tissue

    image, _ = tissue(256, 256, 40)
    labels = []
    for precision in ("f32", "bf16"):
        found = segment(image, load_model(device="cpu", precision=precision), mpp=0.25)
        labels.append(rasterise(found.coords_xy, found.offsets, image.shape[:2])[0])
    assert score_labels(*labels).metrics["aji"] > 0.9


def test_model_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match=says("'mtl-small'")):
        load_model("mtl-smol")
    with pytest.raises(ModelError, match=says("card.json")):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda c: "{", "not valid JSON"),
        (lambda c: "[]", "not a model card"),
        (lambda c: json.dumps({**c, "surprise": 1}), "not a model card"),
        (lambda c: json.dumps({k: v for k, v in c.items() if k != "mpp"}), "not a model card"),
        (lambda c: json.dumps({**c, "files": {}}), "has no model.onnx"),
        (lambda c: json.dumps({**c, "mpp": None}), "'mpp' of the card"),
        (lambda c: json.dumps({**c, "align_px": 0}), "'align_px' of the card"),
        (lambda c: json.dumps({**c, "halo_px": -64}), "'halo_px' of the card"),
        (lambda c: json.dumps({**c, "tile_px": 1 << 20}), "'tile_px' of the card"),
        (lambda c: json.dumps({**c, "tile_px": None}), "'tile_px' of the card"),
        (lambda c: json.dumps({**c, "thresholds": None}), "'thresholds' of the card"),
        (lambda c: json.dumps({**c, "heads": ["foreground"]}), "needs the head 'distance'"),
    ],
)
def test_card_that_is_none(tmp_path, spoil, said):
    shutil.copytree(find_model("mtl-small"), tmp_path / "m")
    path = tmp_path / "m" / CARD
    path.write_text(spoil(json.loads(path.read_text())))
    with pytest.raises(ModelError, match=said):
        load_model(tmp_path / "m", device="cpu")


def test_card_without_what_has_a_default(tmp_path):
    shutil.copytree(find_model("mtl-small"), tmp_path / "m")
    path = tmp_path / "m" / CARD
    card = json.loads(path.read_text())
    for name in ("notes", "stain", "sensitivity", "tile_px"):
        del card[name]
    path.write_text(json.dumps(card))
    found = load_model(tmp_path / "m", device="cpu").card
    assert (found.notes, found.stain, found.sensitivity, found.tile_px) == ("", None, {}, 2048)


def test_tuning_finds_better_thresholds_than_it_starts_from():
    from nucleate.targets import encode
    from tests.synthetic import tissue

    truths, maps = [], []
    for seed in range(2):
        _, labels = tissue(200, 200, 40, seed)
        encoded = encode(labels, ["foreground", "distance"])
        maps.append({"foreground": encoded["foreground"] * 0.48, "distance": encoded["distance"]})
        truths.append((labels, None))
    start = complete_thresholds("watershed", {})
    best, score = tune_thresholds(maps, truths, "watershed", start)
    assert mean_aji(maps, truths, "watershed", start) == 0.0
    assert score == mean_aji(maps, truths, "watershed", best) > 0.8
    assert best["foreground"] < 0.48

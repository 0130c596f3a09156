"""The head `types`: trained on nuclei whose type can be seen, the engine must tell them apart."""

import csv
import json

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.io import savemat

from nucleate import load_model, segment
from nucleate.config import load_recipe
from nucleate.datasets.loading import list_entries
from nucleate.errors import ConfigError
from nucleate.evaluation.evaluate import evaluate_model
from nucleate.training.trainer import train_recipe
from tests.errors import says
from tests.integration.test_train import TINY
from tests.synthetic import tissue

NAMES = ["other", "inflammatory", "epithelial", "spindle-shaped"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """CoNSeP's layout; nuclei of the second type are painted blue, those of the third dark."""
    root = tmp_path_factory.mktemp("types")
    (root / "Train" / "Images").mkdir(parents=True)
    (root / "Train" / "Labels").mkdir()
    for i in range(4):
        image, labels = tissue(128, 128, 14, seed=i)
        kinds = np.arange(1, labels.max() + 1) % 2 + 2  # types 2 and 3 of 1..4
        image[np.concatenate([[0], kinds])[labels] == 2] = (40, 40, 230)
        image[np.concatenate([[0], kinds])[labels] == 3] = (60, 10, 60)
        Image.fromarray(image).save(root / "Train" / "Images" / f"train_{i + 1}.png")
        savemat(
            root / "Train" / "Labels" / f"train_{i + 1}.mat",
            {"inst_map": labels.astype(float), "inst_type": kinds[:, None].astype(float)},
        )
    content = {
        **TINY,
        "data": {"root": ".", "sets": [{"name": "consep", "path": ".", "options": {"types": 4}}],
                 "validation": 0.25, "classes": NAMES},
        "heads": {**TINY["heads"], "types": {"loss": {"bce": 8.0}}},
        "train": {**TINY["train"], "steps": 90, "validate_every": 45, "lr": 0.02, "workers": 0},
        "augment": {"stain": 0.0},
    }  # fmt: skip
    (root / "types.yaml").write_text(yaml.safe_dump(content))
    return root


@pytest.fixture(scope="module")
def model(tree):
    return load_model(train_recipe(load_recipe(tree / "types.yaml"), tree, tree / "run"))


def test_the_types_travel_with_the_model(model, tree):
    assert model.card.classes == NAMES
    assert set(model.card.heads) == {"foreground", "distance", *(f"type_{i}" for i in (1, 2, 3, 4))}
    sample = list_entries("consep", tree, {"types": 4})[0].read()
    nuclei = segment(sample.image, model, mpp=0.25)
    assert set(nuclei.classes.tolist()) <= {0, 1, 2, 3}
    assert nuclei.class_names == tuple(NAMES)


def test_the_names_of_the_types_are_written(tree, model, tmp_path):
    from nucleate.slides.segment_many import BatchOptions, run_batch

    image = tree / "Train" / "Images" / "train_1.png"
    formats = ("geojson", "csv", "overlay")
    run_batch([image], tmp_path, model, BatchOptions(0.25, formats))
    features = json.loads((tmp_path / "train_1.geojson").read_text())["features"]
    in_qupath = [f["properties"]["classification"]["name"] for f in features]
    rows = list(csv.DictReader((tmp_path / "train_1.nuclei.csv").read_text().splitlines()))
    assert [row["class_name"] for row in rows] == in_qupath
    assert set(in_qupath) <= set(NAMES)
    assert len(set(in_qupath)) > 1


def test_types_that_can_be_seen_are_distinguished(model, tree, tmp_path):
    report = evaluate_model(model, list_entries("consep", tree, {"types": 4}))
    report.write(tmp_path)
    found = json.loads((tmp_path / "metrics.json").read_text())["per_class"]
    assert set(found) == set(NAMES)
    assert found["inflammatory"]["f1_detection"] > 0.7
    assert found["epithelial"]["f1_detection"] > 0.7
    assert found["other"]["pq"] is None or found["other"]["pq"] == 0
    assert found["inflammatory"]["nuclei"] > 10


def test_names_must_be_those_of_the_data(tree, tmp_path):
    recipe = load_recipe(tree / "types.yaml", ["data.classes=[a, b, c, d]"])
    with pytest.raises(ConfigError, match=says("data.classes", "a, b, c, d", "other, inf")):
        train_recipe(recipe, tree, tmp_path / "run")
    with pytest.raises(ConfigError, match=says("types", "data.classes")):
        load_recipe(tree / "types.yaml", ["data.classes=[]"])

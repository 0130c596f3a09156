"""The package of a model, checked by bioimage.io's own library: format, outputs, other sizes."""

import json
import shutil
import zipfile

import numpy as np
import pytest
import yaml

from nucleate.models.card import BUNDLED

pytestmark = pytest.mark.filterwarnings("ignore")  # the library's own
MINE = {"name": "my data", "licence": "yours", "citation": "yours"}


def test_the_library_accepts_and_runs_it(tmp_path, nucleate):
    from bioimageio.core import test_model as run_tests
    from bioimageio.spec import load_description

    file = tmp_path / "model.zip"
    code, out, err = nucleate("package", "mtl-small", "-o", file, "--json")
    assert code == 0, err
    inside = json.loads(out)["inside"]
    with zipfile.ZipFile(file) as package:
        assert sorted(package.namelist()) == inside
        package.extractall(tmp_path / "model")
    described = load_description(tmp_path / "model" / "bioimageio.yaml")
    assert described.validation_summary.status != "failed", described.validation_summary.display()
    # reproduces the outputs that nucleate's engine gives, and takes other sizes and batches
    summary = run_tests(described, weight_format="onnx")
    assert summary.status == "passed", summary.display()
    assert str(described.license) == "CC-BY-NC-SA-4.0"
    assert [author.name for author in described.authors] == ["the nucleate authors"]
    assert all(reference.doi for reference in described.cite)
    readme = (tmp_path / "model" / "README.md").read_text()
    assert readme.count("- TNBC:") == 1
    assert "too high" not in readme  # nothing was chosen on the images that it is scored on
    share = (np.load(tmp_path / "model" / "foreground.npy") > 0.5).mean()
    assert 0.05 < share < 0.5  # the example contains tissue, and nuclei are found in it


def test_what_is_no_network_of_maps_is_refused(tmp_path, nucleate):
    for model, said in ((tmp_path / "none", "no model"), ("mtl-huge", "no model")):
        code, _, err = nucleate("package", model, "-o", tmp_path / "m.zip")
        assert code == 2
        assert said in err.lower()
    assert not (tmp_path / "m.zip").exists()


@pytest.fixture
def own(tmp_path):
    """Return what makes a model of one's own, whose card states of itself what is given."""

    def make(**changes):
        folder = tmp_path / "own"
        shutil.copytree(BUNDLED / "mtl-small", folder, dirs_exist_ok=True)
        card = json.loads((folder / "card.json").read_text())
        (folder / "card.json").write_text(json.dumps({**card, "name": "own", **changes}))
        return folder

    return make


@pytest.mark.parametrize(
    ("changes", "words", "named"),
    [
        ({}, (), "--author"),
        ({"licence": "unstated"}, ("--author", "A. Smith"), "--licence"),
        ({}, ("--author", "A. Smith", "--licence", "MIT"), "--licence"),
        ({"training_data": [MINE]}, ("--author", "A. Smith"), "--cite"),
        ({"training_data": []}, ("--author", "A. Smith"), "--cite"),
        ({}, ("--author", "A. Smith", "--cite", "Smith 2026"), "--cite"),
    ],
)
def test_what_is_unknown_is_asked_for(changes, words, named, own, tmp_path, nucleate):
    code, _, err = nucleate("package", own(**changes), "-o", tmp_path / "m.zip", *words)
    assert code == 2
    assert named in err
    assert not (tmp_path / "m.zip").exists()


def test_authors_of_bundled_models_are_known(tmp_path, nucleate):
    code, _, err = nucleate("package", "mtl-small", "-o", tmp_path / "m.zip", "--author", "Me")
    assert code == 2
    assert "--author" in err


def test_a_model_of_ones_own_says_whose_it_is(own, tmp_path, nucleate):
    recipe = {"train": {"keep": "best"}, "decode": {"tune": True}}
    known = {"name": "theirs", "licence": "MIT", "citation": "Doe 2020, doi:10.1234/abc."}
    model = own(licence="unstated", training_data=[MINE, known, MINE], recipe=recipe)
    words = ("--author", "A. Smith", "--author", "B. Doe", "--licence", "CC-BY-4.0")
    cite = ("--cite", "Smith 2026, https://example.org/paper")
    code, _, err = nucleate("package", model, "-o", tmp_path / "m.zip", *words, *cite)
    assert code == 0, err
    with zipfile.ZipFile(tmp_path / "m.zip") as package:
        printed = yaml.safe_load(package.read("bioimageio.yaml"))
        readme = package.read("README.md").decode()
    assert printed["authors"] == [{"name": "A. Smith"}, {"name": "B. Doe"}]
    assert printed["license"] == "CC-BY-4.0"
    assert printed["cite"] == [
        {"text": "Smith 2026, https://example.org/paper", "url": "https://example.org/paper"},
        {"text": "Doe 2020, doi:10.1234/abc.", "doi": "10.1234/abc"},
    ]
    assert "yours" not in readme
    assert readme.count("- my data") == 1
    assert "choose the checkpoint and the thresholds, so the scores are too high" in readme

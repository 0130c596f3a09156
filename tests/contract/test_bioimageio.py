"""The package of a model, checked by bioimage.io's own library: format, outputs, other sizes."""

import json
import zipfile

import numpy as np
import pytest

pytestmark = pytest.mark.filterwarnings("ignore")  # the library's own


@pytest.mark.parametrize("name", ["mtl-small", "mtl-base"])
def test_the_library_accepts_and_runs_it(name, tmp_path, nucleate):
    from bioimageio.core import test_model as run_tests
    from bioimageio.spec import load_description

    file = tmp_path / "model.zip"
    code, out, err = nucleate("package", name, "-o", file, "--json")
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
    share = (np.load(tmp_path / "model" / "foreground.npy") > 0.5).mean()
    assert 0.05 < share < 0.5  # the example holds tissue, and nuclei are found in it


def test_what_is_no_network_of_maps_is_refused(tmp_path, nucleate):
    for model, said in ((tmp_path / "none", "no model"), ("mtl-huge", "no model")):
        code, _, err = nucleate("package", model, "-o", tmp_path / "m.zip")
        assert code == 2
        assert said in err.lower()
    assert not (tmp_path / "m.zip").exists()

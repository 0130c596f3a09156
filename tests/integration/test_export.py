"""`nucleate export`: what segment wrote, in one file that COCO's own tools take."""

import contextlib
import io
import json

import numpy as np
import pytest
from PIL import Image

from nucleate.datasets.collect import list_entries
from nucleate.datasets.convert import convert
from nucleate.errors import ConfigError, InputError
from nucleate.inference.batch import BatchOptions, segment_files
from nucleate.io.annotations import read_geojson
from nucleate.io.results import export_results
from nucleate.metrics.instance import matches
from nucleate.metrics.matching import overlap
from tests.conftest import painted
from tests.data import folder
from tests.synthetic import tissue


@pytest.fixture
def result(tmp_path, oracle):
    """Return a result of three pictures, the last without nuclei, and their labels."""
    labels = {f"p_{i}": tissue(140, 170, 40, i)[1] for i in range(2)}
    labels["p_2"] = np.zeros((64, 64), np.int32)
    (tmp_path / "in").mkdir()
    for name, one in labels.items():
        Image.fromarray(painted(one)).save(tmp_path / "in" / f"{name}.png")
    files = sorted((tmp_path / "in").iterdir())
    segment_files(files, tmp_path / "out", oracle, BatchOptions(mpp=0.25))
    for file in (tmp_path / "out").glob("*.geojson"):  # the oracle is surer than 1
        found = json.loads(file.read_text())
        for i, feature in enumerate(found["features"]):
            feature["properties"]["measurements"]["Detection probability"] = 0.5 + 0.01 * (i % 50)
        file.write_text(json.dumps(found))
    return tmp_path / "out", labels


def _read(path):
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(path)


def test_a_whole_file_is_a_data_set(tmp_path, result):
    out, labels = result
    done = export_results(out, "coco", tmp_path / "in" / "annotations.json")
    assert (done.pictures, done.left_out) == (3, 0)
    read = _read(tmp_path / "in" / "annotations.json")
    assert len(read.anns) == done.nuclei > 40
    assert all(0.5 <= a["score"] < 1 and a["area"] > 0 for a in read.anns.values())
    for entry in list_entries("coco", tmp_path / "in", {}):
        sample = entry.read()
        assert sample.mpp == 0.25
        tp, fp, fn, _ = matches(overlap(labels[entry.name], sample.labels), 0.95)
        assert fp == 0
        assert fn <= 0.05 * tp  # nuclei that others cut in pieces: their largest one stays


def test_a_list_of_results_fits_a_file_of_truth(tmp_path, result):
    from pycocotools.cocoeval import COCOeval

    out, labels = result
    (tmp_path / "t" / "images").mkdir(parents=True)
    (tmp_path / "t" / "labels").mkdir()
    for name in ("p_1", "p_0"):
        Image.fromarray(painted(labels[name])).save(tmp_path / "t" / "images" / f"{name}.png")
        np.save(tmp_path / "t" / "labels" / f"{name}.npy", labels[name])
    convert(list_entries("folder", tmp_path / "t", {"mpp": 0.25}), tmp_path / "c", "coco")
    truth = tmp_path / "c" / "annotations.json"
    content = json.loads(truth.read_text())
    for record in (*content["images"], *content["annotations"]):  # as other tools number them
        key = "image_id" if "image_id" in record else "id"
        record[key] += 40
    for annotation in content["annotations"]:
        annotation["category_id"] = 9
    content["categories"] = [{"id": 9, "name": "Nucleus"}]
    truth.write_text(json.dumps(content))
    done = export_results(out, "coco", tmp_path / "results.json", truth)
    assert (done.pictures, done.left_out) == (2, 1)
    read = _read(truth)
    with contextlib.redirect_stdout(io.StringIO()):
        run = COCOeval(read, read.loadRes(str(tmp_path / "results.json")), "segm")
        run.evaluate()
        run.accumulate()
        run.summarize()
    assert run.stats[0] > 0.9
    assert done.without == 0
    content["images"][0]["width"] += 1
    truth.write_text(json.dumps(content))
    with pytest.raises(InputError, match="has another size there"):
        export_results(out, "coco", tmp_path / "r.json", truth)
    content["images"][0]["file_name"] = "else/" + content["images"][1]["file_name"]
    truth.write_text(json.dumps(content))
    with pytest.raises(InputError, match="two pictures are named"):
        export_results(out, "coco", tmp_path / "r.json", truth)
    assert not (tmp_path / "r.json").exists()


def test_a_type_that_the_truth_lacks_becomes_its_most_frequent(tmp_path, result):
    out, labels = result
    images = [{"id": i, "file_name": f"p_{i}.png", "height": one.shape[0], "width": one.shape[1]}
              for i, one in enumerate(labels.values())]  # fmt: skip
    annotations = [{"id": 1, "image_id": 0, "category_id": 4, "segmentation": []}]
    categories = [{"id": 0, "name": "cells-dummy"}, {"id": 4, "name": "cell"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "t.json").write_text(json.dumps(content))
    export_results(out, "coco", tmp_path / "r.json", tmp_path / "t.json")
    assert {one["category_id"] for one in json.loads((tmp_path / "r.json").read_text())} == {4}


def test_bad_input_is_one_sentence_and_no_file(tmp_path, result):
    out, _ = result
    target = tmp_path / "r.json"
    with pytest.raises(ConfigError, match="Did you mean 'coco'"):
        export_results(out, "cocos", target)
    with pytest.raises(InputError, match=r"holds no summary\.json"):
        export_results(tmp_path / "in", "coco", target)
    folder.make(tmp_path / "f")
    convert(list_entries("folder", tmp_path / "f", {}), tmp_path / "c", "coco")
    with pytest.raises(InputError, match="names none of the 3 pictures"):
        export_results(out, "coco", target, tmp_path / "c" / "annotations.json")
    (out / "p_0.geojson").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        export_results(out, "coco", target)
    summary = json.loads((out / "summary.json").read_text())
    del summary["sources"][0]["files"]["geojson"]
    (out / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(InputError, match=r"p_0\.png was segmented without geojson"):
        export_results(out, "coco", target)
    good = {"status": "done", "files": {"geojson": "p_1.geojson"}, "source": "p_1.png",
            "height": 140, "width": 170, "mpp": 0.25}  # fmt: skip
    for wrong in (
        {"files": {"geojson": 1}}, {"files": "geojson"}, {"source": 5}, {"height": 1e999},
        {"height": 0}, {"height": -3}, {"height": 3.7}, {"width": 1 << 40}, {"mpp": "x"},
        {"mpp": float("nan")}, {"height": None},
    ):  # fmt: skip
        summary["sources"] = [{**good, **wrong}]
        (out / "summary.json").write_text(json.dumps(summary))
        with pytest.raises(InputError, match="not a summary of this version"):
            export_results(out, "coco", target)
    (out / "summary.json").write_text('{"sources": ' + "[" * 100_000)
    with pytest.raises(InputError, match="not a summary of this version"):
        export_results(out, "coco", target)
    found = json.loads((out / "p_1.geojson").read_text())
    for score in (float("nan"), 2, "sure", None):
        found["features"][0]["properties"]["measurements"]["Detection probability"] = score
        (out / "p_1.geojson").write_text(json.dumps(found))
        summary["sources"] = [good]
        (out / "summary.json").write_text(json.dumps(summary))
        with pytest.raises(InputError, match="no number from 0 to 1"):
            export_results(out, "coco", target)
        assert len(read_geojson(out / "p_1.geojson")[1]) > 10  # readers that want no score
    found["features"] = [
        {
            "type": "Feature",
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[0, 0], [1e6, 0], [1e6, 1e6], [0, 0]]],
            },
        }
    ]
    (out / "p_1.geojson").write_text(json.dumps(found))
    summary["sources"] = [{**good, "height": 1 << 20, "width": 1 << 20}]
    (out / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(InputError, match=r"nucleus 1 of p_1\.png is none"):
        export_results(out, "coco", target)
    summary["sources"] = []
    (out / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(InputError, match="no picture was segmented"):
        export_results(out, "coco", target)
    assert not target.exists()

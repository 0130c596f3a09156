"""`nucleate export`: what segment wrote, in one file that COCO's own tools take."""

import contextlib
import io
import json
import os
from dataclasses import replace

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from nucleate.curation.convert import convert
from nucleate.datasets.loading import list_entries
from nucleate.errors import ConfigError, InputError, OutputError
from nucleate.evaluation.metrics.instance import matches
from nucleate.evaluation.metrics.matching import overlap
from nucleate.features import no_nuclei
from nucleate.results.convert import export_results
from nucleate.results.names import PARQUET
from nucleate.results.parquet import open_nuclei, writer
from nucleate.slides.segment_many import BatchOptions, run_batch
from nucleate.types import Frame
from tests.conftest import painted
from tests.data import folder
from tests.errors import says
from tests.synthetic import tissue


@pytest.fixture
def result(tmp_path, oracle):
    """Return a result of three images, the last without nuclei, and their labels."""
    labels = {f"p_{i}": tissue(140, 170, 40, i)[1] for i in range(2)}
    labels["p_2"] = np.zeros((64, 64), np.int32)
    (tmp_path / "in").mkdir()
    for name, one in labels.items():
        Image.fromarray(painted(one)).save(tmp_path / "in" / f"{name}.png")
    files = sorted((tmp_path / "in").iterdir())
    run_batch(files, tmp_path / "out", oracle, BatchOptions(mpp=0.25))
    for file in (tmp_path / "out").glob(f"*{PARQUET}"):  # the oracle is more certain than 1
        found = open_nuclei(file)
        nuclei = found.read()
        scores = (0.5 + 0.01 * (np.arange(len(nuclei)) % 50)).astype(np.float32)
        like = no_nuclei(found.frame, found.class_names)
        with writer(file, like, {**found.facts, "source": found.facts["source"]}) as out:
            if len(nuclei):
                out.write(replace(nuclei, scores=scores))
    return tmp_path / "out", labels


def _read(path):
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(path)


def test_a_whole_file_is_a_data_set(tmp_path, result):
    out, labels = result
    done = export_results(out, "coco", tmp_path / "in" / "annotations.json")
    assert (done.images, done.left_out) == (3, 0)
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
    assert (done.images, done.left_out) == (2, 1)
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
    with pytest.raises(InputError, match=says("differs in size")):
        export_results(out, "coco", tmp_path / "r.json", truth)
    content["images"][0]["file_name"] = "else/" + content["images"][1]["file_name"]
    truth.write_text(json.dumps(content))
    with pytest.raises(InputError, match=says("two", "the name")):
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


def test_a_result_does_not_replace_what_it_is_made_of(tmp_path, result):
    out, _ = result
    parquet, truth = out / f"p_0{PARQUET}", tmp_path / "t.json"
    truth.write_text("{}")
    before = {path: path.read_bytes() for path in (parquet, out / "summary.json", truth)}
    for source, to, target, beside in (
        (parquet, "csv", parquet, None),
        (out, "coco", out / "summary.json", None),
        (parquet, "coco", truth, truth),
    ):
        with pytest.raises(ConfigError, match=says("replace", "source")):
            export_results(source, to, target, beside)
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_what_is_no_regular_file_stays(tmp_path, result):
    out, _ = result
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match=says("regular file")):
        export_results(out / f"p_0{PARQUET}", "csv", tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize(
    "wrong",
    [
        {"mpp": 0}, {"mpp": -1}, {"mpp": float("nan")}, {"mpp": "a"}, {"width": 0},
        {"height": -3}, {"width": 10**12}, {"class_names": []}, {"origin_xy": [1]},
    ],
)  # fmt: skip
def test_facts_that_cannot_be_are_refused(tmp_path, result, wrong):
    out, _ = result
    table = pyarrow.parquet.read_table(out / f"p_0{PARQUET}")
    metadata = table.schema.metadata
    metadata[b"nucleate"] = json.dumps({**json.loads(metadata[b"nucleate"]), **wrong}).encode()
    path = tmp_path / f"x{PARQUET}"
    pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), path)
    with pytest.raises(InputError, match=says("this version")):
        open_nuclei(path)


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("to", ["coco", "annotation-store", "spatialdata"])
def test_a_class_without_a_name_is_refused(tmp_path, result, to, statistics):
    out, _ = result
    table = pyarrow.parquet.read_table(out / f"p_0{PARQUET}")
    at = table.column_names.index("class")
    beyond = pyarrow.array(np.full(len(table), 9, np.int16))
    path = tmp_path / f"x{PARQUET}"
    pyarrow.parquet.write_table(
        table.set_column(at, "class", beyond), path, write_statistics=statistics
    )
    with pytest.raises(InputError, match=says("this version")):
        export_results(path, to, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_bad_input_is_one_sentence_and_no_file(tmp_path, result):
    out, _ = result
    target = tmp_path / "r.json"
    with pytest.raises(ConfigError, match=says("'coco'")):
        export_results(out, "cocos", target)
    with pytest.raises(InputError, match=says("summary.json")):
        export_results(tmp_path / "in", "coco", target)
    folder.make(tmp_path / "f")
    convert(list_entries("folder", tmp_path / "f", {}), tmp_path / "c", "coco")
    with pytest.raises(InputError, match=says("none", "3")):
        export_results(out, "coco", target, tmp_path / "c" / "annotations.json")
    with pytest.raises(ConfigError, match=says("--truth", "--to coco")):
        export_results(out, "csv", target, tmp_path / "c" / "annotations.json")
    whole = (out / f"p_0{PARQUET}").read_bytes()
    for damage in (b"", b"PAR1", whole[: len(whole) // 2]):
        (out / f"p_0{PARQUET}").write_bytes(damage)
        with pytest.raises(InputError, match=r"damaged|is empty"):
            export_results(out, "coco", target)
    (out / f"p_0{PARQUET}").unlink()
    with pytest.raises(InputError, match=says("no such file")):
        export_results(out, "coco", target)
    pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), out / f"p_0{PARQUET}")
    with pytest.raises(InputError, match=says("this version")):
        export_results(out, "coco", target)
    summary = json.loads((out / "summary.json").read_text())
    for wrong in (
        {"files": {"parquet": 1}}, {"files": "parquet"}, {"files": {}}, {"files": None},
        {"files": {"parquet": "../x.parquet"}}, {"status": 5}, {},
    ):  # fmt: skip
        summary["sources"] = [{"status": "done", "files": {}, **wrong}]
        (out / "summary.json").write_text(json.dumps(summary))
        with pytest.raises(InputError, match=says("summary", "version")):
            export_results(out, "coco", target)
    (out / "summary.json").write_text('{"sources": ' + "[" * 100_000)
    with pytest.raises(InputError, match=says("summary", "version")):
        export_results(out, "coco", target)
    good = open_nuclei(out / f"p_1{PARQUET}")
    nuclei = good.read()
    wide = np.array([[0, 0], [1e6, 0], [1e6, 1e6]], np.float32)
    far = replace(nuclei.take(np.arange(1)), coords_xy=wide, offsets=np.array([0, 3]))
    huge = no_nuclei(Frame(1 << 20, 1 << 20, 0.25), ("nucleus",))
    with writer(out / f"p_1{PARQUET}", huge, {"source": "p_1.png"}) as file:
        file.write(replace(far, frame=huge.frame))
    with pytest.raises(InputError, match=says("nucleus 1")):
        export_results(out / f"p_1{PARQUET}", "coco", target)
    table = pyarrow.parquet.read_table(out / f"p_1{PARQUET}")
    for column in ("geometry", "score", "bbox"):
        pyarrow.parquet.write_table(table.drop(column), out / f"p_1{PARQUET}")
        with pytest.raises(InputError, match=says("this version")):
            export_results(out / f"p_1{PARQUET}", "coco", target)
    at = table.column_names.index("geometry")
    broken = table.set_column(at, "geometry", pyarrow.array([b"no polygon"]))
    pyarrow.parquet.write_table(broken, out / f"p_1{PARQUET}")
    with pytest.raises(InputError, match=says("this version")):
        export_results(out / f"p_1{PARQUET}", "geojson", target)
    summary["sources"] = []
    (out / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(InputError, match=says("was segmented")):
        export_results(out, "coco", target)
    assert not target.exists()

"""Many sources into one folder: names, folders, links, and the summary of several calls."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from nucleate.errors import InputError
from nucleate.evaluation.evaluate import evaluate_files
from nucleate.inference.backends import Model
from nucleate.results.convert import export_results
from nucleate.slides.find_sources import expand_sources, result_stems
from nucleate.slides.outputs import BatchOptions
from nucleate.slides.segment_many import run_batch
from nucleate.slides.summary import merge
from nucleate.viewer.contents import open_contents
from tests.conftest import OracleBackend, oracle_card, painted
from tests.errors import says
from tests.synthetic import tissue

CSV = BatchOptions(mpp=0.25, formats=("csv",))


def _image(path, seed=1, size=96):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(painted(tissue(size, size, 8, seed)[1])).save(path)
    return path


def _summary(out):
    return json.loads((out / "summary.json").read_text())


def test_sources_of_one_name_are_put_into_folders(tmp_path, oracle):
    for i, name in enumerate(("p1/HE.png", "p2/HE.png", "p2/other.png")):
        _image(tmp_path / "in" / name, i)
    out = tmp_path / "out"
    found = expand_sources([tmp_path / "in" / "p1", tmp_path / "in" / "p2"], out)
    options = BatchOptions(mpp=0.25, formats=("csv", "labels"))
    rows = run_batch(found, out, oracle, options)["sources"]
    stems = ["p1/HE", "p2/HE", "p2/other"]
    assert [row["files"]["csv"] for row in rows] == [f"{stem}.nuclei.csv" for stem in stems]
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()) == sorted(
        ["summary.json", *(f"{s}{e}" for s in stems for e in (".labels.tif", ".nuclei.csv",
                                                              ".nuclei.parquet"))]
    )  # fmt: skip
    export_results(out, "csv", tmp_path / "all.csv")
    sources = {line.split(",")[0] for line in (tmp_path / "all.csv").read_text().splitlines()}
    assert sources == {'"source"', *(f'"{stem}.png"' for stem in stems)}
    export_results(out, "coco", tmp_path / "coco.json")
    files = [
        image["file_name"] for image in json.loads((tmp_path / "coco.json").read_text())["images"]
    ]
    assert files == [f"{stem}.png" for stem in stems]
    assert [one.name for one in open_contents([out], None, tmp_path, str)] == stems
    named = [tmp_path / "in" / f"{stem}.png" for stem in stems]
    assert all(one.pixels for one in open_contents([*named, out], None, tmp_path, str))
    assert [p.name for p in evaluate_files(out, out).images] == stems


def test_stain_apply_puts_results_of_one_name_into_folders(tmp_path, nucleate):
    for name in ("p1/HE.png", "p2/HE.png"):
        path = _image(tmp_path / "in" / name)
        Image.fromarray(tissue(128, 128, 20)[0]).save(path)
    stain = tmp_path / "stain.json"
    assert nucleate("stain", "fit", path, "--method", "reinhard", "-o", stain)[0] == 0
    words = ("stain", "apply", tmp_path / "in", "--stain", stain, "-o", tmp_path / "out")
    assert nucleate(*words)[0] == 0
    assert sorted(p.parent.name for p in (tmp_path / "out").rglob("*.png")) == ["p1", "p2"]


def test_unique_names_stay_flat_and_endings_collide(tmp_path):
    assert list(result_stems(["a/x.png", "b/y.png"]).values()) == ["x", "y"]
    assert list(result_stems(["s3://b/p/HE.svs", "s3://b/q/HE.svs"]).values()) == ["p/HE", "q/HE"]
    for pair in (["a/x.png", "a/x.tif"], ["a/x.png", "s3://b/x.png"]):
        with pytest.raises(InputError, match="same files"):
            result_stems(pair)


def test_a_name_that_is_too_long_does_not_stop_the_others(tmp_path, oracle):
    most = os.pathconf(tmp_path, "PC_NAME_MAX")
    names = "a", "m" * (most - 8), "z"
    found = [_image(tmp_path / "in" / f"{name}.png") for name in names]
    rows = run_batch(found, tmp_path / "out", oracle, CSV)["sources"]
    assert [row["status"] for row in rows] == ["done", "failed", "done"]
    assert "too long" in rows[1]["error"]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "a.nuclei.csv", "a.nuclei.parquet", "z.nuclei.csv", "z.nuclei.parquet", "summary.json",
    }  # fmt: skip


def test_an_error_of_the_system_fails_one_source(tmp_path, oracle):
    found = [_image(tmp_path / "in" / f"{name}.png") for name in "ab"]
    (tmp_path / "out" / "a.nuclei.parquet").mkdir(parents=True)
    rows = run_batch(found, tmp_path / "out", oracle, CSV)["sources"]
    assert [row["status"] for row in rows] == ["failed", "done"]


def test_folders_of_sources_may_be_links(tmp_path):
    _image(tmp_path / "archive" / "b.png")
    _image(tmp_path / "slides" / "a.png")
    (tmp_path / "slides" / "more").symlink_to("../archive")
    names = [path.name for path in expand_sources([tmp_path / "slides"])]
    assert names == ["a.png", "b.png"]


def test_a_second_call_adds_to_the_summary(tmp_path, oracle):
    a, b = (_image(tmp_path / f"{name}.png", i) for i, name in enumerate("ab"))
    out = tmp_path / "out"
    first = run_batch([a], out, oracle, CSV)
    second = run_batch([b], out, Model(oracle_card(name="other"), OracleBackend()), CSV)
    assert [row["source"] for row in second["sources"]] == [str(b)]
    whole = _summary(out)
    assert [row["source"] for row in whole["sources"]] == [str(a), str(b)]
    assert whole["totals"]["done"] == 2
    assert whole["totals"]["nuclei"] == first["totals"]["nuclei"] + second["totals"]["nuclei"]
    assert whole["model"]["name"] == "other"
    assert whole["sources"][0]["made_with"]["model"]["name"] == "oracle"
    assert "made_with" not in whole["sources"][1]
    assert export_results(out, "csv", tmp_path / "all.csv").images == 2
    run_batch([a], out, oracle, CSV)
    assert [row["source"] for row in _summary(out)["sources"]] == [str(b), str(a)]


def test_results_of_another_source_are_not_replaced(tmp_path, oracle):
    model, out = oracle, tmp_path / "out"
    first, other = _image(tmp_path / "a" / "t.png"), _image(tmp_path / "a" / "t.tif", 2)
    same_name = _image(tmp_path / "b" / "t.png", 3)
    run_batch([first], out, model, CSV)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    for source in (other, same_name):
        with pytest.raises(InputError, match=says("t.png", "replace", "choose another -o")):
            run_batch([source], out, model, CSV)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    run_batch([first], out, model, CSV)  # the same once more
    moved = tmp_path / "c" / "t.png"
    moved.parent.mkdir()
    first.rename(moved)
    run_batch([moved], out, model, CSV)  # and where it was moved
    assert [row["source"] for row in _summary(out)["sources"]] == [str(moved)]


def test_another_file_of_that_name_is_kept(tmp_path, oracle):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "summary.json").write_text("[1]")
    with pytest.raises(InputError, match=r"summary\.json.*[Rr]ename"):
        run_batch([_image(tmp_path / "a.png")], tmp_path / "out", oracle, CSV)
    assert (tmp_path / "out" / "summary.json").read_text() == "[1]"


def test_a_row_is_replaced_when_its_result_is():
    old = {"sources": [{"source": "/x/a.png", "status": "done", "files": {"parquet": "a"}}]}
    new = {"sources": [{"source": "a.png", "status": "done", "files": {"parquet": "a"}}]}
    assert merge(old, new)["sources"] == new["sources"]


def test_several_processes_write_into_one_folder(tmp_path):
    script = """
import sys
from pathlib import Path
from nucleate.slides.summary import add_to_summary
from nucleate.readers.remote import Mirror
for i in range(20):
    row = {"source": f"{sys.argv[1]}-{i}", "status": "failed", "error": ""}
    add_to_summary(Mirror(Path(sys.argv[2]), None), {"engine": "x", "sources": [row]})
"""
    words = [[sys.executable, "-c", script, name, str(tmp_path / "out")] for name in "abcd"]
    running = [subprocess.Popen(word) for word in words]
    assert [process.wait() for process in running] == [0] * 4
    whole = _summary(tmp_path / "out")
    assert {row["source"] for row in whole["sources"]} == {
        f"{n}-{i}" for n in "abcd" for i in range(20)
    }
    assert whole["totals"]["failed"] == 80
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["summary.json"]


@pytest.mark.parametrize("to", ["geojson", "labels", "annotation-store", "geojson.gz"])
def test_one_file_for_several_images_is_refused(tmp_path, oracle, to):
    found = [_image(tmp_path / "in" / f"{name}.png") for name in "ab"]
    run_batch(found, tmp_path / "out", oracle, BatchOptions(mpp=0.25, formats=()))
    from nucleate.errors import ConfigError

    with pytest.raises(ConfigError, match=f"{to}.*-o .*/"):
        export_results(tmp_path / "out", to, tmp_path / "all.file")
    assert not (tmp_path / "all.file").exists()
    export_results(tmp_path / "out", to, f"{tmp_path}/new.folder/")
    assert len(list((tmp_path / "new.folder").iterdir())) == 2


def test_one_table_of_images_with_and_without_types(tmp_path, oracle):
    types = Model(oracle_card(classes=["a", "b"]), OracleBackend())
    for name, model in (("x", oracle), ("y", types)):
        run_batch([_image(tmp_path / f"{name}.png")], tmp_path / "out", model, CSV)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "none.png")
    run_batch([tmp_path / "none.png"], tmp_path / "out", oracle, CSV)
    done = export_results(tmp_path / "out", "csv", tmp_path / "all.csv")
    head, *rows = (tmp_path / "all.csv").read_text().splitlines()
    assert head.startswith('"source","id",')
    assert head.endswith('"class_name"')
    assert len(rows) == done.nuclei > 0
    assert {row.split(",")[0] for row in rows} == {'"x.png"', '"y.png"'}

"""The command line as users meet it: results, refusals, exit codes. The bundled model is real."""

import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.main import get_command

from nucleate.annotations.label_images import read_labels
from nucleate.cli import app
from nucleate.datasets import DATASETS
from nucleate.models.card import find_model, read_card, write_card
from nucleate.models.fingerprints import fingerprints
from nucleate.readers.images import read_image
from nucleate.results.images import write_labels
from nucleate.results.names import OWN_IMAGES
from tests.data import folder, hovernet, monuseg, nuinsseg
from tests.errors import says
from tests.synthetic import tissue
from tests.unit.test_annotations import BOMB

SUFFIXES = (".labels.tif", ".overlay.png", ".nuclei.parquet", ".nuclei.csv", ".geojson")
IMAGE, LABELS = tissue(160, 200, 25)


def _png(path, image=IMAGE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def test_segment_writes_everything(tmp_path, nucleate):
    source = _png(tmp_path / "a.png")
    code, out, _ = nucleate("segment", source, "--mpp", 0.25, "-o", tmp_path / "out")
    assert code == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        *(f"a{s}" for s in SUFFIXES), "summary.json",
    }  # fmt: skip
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["sources"][0]["nuclei"] == summary["totals"]["nuclei"] > 5
    assert f"{summary['totals']['nuclei']} nuclei in 1 source" in out
    assert summary["model"]["licence"] == "CC-BY-NC-SA-4.0"
    assert read_labels(tmp_path / "out" / "a.labels.tif").shape == (160, 200)


def test_segment_takes_files_folders_and_globs(tmp_path, nucleate):
    for name in ("f/a.png", "f/deep/b.png", "g1.png", "g2.png"):
        _png(tmp_path / name, IMAGE[:64, :64])
    code, _, err = nucleate(
        "segment",
        tmp_path / "f",
        tmp_path / "g*.png",
        "--mpp",
        0.25,
        "-o",
        tmp_path / "out",
        "--formats",
        "csv",
    )
    assert code == 0, err
    assert sorted(p.name for p in (tmp_path / "out").glob("*.csv")) == [
        "a.nuclei.csv", "b.nuclei.csv", "g1.nuclei.csv", "g2.nuclei.csv",
    ]  # fmt: skip


def test_one_bad_source_does_not_stop_the_others(tmp_path, nucleate):
    _png(tmp_path / "in" / "a.png", IMAGE[:64, :64])
    (tmp_path / "in" / "b.png").write_bytes(b"no image")
    code, _, err = nucleate("segment", tmp_path / "in", "--mpp", 0.25, "-o", tmp_path / "out")
    assert code == 3
    assert "1 source failed" in err
    rows = json.loads((tmp_path / "out" / "summary.json").read_text())["sources"]
    assert [row["status"] for row in rows] == ["done", "failed"]
    assert "b.png" in rows[1]["error"]


def _truncated(path):
    tifffile.imwrite(path, IMAGE, photometric="rgb")
    path.write_bytes(path.read_bytes()[:-5000])


BAD = {
    "missing file": ("a.png", lambda p: None, "no such file"),
    "empty file": ("a.png", lambda p: p.write_bytes(b""), "empty"),
    "text named .png": ("a.png", lambda p: p.write_text("hello"), "cannot be read as an image"),
    "truncated TIFF": ("a.tif", _truncated, "truncated"),
    "cut PNG": ("a.png", lambda p: p.write_bytes(_png(p).read_bytes()[:900]), "cannot be read"),
    "grey-scale": ("a.png", lambda p: Image.fromarray(IMAGE[..., 0]).save(p), "grey-scale"),
    "corrupt slide": ("a.svs", lambda p: p.write_bytes(b"II*\x00" + b"\x00" * 99), "slide"),
    "folder without images": ("a", lambda p: p.mkdir(), "no image or slide"),
    "unknown format": ("a.xyz", lambda p: p.write_text("x"), "not a supported image or slide"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_exit_2_and_nothing_written(tmp_path, nucleate, case):
    name, make, said = BAD[case]
    make(tmp_path / name)
    code, _, err = nucleate("segment", tmp_path / name, "--mpp", 0.25, "-o", tmp_path / "out")
    last = err.strip().splitlines()[-1]
    assert code == 2
    assert said in last
    assert name in last
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_no_resolution_names_the_option(tmp_path, nucleate):
    code, _, err = nucleate("segment", _png(tmp_path / "a.png"), "-o", tmp_path / "out")
    assert code == 2
    assert says("a.png", "(mpp)").search(err)
    assert "--mpp" in err
    assert not (tmp_path / "out").exists()


def test_mpp_against_that_of_a_file_needs_a_word(tmp_path, nucleate):
    (tmp_path / "in").mkdir()
    printed = {"photometric": "rgb", "resolution": (4e4, 4e4), "resolutionunit": 3}
    tifffile.imwrite(tmp_path / "in" / "a.tif", IMAGE[:64, :64], **printed)
    _png(tmp_path / "in" / "b.png", IMAGE[:64, :64])
    words = ("segment", tmp_path / "in", "-o", tmp_path / "out", "--formats", "csv", "--mpp", 0.5)
    assert nucleate(*words)[0] == 3
    a, b = json.loads((tmp_path / "out" / "summary.json").read_text())["sources"]
    assert "0.25" in a["error"]
    assert "--override-mpp" in a["error"]
    assert b["mpp_from"] == "option"
    assert nucleate(*words, "--override-mpp")[0] == 0
    a, b = json.loads((tmp_path / "out" / "summary.json").read_text())["sources"]
    assert (a["mpp"], a["mpp_from"], b["mpp_from"]) == (0.5, "override", "option")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["segment", "a.png", "-o", "o", "--override-mpp"], "needs --mpp"),
        (["segment", "a.png", "-o", "o", "--mppp", "1"], "--mppp"),
        (["segment", "a.png", "-o", "o", "--device", "tpu"], "tpu"),
        (["segment", "a.png"], "--out"),
        (["segmentt"], "segmentt"),
        (["segment", "a.png", "-o", "o", "--model", "mtl-smal", "--mpp", "1"], "Did you mean"),
        (["segment", "a.png", "-o", "o", "--formats", "geojsn", "--mpp", "1"], "'geojson'"),
        (["segment", "a.png", "-o", "o", "--mpp", "900"], "0.02 to 20"),
        (["segment", "a.png", "-o", "o", "--mpp", "0.5", "--tile-px", "128"], "no core"),
        (["segment", "a.png", "-o", "o", "--device", "cuda", "--backend", "openvino"], "cpu"),
        (["train", "none.yaml"], "none.yaml: there is no such file"),
        (["train", "bad.yaml"], "Did you mean 'train'"),
        (["evaluate", "none", "none"], "no such file or folder"),
        (["evaluate"], "Name predictions"),
        (["evaluate", "a.png", "a.png", "--root", "x"], "--root requires --model"),
        (["segment", "a.png", "-o", "o", "--mpp", "nan"], "0.02 to 20"),
        (["segment", "a.png", "-o", "o", "--mpp", "1", "--formats", ","], "--formats is empty"),
        (["data", "split", "none.yaml", "-o", "s.json"], "none.yaml"),
    ],
)  # fmt: skip
def test_wrong_words_are_one_sentence_and_exit_2(tmp_path, nucleate, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    _png(tmp_path / "a.png")
    (tmp_path / "bad.yaml").write_text("{name: x, trainn: {}}")
    code, _, err = nucleate(*words)
    assert code == 2
    assert said.lower() in err.strip().splitlines()[-1].lower()
    assert "Traceback" not in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "bad.yaml"]


def test_a_result_never_replaces_a_source(tmp_path, nucleate):
    _png(tmp_path / "tile.png")
    precious = _png(tmp_path / "tile.overlay.png").read_bytes()
    code, _, err = nucleate(
        "segment", tmp_path / "tile.png", tmp_path / "tile.overlay.png", "--mpp", 0.25,
        "-o", tmp_path,
    )  # fmt: skip
    assert code == 2
    assert says("replace", "source").search(err)
    assert (tmp_path / "tile.overlay.png").read_bytes() == precious


def test_own_results_are_no_sources(tmp_path, nucleate):
    _png(tmp_path / "in" / "a.png", IMAGE[:64, :64])
    for _ in range(2):
        code, _, err = nucleate("segment", tmp_path / "in", "--mpp", 0.25, "-o", tmp_path / "in")
        assert code == 0, err
        summary = json.loads((tmp_path / "in" / "summary.json").read_text())
        assert [row["source"] for row in summary["sources"]] == [str(tmp_path / "in" / "a.png")]


def test_file_that_is_no_ledger_is_left_alone(tmp_path, nucleate):
    monuseg.make(tmp_path / "m", monuseg.TEST)
    (tmp_path / "notes.txt").write_text("precious")
    code, _, err = nucleate(
        "evaluate", "-m", "mtl-small", "--data", "monuseg", "--root", tmp_path / "m",
        "--ledger", tmp_path / "notes.txt",
    )  # fmt: skip
    assert code == 2
    assert says("ledger").search(err)
    assert (tmp_path / "notes.txt").read_text() == "precious"


def test_evaluating_files_of_test_images_is_written_down_too(tmp_path, nucleate):
    for side in ("p", "t"):
        (tmp_path / side).mkdir()
        np.save(tmp_path / side / f"{monuseg.TEST[0]}.npy", LABELS)
    code, _, err = nucleate("evaluate", tmp_path / "p", tmp_path / "t", "--ledger",
                            tmp_path / "uses.csv")  # fmt: skip
    assert code == 0, err
    assert "files" in (tmp_path / "uses.csv").read_text().splitlines()[1]


def test_two_sources_of_one_name_are_refused(tmp_path, nucleate):
    _png(tmp_path / "a.png")
    _png(tmp_path / "a.bmp")
    code, _, err = nucleate("segment", tmp_path, "--mpp", 0.25, "-o", tmp_path / "out")
    assert code == 2
    assert says("same files").search(err)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounts a tiny disk")
def test_full_disk(tmp_path, nucleate):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)],
                             capture_output=True, check=False)  # fmt: skip
    if mounted.returncode:
        pytest.skip("no right to mount")
    try:
        code, _, err = nucleate(
            "segment", _png(tmp_path / "a.png"), "--mpp", 0.25, "-o", small / "out"
        )
        assert code == 2
        assert says("disk", "full").search(err.strip().splitlines()[-1])
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)  # now, or once it is free


def _odd_images():
    rgba = np.dstack([IMAGE, np.full(IMAGE.shape[:2], 255, np.uint8)])
    return {
        "16-bit.tif": lambda p: tifffile.imwrite(
            p, IMAGE.astype(np.uint16) * 257, photometric="rgb"
        ),
        "rgba.png": lambda p: Image.fromarray(rgba).save(p),
        "1x1.png": lambda p: Image.fromarray(IMAGE[:1, :1]).save(p),
        "long.png": lambda p: Image.fromarray(np.tile(IMAGE, (1, 150, 1))).save(p),
        "blank.png": lambda p: Image.fromarray(np.full((99, 77, 3), 255, np.uint8)).save(p),
        "array.npy": lambda p: np.save(p, IMAGE),
        "photo.jpg": lambda p: Image.fromarray(IMAGE).save(p, quality=95),
    }


@pytest.mark.parametrize("name", _odd_images())
def test_odd_but_good_input_works(tmp_path, nucleate, name):
    _odd_images()[name](tmp_path / name)
    code, _, err = nucleate("segment", tmp_path / name, "--mpp", 0.25, "-o", tmp_path / "out")
    assert code == 0, err
    stem = name.split(".")[0]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        *(f"{stem}{s}" for s in SUFFIXES), "summary.json",
    }  # fmt: skip
    nuclei = json.loads((tmp_path / "out" / "summary.json").read_text())["totals"]["nuclei"]
    if stem in ("blank", "1x1"):
        assert nuclei == 0
    else:
        assert nuclei > 5
    if stem == "long":
        assert nuclei > 100 * LABELS.max() / 2


def test_demo_says_what_it_found_and_where_to_look(tmp_path, nucleate):
    code, out, _ = nucleate("demo", "-o", tmp_path / "demo")
    assert code == 0
    assert "Found" in out
    assert "not for commercial use" in out
    assert "mtl-open may be used commercially" in out
    row = json.loads((tmp_path / "demo" / "summary.json").read_text())["sources"][0]
    assert row["mpp"] == pytest.approx(0.499)
    assert row["mpp_from"] == "file"
    assert 100 < row["nuclei"] < 300
    for file in row["files"].values():
        assert file in out
        assert (tmp_path / "demo" / file).stat().st_size > 0


def test_doctor_lists_engines_models_and_sizes(nucleate):
    code, out, _ = nucleate("doctor")
    assert code == 0
    for said in ("openvino: works", "mtl-small", "size of the environment", "train: installed"):
        assert said in out


def test_evaluate_files(tmp_path, nucleate):
    folder.make(tmp_path / "t")
    truth = tmp_path / "t" / "labels"
    code, out, _ = nucleate("evaluate", truth, truth, "-o", tmp_path / "report")
    assert code == 0
    assert "1.0000" in out
    content = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert content["images"] == 3
    assert content["mean"]["aji"]["mean"] == 1.0
    assert content["about"]["command"].startswith("nucleate evaluate")


def test_evaluate_takes_what_segment_writes(tmp_path, nucleate):
    _png(tmp_path / "a.png")
    nucleate("segment", tmp_path / "a.png", "--mpp", 0.25, "-o", tmp_path / "out")
    labels = read_labels(tmp_path / "out" / "a.labels.tif")
    (tmp_path / "truth").mkdir()
    np.save(tmp_path / "truth" / "a.npy", labels)
    code, out, _ = nucleate("evaluate", tmp_path / "out", tmp_path / "truth")
    assert code == 0
    assert "1.0000" in out
    (tmp_path / "out" / "a.labels.tif").unlink()  # now from the outlines
    files = tmp_path / "out" / "a.geojson", tmp_path / "truth" / "a.npy"
    for sides in (files, (tmp_path / "out", tmp_path / "truth")):
        code, out, err = nucleate("evaluate", *sides)
        assert code == 0
        assert "AJI 1.000" in err
        assert "f1_detection" in out  # the result states the resolution


def _shifted(folder, name, labels=LABELS, by=9, mpp=None):
    """Write labels and the same a few pixels off: near at 0.25 um/px, far at 0.5."""
    for side, image in (("t", labels), ("p", np.roll(labels, by, 1))):
        (folder / side).mkdir(parents=True, exist_ok=True)
        write_labels(folder / side / f"{name}.tif", image, mpp)
    return folder / "p", folder / "t"


def test_detection_takes_the_resolution_that_files_state(tmp_path, nucleate):
    one = np.zeros((64, 64), np.int32)
    one[20:30, 20:30] = 1
    found = {}
    for mpp in (0.25, 0.5):
        sides = _shifted(tmp_path / str(mpp), "a", one, mpp=mpp)
        code, out, err = nucleate("evaluate", *sides, "--json")
        assert code == 0, err
        found[mpp] = json.loads(out)["mean"]["f1_detection"]["mean"]
    assert found == {0.25: 1.0, 0.5: 0.0}


def test_without_a_resolution_detection_is_omitted(tmp_path, nucleate):
    sides = _shifted(tmp_path, "a")
    code, out, err = nucleate("evaluate", *sides, "-o", tmp_path / "none")
    assert code == 0, err
    assert "f1_detection" not in out
    assert err.count("f1_detection: omitted for 1 of 1") == 1
    content = json.loads((tmp_path / "none" / "metrics.json").read_text())
    assert "f1_detection" not in {*content["mean"], *content["pooled"], *content["per_image"][0]}
    assert content["about"]["omitted"]["metrics"] == ["f1_detection"]
    assert "detection" not in (tmp_path / "none" / "per_image.csv").read_text()
    code, out, err = nucleate("evaluate", *sides, "-o", tmp_path / "given", "--mpp", 0.25)
    assert (code, "omitted" in err, "f1_detection" in out) == (0, False, True)
    code, _, err = nucleate("compare", tmp_path / "given", tmp_path / "none")
    assert code == 0, err
    words = ("--metrics", "f1_detection")
    code, _, err = nucleate("compare", tmp_path / "given", tmp_path / "none", *words)
    assert (code, "'f1_detection'" in err) == (2, True)
    _shifted(tmp_path, "b", mpp=0.25)  # one image that states it among others that do not
    code, out, err = nucleate("evaluate", *sides, "--json", "-o", tmp_path / "mixed")
    assert json.loads(out)["mean"]["f1_detection"]["n"] == 1
    assert "omitted for 1 of 2" in err
    code, _, err = nucleate("compare", tmp_path / "mixed", tmp_path / "mixed", *words)
    assert code == 0, err


def test_resolutions_that_contradict_each_other_are_refused(tmp_path, nucleate):
    pred, truth = _shifted(tmp_path, "a", mpp=0.25)
    code, _, err = nucleate("evaluate", pred, truth, "--mpp", 0.5)
    assert code == 2
    assert all(said in err for said in ("0.25 um/px", "--mpp", "0.5"))
    write_labels(truth / "a.tif", LABELS, 0.5)
    code, _, err = nucleate("evaluate", pred, truth)
    assert code == 2
    assert all(said in err for said in ("0.25 um/px", "0.5"))
    write_labels(truth / "a.tif", LABELS, 0.26)  # within 5 %
    assert nucleate("evaluate", pred, truth)[0] == 0
    (truth / "a.tif").unlink()
    square = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in ((2, 2), (9, 2), (9, 9), (2, 9)))
    (truth / "a.xml").write_text(
        f'<Annotations MicronsPerPixel="0.5"><Annotation><Regions><Region><Vertices>{square}'
        "</Vertices></Region></Regions></Annotation></Annotations>"
    )
    code, _, err = nucleate("evaluate", pred, truth)
    assert (code, "a.xml" in err) == (2, True)


def test_evaluate_leaves_out_every_image_that_segment_writes(tmp_path, nucleate):
    for end in (*OWN_IMAGES, ".nuclei.csv"):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / f"a{end}").write_bytes(b"")
    write_labels(tmp_path / "out" / "a.labels.tif", LABELS, 0.25)
    (tmp_path / "truth").mkdir()
    np.save(tmp_path / "truth" / "a.npy", LABELS)
    code, _, err = nucleate("evaluate", tmp_path / "out", tmp_path / "truth")
    assert code == 0, err
    assert "a: AJI 1.000" in err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: np.save(d / "p0_0.npy", np.zeros((9, 9), np.int32)), "9 × 9 pixels, but the"),
        (lambda d: (d / "p1_0.tif").unlink(), "has no prediction"),
        (lambda d: np.save(d / "p2_0.npy", np.zeros((128, 128), np.float32)), "must be integers"),
        (lambda d: (d / "zz.xml").write_text(BOMB), "has no truth"),
    ],
)
def test_evaluate_refuses_what_does_not_fit(tmp_path, nucleate, change, said):
    for side in ("t", "p"):
        folder.make(tmp_path / side)
    (tmp_path / "p" / "labels" / "p0_0.png").unlink()
    np.save(tmp_path / "p" / "labels" / "p0_0.npy", np.zeros((128, 128), np.int32))
    change(tmp_path / "p" / "labels")
    code, _, err = nucleate(
        "evaluate", tmp_path / "p" / "labels", tmp_path / "t" / "labels", "-o", tmp_path / "report"
    )
    assert code == 2
    assert said in err.strip().splitlines()[-1]
    assert not (tmp_path / "report").exists()


def test_xml_with_entities_is_refused_by_evaluate(tmp_path, nucleate):
    (tmp_path / "p.xml").write_text(BOMB)
    np.save(tmp_path / "t.npy", LABELS)
    code, _, err = nucleate("evaluate", tmp_path / "p.xml", tmp_path / "t.npy")
    assert code == 2
    assert says("p.xml", "entities").search(err)


def _seen_model(tmp_path, image):
    """Return a copy of the bundled model whose card lists an image and a patient."""
    shutil.copytree(find_model("mtl-small"), tmp_path / "model")
    card = read_card(tmp_path / "model")
    own = {
        "groups": {"train": ["TCGA-AA-0001"], "validation": []},
        "fingerprints": {"train": [fingerprints(image)], "validation": []},
    }
    write_card(tmp_path / "model", replace(card, training_data=[own]))
    return tmp_path / "model"


def test_scores_on_what_a_model_was_trained_on_are_marked(tmp_path, nucleate):
    folder.make(tmp_path / "mine")
    names = sorted(p.stem for p in (tmp_path / "mine" / "images").iterdir())
    model = _seen_model(tmp_path, read_image(tmp_path / "mine" / "images" / f"{names[0]}.png")[0])
    with Image.open(tmp_path / "mine" / "images" / f"{names[0]}.png") as image:
        image.save(tmp_path / "mine" / "images" / f"{names[0]}.jpg", quality=75)
    (tmp_path / "mine" / "images" / f"{names[0]}.png").unlink()
    words = ("evaluate", "--root", tmp_path / "mine", "--mpp", 0.25)
    code, _, err = nucleate(*words, "-m", model, "-q", "-o", tmp_path / "a")
    assert code == 0, err
    assert "1 of 3 images were seen in training" in err
    content = json.loads((tmp_path / "a" / "metrics.json").read_text())
    assert content["seen_in_training"] == {names[0]: "trained on: its pixels"}
    code, _, err = nucleate(*words, "-m", "mtl-small", "-o", tmp_path / "b")
    assert "seen in training" not in err
    code, out, err = nucleate("compare", tmp_path / "b", tmp_path / "a", "--json")
    assert code == 0, err
    assert f"{tmp_path / 'a'}: 1 of 3" in err
    assert list(json.loads(out)["seen_in_training"]) == [str(tmp_path / "a")]


def test_files_of_a_result_are_looked_up_in_the_card_of_its_model(tmp_path, nucleate, monkeypatch):
    """By pixels where the image can be found, by the patient in its name without it."""
    monkeypatch.chdir(tmp_path)  # where the model is found by its name
    for seed, name in enumerate(("known", "TCGA-AA-0001-01Z", "other")):
        _png(Path("in") / f"{name}.png", tissue(128, 128, 20, seed=seed)[0])
    model = _seen_model(tmp_path, read_image(tmp_path / "in" / "known.png")[0])
    model.rename("mtl-small")
    nucleate("segment", "in", "-m", "mtl-small", "--mpp", 0.25, "-o", "out", "--formats", "labels")
    Path("truth").mkdir()
    for file in Path("out").glob("*.labels.tif"):
        shutil.copy(file, "truth")
    code, out, err = nucleate("evaluate", "out", "truth", "--json")
    assert code == 0, err
    assert "2 of 3 images were seen in training" in err
    assert json.loads(out)["seen_in_training"] == {
        "TCGA-AA-0001-01Z": "trained on: its patient", "known": "trained on: its pixels",
    }  # fmt: skip
    shutil.rmtree("in")
    out = nucleate("evaluate", "out", "truth", "--json")[1]
    assert list(json.loads(out)["seen_in_training"]) == ["TCGA-AA-0001-01Z"]


def test_evaluate_gives_the_reader_its_options(tmp_path, nucleate):
    folder.make(tmp_path / "mine")
    words = ("evaluate", "-m", "mtl-small", "--root", tmp_path / "mine", "--mpp", 0.25, "--json")
    groups = json.loads(nucleate(*words)[1])["groups"]
    code, out, err = nucleate(*words, "--option", "group=^(p)")
    assert code == 0, err
    assert json.loads(out)["groups"] == 1 < groups
    code, _, err = nucleate("evaluate", "out", "truth", "--option", "mpp=1")
    assert code == 2
    assert says("--option", "--data", "--tta", "--model").search(err)


def test_use_of_official_test_images_is_written_down(tmp_path, nucleate):
    monuseg.make(tmp_path / "m", monuseg.TEST)
    ledger = tmp_path / "uses.csv"
    for _ in range(2):
        code, _, err = nucleate(
            "evaluate", "-m", "mtl-small", "--data", "monuseg", "--root", tmp_path / "m",
            "--ledger", ledger,
        )  # fmt: skip
        assert code == 0, err
    rows = ledger.read_text().splitlines()
    assert len(rows) == 3
    assert rows[0].startswith("date,commit,model,sha256")
    assert "--root m" in rows[1]  # no folder of this machine
    assert "recorded in" in err


def test_without_a_ledger_test_images_leave_no_file_behind(tmp_path, nucleate, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for side in ("p", "t"):
        (tmp_path / side).mkdir()
        np.save(tmp_path / side / f"{monuseg.TEST[0]}.npy", LABELS)
    code, _, err = nucleate("evaluate", tmp_path / "p", tmp_path / "t")
    assert code == 0, err
    assert "--ledger" in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p", "t"]


def test_split_and_train_from_the_command_line(tmp_path, nucleate, monkeypatch):
    import yaml

    from tests.integration.test_train import TINY

    folder.make(tmp_path / "data", 4)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    monkeypatch.chdir(tmp_path)
    code, out, err = nucleate("data", "split", "tiny.yaml", "-o", "split.json")
    assert code == 0, err
    assert "2 train, 2 validation" in out
    code, out, err = nucleate(
        "train", "tiny.yaml", "--set", "data.split=split.json", "--set", "train.steps=3",
        "--set", "train.workers=0",
    )  # fmt: skip
    assert code == 0, err
    model = tmp_path / "runs" / "tiny" / "model"
    code, _, err = nucleate(
        "segment", tmp_path / "data" / "images", "-m", model, "-o", "out", "--mpp", 0.25
    )
    assert code == 0, err


def test_data_list(nucleate):
    code, out, _ = nucleate("data", "list")
    assert code == 0
    assert "CC-BY-NC-SA-4.0" in out


def _nodes(command, words=()):
    """Yield every group and command of the parser, with the words that lead to it."""
    yield words, command
    for name, below in getattr(command, "commands", {}).items():
        yield from _nodes(below, (*words, name))


def test_help_fits_80_columns_and_cuts_no_sentence(nucleate, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for words, command in _nodes(get_command(app)):
        first = inspect.cleandoc(command.help).split("\n\n")[0]
        assert len(first) <= 60, words
        assert first.endswith("."), words
        code, out, _ = nucleate(*words, "--help")
        assert code == 0
        prose = [ln for ln in out.splitlines() if not ln.strip().startswith("nucleate ")]
        assert max(map(len, prose)) <= 80, words
        listed = out.partition("Commands:")[2]
        for name, below in getattr(command, "commands", {}).items():
            assert f"{name} " in listed
            assert inspect.cleandoc(below.help).split("\n\n")[0] in listed, name
        assert "..." not in listed


@pytest.mark.parametrize("words", [["--help"], ["segment", "--help"], ["--version"]])
def test_help_and_version(nucleate, words):
    code, out, _ = nucleate(*words)
    assert code == 0
    assert "nucleate" in out


@pytest.mark.parametrize("delay", [0.2, pytest.param(0.8, marks=pytest.mark.slow)])
def test_killed_while_segmenting_leaves_no_half_file(tmp_path, delay):
    for i in range(6):
        _png(tmp_path / "in" / f"{i}.png", np.tile(IMAGE, (4, 4, 1)))
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "nucleate", "segment", str(tmp_path / "in"), "--mpp", "0.25",
         "-o", str(out)],
        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    for _ in range(3000):
        time.sleep(0.02)
        if any(out.glob("[!.]*")) or process.poll() is not None:
            break
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    final = [p for p in out.iterdir() if not p.name.startswith(".")]
    assert final
    for path in final:
        if path.suffix == ".tif":
            assert read_labels(path).shape == (640, 800)
        elif path.suffix == ".png":
            Image.open(path).load()
        elif path.suffix == ".geojson":
            json.loads(path.read_text())
        elif path.suffix == ".parquet":
            import pyarrow.parquet

            pyarrow.parquet.read_table(path)


def test_data_commands_end_to_end(tmp_path, nucleate):
    from tests.data import cryonuseg

    cryonuseg.make(tmp_path / "cryo")
    said = tmp_path / "c.json"
    code, out, _ = nucleate("data", "check", "cryonuseg", tmp_path / "cryo", "-o", said)
    assert code == 3  # three images are not the thirty that were published
    assert "problem: 3 images" in out
    assert json.loads(said.read_text())["images"] == 3
    code, out, _ = nucleate(
        "data", "convert", "cryonuseg", tmp_path / "cryo", "--to", "coco", "-o", tmp_path / "coco"
    )
    assert code == 0
    assert "3 images with" in out
    code, out, _ = nucleate("data", "check", "coco", tmp_path / "coco")
    assert code == 0
    code, out, _ = nucleate("data", "inspect", "coco", tmp_path / "coco", "-o", tmp_path / "report")
    assert code == 0
    assert (tmp_path / "report" / "index.html").stat().st_size > 10_000
    code, out, _ = nucleate("data", "list")
    assert all(name in out for name in ("nuinsseg", "pannuke", "qupath", "shards"))


def test_prepare_and_read_back(tmp_path, nucleate):
    folder.make(tmp_path / "in")
    code, out, err = nucleate(
        "prepare", tmp_path / "in", tmp_path / "out", "--option", "mpp=0.25", "--mpp", 0.5,
        "--copies", 1, "--scale", "zscore",
    )  # fmt: skip
    assert code == 0
    assert "6 train images" in out
    assert "labels:" in err
    code, out, _ = nucleate("data", "check", "shards", tmp_path / "out")
    assert code == 0
    assert out.startswith("6 images of 3 groups")


@pytest.mark.parametrize("scheme", ["kfold", "leave-one-patient-out"])
def test_split_schemes_write_files_that_train_reads(tmp_path, nucleate, scheme):
    from nucleate.config import load_recipe
    from nucleate.datasets.loading import collect

    folder.make(tmp_path / "in", 5)
    sets = 'data.sets=[{"name": "folder", "path": "in", "options": {"mpp": 0.25}}]'
    code, _, _ = nucleate(
        "data", "split", "recipes/laptop.yaml", "--set", sets, "--set", f"data.root={tmp_path}",
        "--scheme", scheme, "-o", tmp_path / "splits",
    )  # fmt: skip
    assert code == 0
    files = sorted((tmp_path / "splits").glob("*.json"))
    assert len(files) == 5
    changes = [sets, f"data.root={tmp_path}", f"data.split={files[0]}"]
    found = collect(load_recipe(Path("recipes/laptop.yaml"), changes).data, Path())
    assert len(found.split.parts["test"]) == 1


def test_stain_commands_end_to_end(tmp_path, nucleate):
    from tests.unit.test_stain import stained

    for i in range(5):
        _png(tmp_path / "in" / f"p{i}.png", stained(i, red=0.8 + 0.1 * i))
    _png(tmp_path / "in" / "white.png", np.full((64, 64, 3), 255, np.uint8))
    source, stain = tmp_path / "in", tmp_path / "s.json"
    code, out, _ = nucleate("stain", "select", source, "-o", tmp_path / "rank")
    assert code == 0
    assert out.strip().endswith(".png")
    rows = (tmp_path / "rank" / "ranking.csv").read_text().splitlines()
    assert len(rows) == 7
    assert any("white" in row and "tissue 0%" in row for row in rows)
    code, out, _ = nucleate("stain", "fit", source, "-k", 1, "--method", "macenko", "-o", stain)
    assert code == 0
    code, out, err = nucleate("stain", "apply", source, "--stain", stain, "-o", tmp_path / "out")
    assert code == 0
    assert says("white.png").search(err)
    assert len(list((tmp_path / "out").iterdir())) == 6
    code, out, err = nucleate("stain", "preview", source, "-o", tmp_path / "preview.png")
    assert code == 0
    with Image.open(tmp_path / "preview.png") as sheet:
        assert sheet.width > 800
    (source / "broken.png").write_bytes(b"no image")
    code, _, err = nucleate("stain", "apply", source, "--stain", stain, "-o", tmp_path / "out2")
    assert code == 3
    assert "broken.png" in err


REFUSED = {
    "unknown set": ("data", "check", "monusegg", "."),
    "set without folder": ("data", "check", "monuseg"),
    "no such folder": ("data", "check", "nowhere"),
    "unknown option": ("data", "check", "folder", "{in}", "--option", "mppp=1"),
    "bad option": ("data", "check", "folder", "{in}", "--option", "mpp"),
    "unknown form": ("data", "convert", "folder", "{in}", "--to", "yolo", "-o", "{out}"),
    "result in the way": ("data", "convert", "folder", "{in}", "-o", "{in}"),
    "unknown data set": ("data", "check", "imagenet", "."),
    "unknown scheme": ("data", "split", "recipes/laptop.yaml", "--scheme", "x", "-o", "{out}"),
    "unknown stain": ("prepare", "{in}", "{out}", "--stain", "macenco"),
    "bad size": ("prepare", "{in}", "{out}", "--size", "512"),
    "size and mpp": ("prepare", "{in}", "{out}", "--size", "64x64", "--mpp", "0.5"),
    "no mpp to resample": ("prepare", "{in}", "{out}", "--mpp", "0.5"),
    "impossible mpp": ("prepare", "{in}", "{out}", "--mpp", "99"),
    "no normaliser": ("stain", "apply", "{in}", "--stain", "{in}/images/p0_0.png", "-o", "{out}"),
    "missing normaliser": ("stain", "apply", "{in}", "--stain", "none.json", "-o", "{out}"),
    "unknown method": ("stain", "fit", "{in}/images", "--method", "magic", "-o", "{out}/s.json"),
    "blend": ("stain", "fit", "{in}/images", "--blend", "7", "-o", "{out}/s.json"),
    "too many references": ("stain", "select", "{in}/images", "-k", "9", "-o", "{out}"),
    "inside the data": ("data", "convert", "folder", "{in}", "-o", "{in}/out"),
    "prepared inside the data": ("prepare", "{in}", "{in}/images/out"),
    "mpp is no number": ("data", "convert", "folder", "{in}", "--option", "mpp=abc", "-o", "{out}"),
    "group is no text": ("data", "check", "folder", "{in}", "--option", "group=5"),
    "focus out of range": ("stain", "select", "{in}/images", "--drop-focus", "2", "-o", "{out}"),
    "onto itself": ("stain", "apply", "{in}/images", "--stain", "s.json", "-o", "{in}/images"),
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED.values(), ids=REFUSED)
def test_data_commands_refuse_in_one_sentence(tmp_path, nucleate, words):
    folder.make(tmp_path / "in")
    before = sorted(tmp_path.rglob("*"))
    places = {"in": tmp_path / "in", "out": tmp_path / "out"}
    code, _, err = nucleate(*(word.format(**places) for word in words))
    assert code == 2
    assert err.startswith("nucleate: ")
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_stain_is_never_fitted_on_official_test_images(tmp_path, nucleate):
    from tests.unit.test_stain import stained

    _png(tmp_path / f"{monuseg.TEST[0]}.png", stained(1))
    for command in ("fit", "select"):
        code, _, err = nucleate("stain", command, tmp_path, "-o", tmp_path / "x.json")
        assert code == 2
        assert says("official test").search(err)


@pytest.mark.parametrize(
    "words", [("train", "r.yaml"), ("crossval", "r.yaml"), ("report", "run", "-o", "out")]
)
def test_without_pytorch_the_extra_to_install_is_named(words, tmp_path):
    program = (
        "import sys\n"
        "class Without:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'lightning'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Without())\n"
        f"sys.argv = ['nucleate', *{words!r}]\n"
        "from nucleate.cli import main\n"
        "main()\n"
    )
    shutil.copy(Path(__file__).parents[2] / "recipes/laptop.yaml", tmp_path / "r.yaml")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "extra 'train'" in done.stderr
    assert re.search(r"pip install .*torch", done.stderr)
    assert "Traceback" not in done.stderr


WITHOUT_TORCH = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "lightning", "tensorboard"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Without())
from nucleate.cli import main
main()
"""


def test_matlab_labels_and_inspect_need_no_pytorch(tmp_path):
    hovernet.kumar(tmp_path / "data")
    words = ["data", "inspect", "kumar", str(tmp_path / "data"), "-o", str(tmp_path / "report")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report" / "index.html").exists()


@pytest.mark.parametrize(
    ("command", "module"), [("check", "scipy.io"), ("inspect", "scipy"), ("inspect", "jinja2")]
)
def test_the_small_extra_is_named(command, module, tmp_path, nucleate, monkeypatch):
    hovernet.kumar(tmp_path / "data")
    listed = ["numpy>=2", *(f"{p}; extra == 'data'" for p in ("scipy>=1.14", "jinja2>=3.1"))]
    listed.append("torch>=2.6; extra == 'train'")
    monkeypatch.setattr("nucleate.errors.metadata.requires", lambda _: listed)
    monkeypatch.setitem(sys.modules, module, None)
    code, out, err = nucleate("data", command, "kumar", tmp_path / "data", "-o", tmp_path / "x")
    assert "pip install 'scipy>=1.14' 'jinja2>=3.1'" in out + err
    assert "extra 'data'" in out + err
    assert code != 0
    assert "torch" not in out + err
    assert not (tmp_path / "x" / "index.html").exists()


def test_the_extra_of_an_installation_that_lists_none_is_the_missing_package(monkeypatch):
    from nucleate.errors import install

    monkeypatch.setattr("nucleate.errors.metadata.requires", lambda _: None)
    assert install("cluster", "dask_jobqueue.core") == "pip install dask-jobqueue"


def test_check_writes_nothing(tmp_path, nucleate, monkeypatch):
    """Not even the folds of the complete NuInsSeg, which are written by data split."""
    nuinsseg.make(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    card = replace(DATASETS["nuinsseg"].card, parts={"all": (3, None)}, size=None)
    monkeypatch.setitem(DATASETS, "nuinsseg", replace(DATASETS["nuinsseg"], card=card))
    before = sorted(tmp_path.rglob("*"))
    code, out, err = nucleate("data", "check", "nuinsseg", "data")
    assert "complete" in out, out + err
    assert code in (0, 3)
    assert sorted(tmp_path.rglob("*")) == before

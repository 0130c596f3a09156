"""Pretraining for real, on tiny generated trees: runs, kills, starting from them, the study."""

import csv
import hashlib
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.numpy import load_file

from nucleate import load_model
from nucleate.config import load_recipe
from nucleate.datasets.splits import read_split
from nucleate.errors import ConfigError, InputError, ModelError, TrainingError
from nucleate.models.card import read_card, read_encoder_card
from nucleate.pretraining.pretrainer import PRETEXTS, pretrain_recipe
from nucleate.pretraining.recipe import PretrainRecipe
from nucleate.pretraining.study import run_study
from nucleate.pretraining.study_plan import HELD_OUT, StudyOptions
from nucleate.training.trainer import train_recipe
from nucleate.trees import load_tree
from tests.data import folder
from tests.errors import says
from tests.integration.test_train import TINY
from tests.synthetic import tissue
from tests.unit.test_pretext import ARGUMENTS

PRETRAIN = {
    "name": "tiny-pretext",
    "licence": "MIT",
    "data": {
        "root": ".",
        "folders": [{"path": "unlabelled", "mpp": 0.25, "licence": "CC0-1.0"}],
        "validation": 0.3,
    },
    "model": TINY["model"],
    "pretext": {"task": "relative_position", "arguments": ARGUMENTS["relative_position"]},
    "examples": 6,
    "train": {
        "steps": 4, "batch": 2, "validate_every": 2, "workers": 0, "precision": "fp32",
        "device": "cpu", "warmup_steps": 0,
    },
}  # fmt: skip


def _write_tree(root):
    folder.make(root / "data", 6)
    (root / "unlabelled").mkdir()
    for i in range(6):
        Image.fromarray(tissue(160, 160, 20, seed=i)[0]).save(root / "unlabelled" / f"u{i}.png")
    (root / "pretrain.yaml").write_text(yaml.safe_dump(PRETRAIN))
    tiny = {**TINY, "train": {**TINY["train"], "workers": 0}}
    (root / "tiny.yaml").write_text(yaml.safe_dump(tiny))


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("pretrain")
    _write_tree(root)
    return root


def _recipe(tree, *changes):
    return load_tree(PretrainRecipe, tree / "pretrain.yaml", list(changes))


@pytest.fixture(scope="module")
def done(tree):
    return pretrain_recipe(_recipe(tree), tree, tree / "done")


def test_a_run_leaves_an_encoder_with_a_card_and_images(tree, done):
    card = read_encoder_card(done / "encoder")
    assert (card.family, card.task, card.licence) == ("mtl", "relative_position", "MIT")
    assert card.metrics["chance"] == {"accuracy": 1 / 8}
    assert 0 <= card.metrics["validation"]["val_accuracy"] <= 1
    assert card.recipe["data"]["root"] == "."
    split = read_split(done / "split.json")
    groups = card.training_data[-1]["groups"]
    assert len(groups["train"]) == 4
    assert groups["validation"] == sorted(split.groups[n] for n in split.parts["validation"])
    rows = list(csv.DictReader((done / "metrics.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == [2, 4]
    assert {"val_accuracy", "train_accuracy", "loss", "val_loss"} <= rows[0].keys()
    for name in ("progress.png", "neighbours.png", "attention.png"):
        image = np.asarray(Image.open(done / name).convert("RGB"))
        assert image.std() > 10, name
    assert "start at random" not in (done / "log.txt").read_text()
    assert "Starts from random weights." in (done / "log.txt").read_text()


@pytest.mark.parametrize("task", sorted(PRETEXTS.keys() - {"relative_position"}))
def test_every_task_trains(tree, tmp_path, task):
    arguments = json.dumps(ARGUMENTS[task])
    recipe = _recipe(tree, f"pretext.task={task}", f"pretext.arguments={arguments}")
    run = pretrain_recipe(recipe, tree, tmp_path / "run")
    assert read_encoder_card(run / "encoder").task == task


def test_training_moves_the_encoder(tree, done, tmp_path):
    still = pretrain_recipe(_recipe(tree, "train.lr=1e-12"), tree, tmp_path / "still")
    one, other = (load_file(run / "encoder" / "encoder.safetensors") for run in (done, still))
    weights = [name for name in one if name.endswith("weight") and one[name].ndim == 4]
    assert weights
    assert all(not np.allclose(one[name], other[name], atol=1e-5) for name in weights)


def _command(tree, out, *more):
    words = ["pretrain", str(tree / "pretrain.yaml"), "-o", str(out), "--set",
             f"data.root={tree}", *more]  # fmt: skip
    return [sys.executable, "-m", "nucleate", *words]


@pytest.mark.slow
def test_killed_and_resumed_gives_the_same_bits(tree, tmp_path):
    whole = tmp_path / "whole"
    subprocess.run(_command(tree, whole, "--set", "train.steps=12"), check=True)
    cut = tmp_path / "cut"
    words = _command(tree, cut, "--set", "train.steps=12")
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (cut / "checkpoints" / "manifest.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (cut / "encoder").exists()
    subprocess.run([*words, "--resume"], check=True)
    assert "resuming from step-" in (cut / "log.txt").read_text()
    one, other = (load_file(run / "encoder" / "encoder.safetensors") for run in (whole, cut))
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_a_run_is_resumed_as_it_was_started_only(tree, done):
    with pytest.raises(TrainingError, match=says("run", "already")):
        pretrain_recipe(_recipe(tree), tree, done)
    with pytest.raises(TrainingError, match=says("recipe", "pretext.arguments.gap_px")):
        pretrain_recipe(_recipe(tree, "pretext.arguments.gap_px=6"), tree, done, resume=True)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ("pretext.task=relativ_position", ConfigError, "Did you mean 'relative_position'"),
        ("pretext.arguments={patch: 3}", ConfigError, "has no 'patch'"),
        ("pretext.arguments={patch_px: big}", ConfigError, "patch_px = big"),
        ("pretext.arguments={patch_px: 128}", InputError, "430 × 430"),
        ("data.folders.0.path=nowhere", InputError, "there is no such file"),
        ("data.folders.0.mpp=null", InputError, "no resolution"),
        ("model.family=vgg", ConfigError, "no model family"),
        ("train.precision=fp16", ConfigError, "needs a GPU"),
        ("pretext.arguments={patch_px: 10000000}", ConfigError, "too large|At most"),
        ("pretext.arguments={cells: 1000000}", ConfigError, "cannot take|too large"),
        ("pretext.arguments={width: 1000000000000}", ConfigError, "too large"),
        ("pretext={task: autoencoder, arguments: {noise: .nan}}", ConfigError, "noise = nan"),
        ("pretext={task: multiscale, arguments: {blur_px: [2]}}", ConfigError, "blur_px must be"),
        ("data.exclude=[nobody]", ConfigError, "unknown patient 'nobody'"),
        ("data.split_seed=-1", ConfigError, "split_seed"),
        ("examples=100000000", ConfigError, "examples"),
        ("init.imagenet=required", ConfigError, "no encoder with published weights"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(tree, tmp_path, change, error, said):
    with pytest.raises(error, match=said):
        pretrain_recipe(_recipe(tree, change), tree, tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- starting from it -------------------------------------------------------------------------


def training_recipe(tree, *changes):
    return load_recipe(tree / "tiny.yaml", list(changes))


def test_a_training_starts_from_the_encoder(tree, done, tmp_path):
    """With next to no rate of learning the encoder is still what it was pretrained to."""
    recipe = training_recipe(tree, f"init.from={done}", "train.lr=1e-12", "train.ema=0")
    out = tmp_path / "run"
    card = read_card(train_recipe(recipe, tree, out))
    start = json.loads((out / "start.json").read_text())["said"]
    given = load_file(done / "encoder" / "encoder.safetensors")
    kept = load_file(out / "model" / "model.safetensors")
    for name, array in given.items():
        if "running" not in name and "num_batches" not in name:
            # a finished model's weights are rounded to 16 bits
            np.testing.assert_allclose(kept[name], array, rtol=5e-4, atol=1e-6, err_msg=name)
    fresh = len(kept.keys() - given.keys())
    assert f"{len(given)} arrays (" in start
    assert f"{fresh} (" in start
    assert "encoder" in start.split(";")[0]
    assert "leave 2" in start.split(";")[1]
    assert start in (out / "log.txt").read_text()
    assert card.notes == start
    lineage = [entry for entry in card.training_data if entry.get("through") == "tiny-pretext"]
    assert lineage[0]["licence"] == "CC0-1.0"
    assert lineage[-1]["unlabelled"]


def test_what_only_the_decoder_has_may_differ(tree, done, tmp_path):
    recipe = training_recipe(tree, f"init.from={done}", "model.arguments.gates=false")
    train_recipe(recipe, tree, tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("model.arguments.widths=[8,16]", "model.arguments"),
        ("model={family: unet, arguments: {widths: [8, 12]}}", "model.family"),
        ("data.mpp=0.5", "data.mpp"),
    ],
)
def test_another_network_is_refused(tree, done, tmp_path, change, said):
    with pytest.raises(ConfigError, match=said):
        train_recipe(training_recipe(tree, f"init.from={done}", change), tree, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_was_looked_at_is_not_held_out(tree, tmp_path):
    """Not even without its labels, and whatever its name: pixels tell."""
    change = "data.folders=[{path: data/images, mpp: 0.25}]"
    small = "pretext.arguments={patch_px: 16, gap_px: 6, jitter_px: 3, width: 8}"
    pretext = _recipe(tree, change, small, "data.validation=0.1")
    run = pretrain_recipe(pretext, tree, tmp_path / "pretext")
    with pytest.raises(ConfigError, match=says("held out")):
        train_recipe(training_recipe(tree, f"init.from={run}"), tree, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_damaged_encoders_are_refused(tree, done, tmp_path):
    import shutil

    copy = shutil.copytree(done, tmp_path / "copy")
    recipe = training_recipe(tree, f"init.from={copy}")
    weights = copy / "encoder" / "encoder.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4] + b"\0\0\0\1")
    with pytest.raises(ModelError, match="SHA-256"):
        train_recipe(recipe, tree, tmp_path / "run")
    weights.write_bytes(whole)
    card = copy / "encoder" / "encoder.json"
    good = card.read_text()
    for bad, said in (("{", "not valid JSON"), ("{}", "not an encoder card"), ("[]", "card")):
        card.write_text(bad)
        with pytest.raises(ModelError, match=said):
            train_recipe(recipe, tree, tmp_path / "run")
    for change in (
        {"mpp": "x"}, {"files": {}}, {"recipe": {}}, {"training_data": [1]},
        {"training_data": [{"groups": []}]}, {"training_data": [{"groups": {"train": []}}]},
        {"training_data": [{"groups": {"train": [[]], "validation": []}}]},
        {"training_data": [{"fingerprints": 3}]},
        {"training_data": [{"fingerprints": {"train": ["x"]}}]},
    ):  # fmt: skip
        card.write_text(json.dumps({**json.loads(good), **change}))
        with pytest.raises(ModelError, match="is invalid"):
            train_recipe(recipe, tree, tmp_path / "run")
    weights.write_bytes(b"garbage")
    digest = hashlib.sha256(b"garbage").hexdigest()
    card.write_text(json.dumps({**json.loads(good), "files": {"encoder.safetensors": digest}}))
    with pytest.raises(ModelError, match=says("safetensors")):
        train_recipe(recipe, tree, tmp_path / "run")


def test_arrays_that_do_not_fit_are_refused(tree, done, tmp_path):
    """A card may claim another network than the one that its arrays are of."""
    import shutil

    copy = shutil.copytree(done, tmp_path / "copy")
    file = copy / "encoder" / "encoder.json"
    card = json.loads(file.read_text())
    card["arguments"]["widths"] = [8, 16]
    file.write_text(json.dumps(card))
    with pytest.raises(ModelError, match=says("fit the network")):
        train_recipe(
            training_recipe(tree, f"init.from={copy}", "model.arguments.widths=[8,16]"), tree,
            tmp_path / "run",
        )  # fmt: skip


def test_an_encoder_is_no_model(done):
    with pytest.raises(ModelError, match=says("nuclei", "init.from")):
        load_model(done)


# --- the study --------------------------------------------------------------------------------

STUDY = {
    "name": "tiny-study",
    "finetune": "finetune.yaml",
    "starts": {"random": {}, "relative position": {"pretext": "pretrain.yaml"}},
    "fractions": [0.5, 1.0],
    "seeds": [1],
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    _write_tree(root)
    image, labels = tissue(128, 128, 14, seed=50)
    for part, array in (("images", image), ("labels", labels.astype(np.uint16))):
        (root / "official" / part).mkdir(parents=True)
        Image.fromarray(array).save(root / "official" / part / "TCGA-2Z-A9J9-01A-01-TS1.png")
    finetune = {
        **TINY, "decode": {**TINY.get("decode", {}), "tune": False},
        "train": {**TINY["train"], "workers": 0, "keep": "last"},
    }  # fmt: skip
    (root / "finetune.yaml").write_text(yaml.safe_dump(finetune))
    (root / "study.yaml").write_text(yaml.safe_dump(STUDY))
    summary = run_study(root / "study.yaml", [f"root={root}"], root, root / "out", StudyOptions())
    return root, summary


def test_a_study_trains_and_scores_everything(study):
    root, summary = study
    runs = {p.name for p in (root / "out" / "runs").iterdir() if p.is_dir()}
    starts = ("random", "relative-position")
    assert runs == {f"{s}-{f}-1" for s in starts for f in ("50", "100")}
    test = summary["tests"][HELD_OUT]
    assert list(test["labelled"]) == ["50", "100"]
    for rows in test["labelled"].values():
        assert list(rows) == list(STUDY["starts"])
        assert "gain" not in rows["random"]
        gain = rows["relative position"]["gain"]
        change = rows["relative position"]["aji"]["mean"] - rows["random"]["aji"]["mean"]
        assert gain["difference"] == pytest.approx(change)
        assert gain["low"] <= gain["difference"] <= gain["high"]
        assert len(rows["random"]["aji"]["seeds"]) == 1
    assert json.loads((root / "out" / "study.json").read_text())["steps"] == summary["steps"]
    assert np.asarray(Image.open(root / "out" / "label-efficiency.png").convert("L")).std() > 10


def test_starts_differ_in_nothing_else(study):
    root, _ = study
    for share in ("50", "100"):
        runs = [root / "out" / "runs" / f"{start}-{share}-1" for start in
                ("random", "relative-position")]  # fmt: skip
        splits = [read_split(run / "split.json") for run in runs]
        assert splits[0].digest == splits[1].digest
        trees = [load_recipe(run / "recipe.yaml").model_dump() for run in runs]
        assert trees[1].pop("init")["from"].endswith("pretexts/pretrain")
        assert trees[0].pop("init")["from"] is None
        assert trees[0] == trees[1]
    few, all_ = (
        read_split(root / "out" / "runs" / f"random-{share}-1" / "split.json")
        for share in ("50", "100")
    )
    assert set(few.parts["train"]) < set(all_.parts["train"])
    assert few.parts["validation"] == all_.parts["validation"]
    assert len(few.parts["train"]) == round(len(all_.parts["train"]) / 2)


@pytest.mark.slow
def test_a_study_is_resumed_and_may_grow(study):
    root, summary = study
    out = root / "out"
    victim = out / "runs" / "random-50-1" / "model" / "card.json"
    before = victim.read_text()
    victim.unlink()
    (out / "tests" / "held-out-images" / "random-50-1" / "metrics.json").unlink()
    untouched = out / "runs" / "random-100-1" / "model" / "card.json"
    stamp = untouched.stat().st_mtime_ns
    words = [f"root={root}"]
    with pytest.raises(TrainingError, match=says("study", "already")):
        run_study(root / "study.yaml", words, root, out, StudyOptions())
    again = run_study(
        root / "study.yaml", [*words, "seeds=[1,2,3]"], root, out, StudyOptions(resume=True)
    )
    assert untouched.stat().st_mtime_ns == stamp
    assert json.loads(victim.read_text())["files"] == json.loads(before)["files"]
    for share, rows in again["tests"][HELD_OUT]["labelled"].items():
        old = summary["tests"][HELD_OUT]["labelled"][share]
        assert rows["random"]["aji"]["seeds"][:1] == old["random"]["aji"]["seeds"]
        assert len(rows["random"]["aji"]["seeds"]) == 3
    text = (root / "finetune.yaml").read_text()
    (root / "finetune.yaml").write_text(text.replace("crop_px: 64", "crop_px: 32"))
    with pytest.raises(TrainingError, match="another training"):
        run_study(root / "study.yaml", words, root, out, StudyOptions(resume=True))
    (root / "finetune.yaml").write_text(text)


def test_official_test_images_are_scored_at_the_end_only_and_written_down(study, tmp_path):
    root, _ = study
    tests = "tests=[{name: folder, path: official, title: official, options: {mpp: 0.25}}]"
    words = [f"root={root}", tests]
    ledger = tmp_path / "ledger.csv"
    options = StudyOptions(resume=True, ledger=ledger)
    found = run_study(root / "study.yaml", words, root, root / "out", options)
    assert not ledger.exists()
    assert all(not rows for rows in found["tests"]["official"]["labelled"].values())
    options = StudyOptions(resume=True, final=True, ledger=ledger, command="nucleate …")
    found = run_study(root / "study.yaml", words, root, root / "out", options)
    rows = list(csv.DictReader(ledger.read_text().splitlines()))
    assert len(rows) == 4
    assert rows[0]["model"].startswith("tiny-study: ")
    assert len(found["tests"]["official"]["labelled"]["50"]) == 2
    # a score belongs to the weights that it was made with
    old = next((root / "out" / "tests" / "official").iterdir()) / "metrics.json"
    printed = json.loads(old.read_text())
    printed["about"]["model_files"] = {"model.onnx": "another"}
    old.write_text(json.dumps(printed))
    run_study(root / "study.yaml", words, root, root / "out", options)
    assert len(ledger.read_text().splitlines()) == 1 + 4 + 1
    assert json.loads(old.read_text())["about"]["model_files"] != printed["about"]["model_files"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("finetune=tiny.yaml", "Set train.keep=last and decode.tune=false"),
        ("tests=[{name: folder, path: data, options: {mpp: 0.25}}]", "used for training"),
        ("starts={random: {}}", "starts"),
        ("fractions=[0.5, 0.5]", "contains a value twice"),
        ("fractions=[0]", "fractions"),
        ("starts={random: {}, r: {pretex: a.yaml}}", "there is no key 'starts.r.pretex'"),
        ("starts={a b: {}, a-b: {}}", "two titles give the same folder"),
        ("seeds=[-1]", "seeds"),
        ("starts={a: {}, b: {pretext: pretrain.yaml, imagenet: true}}", "exclude each other"),
    ],
)
def test_a_study_against_the_protocol_is_refused(study, tmp_path, change, said):
    root, _ = study
    with pytest.raises(ConfigError, match=said):
        run_study(
            root / "study.yaml", [f"root={root}", change], root, tmp_path / "out", StudyOptions()
        )
    assert not (tmp_path / "out").exists()


def test_what_is_tested_on_is_in_no_pretext_set(study, tmp_path):
    """The images that the fine-tuning holds out are left out of a pretext set that has them."""
    from nucleate.pretraining.study_plan import plan_study

    root, _ = study
    sets = [{"name": "folder", "path": "data", "options": {"mpp": 0.25}}]
    own = {**PRETRAIN, "data": {"root": ".", "sets": sets, "validation": 0.3}}
    (root / "own.yaml").write_text(yaml.safe_dump(own))
    change = "starts={random: {}, own: {pretext: own.yaml}}"
    plan = plan_study(root / "study.yaml", [f"root={root}", change], root)
    held = {e.group for e in plan.tests[HELD_OUT]}
    assert set(plan.pretexts["own"].data.exclude) == held
    assert held


def test_a_pretext_that_has_seen_a_test_by_another_name_is_refused(study, tmp_path):
    root, _ = study
    content = {**PRETRAIN, "data": {**PRETRAIN["data"], "validation": 0.1}}
    content["data"]["folders"] = [{"path": "data/images", "mpp": 0.25}]
    content["pretext"] = {
        "task": "relative_position",
        "arguments": {"patch_px": 16, "gap_px": 6, "jitter_px": 3, "width": 8},
    }
    (root / "leaky.yaml").write_text(yaml.safe_dump(content))
    words = [f"root={root}", "starts={random: {}, leaky: {pretext: leaky.yaml}}"]
    with pytest.raises(ConfigError, match=says("another name")):
        run_study(root / "study.yaml", words, root, tmp_path / "out", StudyOptions())
    assert not (tmp_path / "out" / "runs").exists()


def test_a_resumed_study_keeps_the_meaning_of_its_titles(study):
    root, _ = study
    words = [f"root={root}"]
    other = yaml.safe_dump({**PRETRAIN, "name": "other"})
    (root / "other.yaml").write_text(other)
    change = "starts={random: {}, relative position: {pretext: other.yaml}}"
    with pytest.raises(TrainingError, match=says("recipe", "init.from")):
        run_study(
            root / "study.yaml", [*words, change], root, root / "out", StudyOptions(resume=True)
        )
    test = "tests=[{name: folder, path: official, title: official, options: {mpp: 0.25}}]"
    options = StudyOptions(resume=True, ledger=root / "ledger.csv")
    run_study(root / "study.yaml", [*words, test], root, root / "out", options)
    test = test.replace("0.25", "0.5")
    with pytest.raises(TrainingError, match=says("data", "changed", "title")):
        run_study(
            root / "study.yaml", [*words, test], root, root / "out", StudyOptions(resume=True)
        )


def test_imagenet_that_cannot_be_reached_is_said(study, monkeypatch):
    from nucleate.pretraining import study as module

    def unreachable(_):
        raise ModelError("The ImageNet weights cannot be reached.")

    monkeypatch.setattr(module, "start_from_imagenet", unreachable)
    root, _ = study
    starts = {**STUDY["starts"], "ImageNet": {"imagenet": True}}
    change = f"starts={json.dumps(starts)}"
    found = run_study(
        root / "study.yaml", [f"root={root}", change], root, root / "out",
        StudyOptions(resume=True),
    )  # fmt: skip
    assert "cannot be reached" in found["skipped"]["ImageNet"]
    assert "ImageNet" not in found["tests"][HELD_OUT]["labelled"]["50"]


def test_the_command_line(study, tree, tmp_path, monkeypatch, nucleate):
    root, _ = study
    monkeypatch.chdir(tmp_path)
    words = ("pretrain", tree / "pretrain.yaml", "--set", f"data.root={tree}")
    code, _, err = nucleate(*words)
    assert code == 0, err
    assert (tmp_path / "runs" / "tiny-pretext" / "encoder" / "encoder.json").exists()
    code, _, err = nucleate(*words)
    assert (code, err.count("\n")) == (2, 1)
    code, out, err = nucleate("pretrain", "study", root / "study.yaml", "--set", f"root={root}",
                              "-o", root / "out", "--resume")  # fmt: skip
    assert code == 0, err
    assert "relative position" in out
    assert "(95 % interval)" in out
    for words, said in ((["nowhere.yaml"], "nowhere.yaml"), (["study"], "recipe"), ([], "study")):
        code, out, err = nucleate("pretrain", *words)
        assert code == 2
        assert said in err + out
        assert "Traceback" not in err
    assert "study" in nucleate("pretrain", "--help")[1]

"""Training for real, on a tiny generated tree: the run folder, resuming after a kill, refusals."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from nucleate import load_model, segment
from nucleate.annotations.label_images import read_labels
from nucleate.config import Recipe, load_recipe
from nucleate.datasets.splits import read_split
from nucleate.errors import ConfigError, InputError, ModelError, TrainingError
from nucleate.models.card import read_card
from nucleate.readers.images import read_image
from nucleate.training.run_folder import RunFolder
from nucleate.training.trainer import train_recipe
from nucleate.trees import parse_tree
from tests.data import folder
from tests.errors import says

TINY = {
    "name": "tiny",
    "licence": "MIT",
    "data": {"root": ".", "sets": [{"name": "folder", "path": "data", "options": {"mpp": 0.25}}],
             "validation": 0.3},
    "model": {"family": "mtl", "arguments": {"widths": [8, 12], "blocks": 1, "dilations": [1],
                                             "transformer_layers": 0, "gates": False}},
    "heads": {"foreground": {"loss": {"bce": 1, "dice": 1}}, "distance": {"loss": {"mse": 4}}},
    "train": {"steps": 12, "validate_every": 3, "batch": 2, "crop_px": 64, "precision": "fp32",
              "workers": 1, "threads": 1, "device": "cpu", "warmup_steps": 2, "ema": 0.9},
}  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    folder.make(root / "data", 4)
    (root / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return root


@pytest.fixture(scope="module")
def run(tree):
    return train_recipe(load_recipe(tree / "tiny.yaml"), tree, tree / "run").parent


def test_run_folder_holds_everything(run):
    assert {p.name for p in run.iterdir()} - {".lock"} == {
        "recipe.yaml", "split.json", "environment.json", "log.txt", "metrics.csv", "curves.png",
        "start.json", "tensorboard", "checkpoints", "model", "validation",
    }  # fmt: skip
    assert parse_tree(Recipe, yaml.safe_load((run / "recipe.yaml").read_text()), "x").name == "tiny"
    split = read_split(run / "split.json")
    assert len(split.parts["train"]) + len(split.parts["validation"]) == 4
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == [3, 6, 9, 12]
    assert all(np.isfinite(float(row["loss_distance/mse"])) for row in rows)
    assert json.loads((run / "environment.json").read_text())["packages"]["torch"]
    assert any((run / "tensorboard").iterdir())
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_validation_images_are_kept_beside_their_truth(run):
    """Labels of 32 bits, overlays, and the scores of the shipped model."""
    held_out = sorted(n.split(":")[1] for n in read_split(run / "split.json").parts["validation"])
    folder = run / "validation"
    printed = json.loads((folder / "metrics.json").read_text())
    assert sorted(row["name"].split(":")[1] for row in printed["per_image"]) == held_out
    assert 0 <= printed["coco"]["segm"]["1000"]["AP"] <= 1
    for name in held_out:
        true = read_labels(folder / "labels" / f"{name}.true.tif")
        assert true.max() > 0
        assert read_labels(folder / "labels" / f"{name}.predicted.tif").shape == true.shape
        assert read_image(folder / "overlays" / f"{name}.png")[0].shape[:2] == true.shape


def test_loss_falls(run):
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


def test_model_folder_is_complete_and_the_engines_agree(run):
    card = read_card(run / "model")
    assert card.licence == "MIT"
    assert card.recipe["data"]["root"] == "."
    assert set(card.thresholds) == {"foreground", "marker", "split", "smooth", "min_area", "ink"}
    assert card.metrics["validation"]["images"] == 2
    assert card.training_data[0]["images"] == 4
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)
    maps = [load_model(run, backend=b, device="cpu").backend(image) for b in ("openvino", "torch")]
    for head in card.heads:
        np.testing.assert_allclose(maps[0][head], maps[1][head], atol=2e-5)
    assert segment(image[0], load_model(run), mpp=0.25).frame.width == 96


def test_a_recipe_may_be_named_by_its_path(tmp_path):
    path = tmp_path / "r.yaml"
    with pytest.raises(InputError, match=r"r\.yaml.*no such file"):
        train_recipe(str(path))
    path.write_text(yaml.safe_dump({**TINY, "nane": "x"}))
    with pytest.raises(ConfigError, match="nane"):
        train_recipe(str(path), str(tmp_path), str(tmp_path / "run"))


def test_changed_weights_are_refused(run, tmp_path):
    shutil.copytree(run / "model", tmp_path / "m")
    data = bytearray((tmp_path / "m" / "model.onnx").read_bytes())
    data[-9] ^= 1
    (tmp_path / "m" / "model.onnx").write_bytes(bytes(data))
    with pytest.raises(ModelError, match=says("SHA-256")):
        load_model(tmp_path / "m", device="cpu")


def test_two_processes_do_not_train_in_one_folder(run, tree):
    recipe = load_recipe(tree / "tiny.yaml")
    with RunFolder(run).alone(), pytest.raises(TrainingError, match=says("another process")):
        train_recipe(recipe, tree, run, resume=True)
    train_recipe(recipe, tree, run, resume=True)


def test_taken_folder_and_other_recipe_are_refused(run, tree):
    recipe = load_recipe(tree / "tiny.yaml")
    with pytest.raises(TrainingError, match=says("run", "already", "--resume")):
        train_recipe(recipe, tree, run)
    other = load_recipe(tree / "tiny.yaml", ["train.lr=0.1"])
    with pytest.raises(TrainingError, match=says("recipe", "(train.lr)")):
        train_recipe(other, tree, run, resume=True)


def test_data_that_changed_are_noticed_before_resuming(tree, tmp_path):
    shutil.copytree(tree / "data", tmp_path / "data")
    shutil.copytree(tree / "run", tmp_path / "run")
    folder.make(tmp_path / "data", 6)
    with pytest.raises(TrainingError, match=says("data", "changed")):
        train_recipe(load_recipe(tree / "tiny.yaml"), tmp_path, tmp_path / "run", resume=True)


def test_refusals_leave_no_folder(tree, tmp_path):
    recipe = load_recipe(tree / "tiny.yaml")
    with pytest.raises(TrainingError, match=says("run to resume")):
        train_recipe(recipe, tree, tmp_path / "run", resume=True)
    fp16 = load_recipe(tree / "tiny.yaml", ["train.precision=fp16"])
    with pytest.raises(ConfigError, match=says("fp16", "GPU")):
        train_recipe(fp16, tree, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_validation_without_nuclei_is_refused(tree, tmp_path):
    folder.make(tmp_path / "data", 4)
    for file in (tmp_path / "data" / "labels").iterdir():
        file.unlink()
    for file in (tmp_path / "data" / "images").iterdir():
        np.save(tmp_path / "data" / "labels" / f"{file.stem}.npy", np.zeros((128, 128), np.int32))
    with pytest.raises(InputError, match=says("no nuclei")):
        train_recipe(load_recipe(tree / "tiny.yaml"), tmp_path, tmp_path / "run")


def test_damaged_manifest_is_named(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    for text in ("{", "[]", '{"last": 3}'):
        (tmp_path / "run" / "checkpoints" / "manifest.json").write_text(text)
        with pytest.raises(TrainingError, match=says("manifest.json", "damaged")):
            RunFolder(tmp_path / "run").checkpoint("last")


def test_damaged_checkpoint_is_named(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    copy = RunFolder(tmp_path / "run")
    path = copy.checkpoint("last")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(TrainingError, match=f"{path.name}: the checkpoint is damaged"):
        copy.checkpoint("last")


def test_too_little_memory_is_one_sentence(tree, tmp_path, monkeypatch):
    import torch

    from nucleate import losses

    monkeypatch.setitem(losses.LOSSES, "mse", lambda s, t, w: s.sum() + torch.zeros(10**16).sum())
    with pytest.raises(TrainingError, match=says("memory", "train.batch")):
        train_recipe(load_recipe(tree / "tiny.yaml"), tree, tmp_path / "run")


def test_loss_that_is_not_finite_stops_with_its_parts(tree, tmp_path, monkeypatch):
    from nucleate import losses

    monkeypatch.setitem(losses.LOSSES, "mse", lambda s, t, w: (s * float("nan")).sum())
    with pytest.raises(TrainingError, match=says("not finite", "step 1", "distance/mse = nan")):
        train_recipe(load_recipe(tree / "tiny.yaml"), tree, tmp_path / "run")


@pytest.mark.slow
def test_every_setting_of_training_matters(tree, run, tmp_path):
    """A seed, a rate, an average: each changes the weights (a parameter that does nothing lies)."""
    base = load_file(run / "model" / "model.safetensors")
    settings = (
        "seed=2", "train.lr=0.01", "train.ema=0", "train.clip_norm=0.01", "train.keep=last",
        "train.schedule=constant", "train.sampling=grid", "train.weighting=uncertainty",
    )  # fmt: skip
    for i, change in enumerate(settings):
        recipe = load_recipe(tree / "tiny.yaml", [change, "train.workers=0"])
        model = train_recipe(recipe, tree, tmp_path / str(i))
        other = load_file(model / "model.safetensors")
        assert any(not np.array_equal(base[k], other[k]) for k in base), change


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_and_resumed_gives_the_same_bits(tree, tmp_path, seed):
    recipe = load_recipe(tree / "tiny.yaml", ["train.steps=30"])
    train_recipe(recipe, tree, tmp_path / "whole")
    killed = subprocess.Popen(
        [sys.executable, "-m", "nucleate", "train", "tiny.yaml", "-o", str(tmp_path / "killed"),
         "--set", "train.steps=30"],
        cwd=tree, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    wanted = np.random.default_rng(seed).integers(4, 26)
    log = tmp_path / "killed" / "log.txt"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        time.sleep(0.02)
        steps = log.read_text().count(" · loss ") * 3 if log.exists() else 0
        if steps >= wanted or killed.poll() is not None:
            break
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "model").exists()
    train_recipe(recipe, tree, tmp_path / "killed", resume=True)
    assert "resuming from step-" in log.read_text()
    one, other = (load_file(tmp_path / n / "model" / "model.safetensors")
                  for n in ("whole", "killed"))  # fmt: skip
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    rows = [[{k: v for k, v in row.items() if k not in ("seconds", "memory_mb")}
             for row in csv.DictReader((tmp_path / n / "metrics.csv").read_text().splitlines())]
            for n in ("whole", "killed")]  # fmt: skip
    assert rows[0] == rows[1]


def test_a_model_trained_on_normalised_images_normalises_what_it_is_given(tree, tmp_path):
    """The reference is a training image; the card carries it; the engine applies it."""
    from dataclasses import replace

    from nucleate.inference.inputs import stain_transform
    from nucleate.inference.pipeline import EngineOptions
    from nucleate.inference.segment import find_nuclei
    from nucleate.readers.array import ArraySource

    changes = [
        "stain.method=reinhard", "train.steps=3", "train.validate_every=3", "decode.tune=false",
    ]  # fmt: skip
    recipe = load_recipe(tree / "tiny.yaml", changes)
    model = load_model(train_recipe(recipe, tree, tmp_path / "run"), device="cpu")
    split = read_split(tmp_path / "run" / "split.json")
    (reference,) = model.card.stain["fitted_on"]
    assert f"0:{reference}" in split.parts["train"]
    assert f"reference {reference}" in (tmp_path / "run" / "log.txt").read_text()
    image = folder.tissue(96, 96, 12, 3)[0]
    transform = stain_transform(ArraySource(image), model.card)
    assert transform.table is not None
    plain = type(model)(replace(model.card, stain=None), model.backend)
    normalised = ArraySource(transform.apply(image))
    assert len(find_nuclei(ArraySource(image), model, 0.25, EngineOptions()).nuclei) == len(
        find_nuclei(normalised, plain, 0.25, EngineOptions()).nuclei
    )
    card = json.loads((tmp_path / "run" / "model" / "card.json").read_text())
    card["stain"]["target"] = {}
    (tmp_path / "run" / "model" / "card.json").write_text(json.dumps(card))
    with pytest.raises((InputError, ModelError), match=r"card\.json: stain"):
        load_model(tmp_path / "run" / "model", device="cpu")


def test_tensorboard_holds_scalars_images_and_hyper_parameters(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard")).Reload()
    tags = events.Tags()
    assert {"loss", "val_loss", "val_aji", "val_dice", "train_iou", "train_accuracy"} <= {
        *tags["scalars"]
    }
    assert len(tags["images"]) == 2
    summaries = list((run / "tensorboard").rglob("*"))
    assert any(b"_hparams_" in file.read_bytes() for file in summaries if file.is_file())
    assert "hp/val_aji" in tags["scalars"]


def test_curves_of_pixels_are_logged_on_both_sides(run):
    row = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))[-1]
    for name in ("train_dice", "train_iou", "train_accuracy", "val_dice", "val_iou", "val_loss"):
        assert 0 <= float(row[name]) < 20, name
    dice = float(row["train_dice"])
    assert float(row["train_iou"]) == pytest.approx(dice / (2 - dice), abs=1e-4)
    assert float(row["memory_mb"]) > 50


def test_starting_from_another_model(run, tree, tmp_path):
    changes = ["train.steps=3", f"init={{from: {run.as_posix()}}}", "train.lr=1e-9"]
    model = train_recipe(load_recipe(tree / "tiny.yaml", changes), tree, tmp_path / "next")
    old, new = (load_file(m / "model.safetensors") for m in (run / "model", model))
    learned = [k for k in old if k.endswith(("weight", "bias"))]
    assert all(np.allclose(old[k], new[k], atol=1e-5) for k in learned)
    assert "All" in read_card(model).notes
    assert "start from tiny" in (tmp_path / "next" / "log.txt").read_text()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("model.arguments.widths=[8, 16]", r"model\.arguments is .*16.* in the recipe, but .*12"),
        (("heads={foreground: {loss: {bce: 1}}, distance: {loss: {mse: 1}}, boundary: {loss: "
         "{bce: 1}}}"), "heads is "),
        ("data.mpp=0.5", r"data\.mpp is 0\.5"),
    ],
)  # fmt: skip
def test_starting_from_a_model_that_does_not_fit_is_refused(run, tree, tmp_path, change, said):
    recipe = load_recipe(tree / "tiny.yaml", [f"init={{from: {run.as_posix()}}}", change])
    with pytest.raises(ConfigError, match=said):
        train_recipe(recipe, tree, tmp_path / "next")


@pytest.mark.slow
def test_imagenet_weights_that_cannot_be_reached(tree, tmp_path, monkeypatch):
    from segmentation_models_pytorch import encoders

    real = encoders.get_encoder

    def offline(name, weights=None, **more):
        if weights is not None:
            raise ConnectionError("no route")
        return real(name, weights=None, **more)

    monkeypatch.setattr(encoders, "get_encoder", offline)
    changes = ["model={family: linknet}", "train.steps=3", "train.precision=fp32"]
    recipe = load_recipe(tree / "tiny.yaml", [*changes, "init.imagenet=required"])
    with pytest.raises(ModelError, match=says("resnet34", "init.imagenet=never")):
        train_recipe(recipe, tree, tmp_path / "a")
    recipe = load_recipe(tree / "tiny.yaml", [*changes, "init.imagenet=if-reachable"])
    model = train_recipe(recipe, tree, tmp_path / "b")
    assert "Starts from random weights: The ImageNet weights of resnet34" in read_card(model).notes
    recipe = load_recipe(tree / "tiny.yaml", ["init.imagenet=required"])
    with pytest.raises(ConfigError, match=says("MTL", "encoder", "weights")):
        train_recipe(recipe, tree, tmp_path / "c")


def test_imagenet_weights_are_taken_where_they_can_be_reached(monkeypatch):
    import torch
    from segmentation_models_pytorch import encoders

    from nucleate.models.families import build
    from nucleate.models.imagenet import start_from_imagenet

    real = encoders.get_encoder

    def reached(name, weights=None, **more):
        encoder = real(name, weights=None, **more)
        if weights == "imagenet":
            torch.nn.init.constant_(encoder.conv1.weight, 0.25)
        return encoder

    monkeypatch.setattr(encoders, "get_encoder", reached)
    network = build("linknet", ["foreground"], {})
    start_from_imagenet(network)
    assert (network.encoder.conv1.weight == 0.25).all()


def test_imagenet_weights_from_a_file(tree, tmp_path):
    """Of a hospital without internet, say: as timm publishes them, all levels, no prefix."""
    import timm
    from safetensors.torch import save_file

    published = timm.create_model("tf_efficientnet_lite0")
    file = tmp_path / "lite0.safetensors"
    save_file(published.state_dict(), file)
    model = (
        "model={family: encoder_unet, arguments: {encoder: tu-tf_efficientnet_lite0, levels: 3, "
        "decoder_widths: [16, 8]}}"
    )
    changes = [model, "train.steps=3", "train.precision=fp32", "train.lr=1e-12", "train.ema=0"]
    recipe = load_recipe(tree / "tiny.yaml", [*changes, f"init.imagenet={file.as_posix()}"])
    run = train_recipe(recipe, tree, tmp_path / "run")
    assert "from ImageNet weights (lite0.safetensors, sha256 " in read_card(run).notes
    stem = load_file(run / "model.safetensors")["encoder.model.conv_stem.weight"]
    np.testing.assert_allclose(stem, published.state_dict()["conv_stem.weight"], atol=2e-3)
    wrong = model.replace("lite0", "lite2")
    recipe = load_recipe(tree / "tiny.yaml", [wrong, *changes[1:], f"init.imagenet={file}"])
    with pytest.raises(ModelError, match=says("lite0.safetensors", "encoder")):
        train_recipe(recipe, tree, tmp_path / "wrong")
    for bad in (tmp_path / "nowhere.safetensors", tree / "tiny.yaml"):
        file = tmp_path / "bad.safetensors" if bad.is_file() else bad
        if bad.is_file():
            file.write_bytes(bad.read_bytes())
        recipe = load_recipe(tree / "tiny.yaml", [*changes, f"init.imagenet={file}"])
        with pytest.raises(ModelError, match=says("safetensors")):
            train_recipe(recipe, tree, tmp_path / "bad")
        assert not (tmp_path / "bad").exists()
    with pytest.raises(ConfigError, match="imagenet"):
        load_recipe(tree / "tiny.yaml", ["init.imagenet=weights.pth"])


def test_a_grid_shows_every_square_once_in_each_turn(tree):
    from nucleate.datasets.loading import collect
    from nucleate.training.crops import CropDataset, grid_centres

    recipe = load_recipe(tree / "tiny.yaml", [
        "train.sampling=grid", ("augment={flip: false, right_angles: false, rotate_degrees: 0, "
        "zoom: [1, 1], elastic_chance: 0, stain: 0, brightness: 0, contrast: 0, blur_chance: 0, "
        "noise_chance: 0, jpeg_chance: 0}"),
    ])  # fmt: skip
    samples = collect(recipe.data, tree).read("train", 0.25)
    crops = CropDataset(samples, recipe)
    count = len(samples) * len(grid_centres((128, 128), 64))
    squares = {
        s.image[y : y + 64, x : x + 64].tobytes()
        for s in samples for x in (0, 64) for y in (0, 64)
    }  # fmt: skip
    first, second = ([crops[i].image.numpy().tobytes() for i in range(n, n + count)]
                     for n in (0, count))  # fmt: skip
    assert set(first) == set(second) == squares
    assert first != second  # in another order


def test_a_published_scheme_in_a_recipe(tree, tmp_path):
    from tests.data import cryonuseg

    cryonuseg.make(tmp_path / "cryo")
    cryo = "data={sets: [{name: cryonuseg, path: cryo}], scheme: histology-nucleiseg-tested}"
    with pytest.raises(ConfigError, match=says("split", "CryoNuSeg", "30")):
        train_recipe(load_recipe(tree / "tiny.yaml", [cryo]), tmp_path, tmp_path / "run")
    recipe = load_recipe(tree / "tiny.yaml", ["data.scheme=leave-one-patient-out"])
    with pytest.raises(ConfigError, match=says("4 splits", "nucleate crossval")):
        train_recipe(recipe, tree, tmp_path / "run")
    with pytest.raises(ConfigError, match=says("exclude")):
        load_recipe(tree / "tiny.yaml", ["data.scheme=histology-nucleiseg", "data.split=a.json"])


def test_starting_from_a_model_that_saw_what_is_held_out_is_refused(run, tree, tmp_path):
    recipe = load_recipe(
        tree / "tiny.yaml", [f"init={{from: {run.as_posix()}}}", "data.split_seed=2"]
    )
    with pytest.raises(ConfigError, match=r"tiny was trained or chosen on .*:p\d.*held out here"):
        train_recipe(recipe, tree, tmp_path / "next")
    # older cards name no patients: the data set decides
    shutil.copytree(run / "model", tmp_path / "old")
    card = json.loads((tmp_path / "old" / "card.json").read_text())
    del card["training_data"][-1]["groups"]
    (tmp_path / "old" / "card.json").write_text(json.dumps(card))
    recipe = load_recipe(tree / "tiny.yaml", [f"init={{from: {(tmp_path / 'old').as_posix()}}}"])
    with pytest.raises(ConfigError, match=says("tiny", "trained")):
        train_recipe(recipe, tree, tmp_path / "next")


def test_copies_of_what_a_model_saw_are_refused(run, tree, tmp_path):
    """Renamed and re-encoded: the fingerprints in the card tell."""
    from PIL import Image

    other = tmp_path / "other" / "data"
    folder.make(other)
    for path in sorted((other / "images").iterdir()):
        with Image.open(path) as image:
            image.save(other / "images" / f"copy{path.stem[1]}.jpg", quality=75)
        path.unlink()
    for path in sorted((other / "labels").iterdir()):
        path.rename(path.with_name(f"copy{path.name[1]}{path.suffix}"))
    recipe = load_recipe(
        tree / "tiny.yaml", [f"init={{from: {run.as_posix()}}}", "data.sets.0.title=Other"]
    )
    with pytest.raises(ConfigError, match=r"tiny was trained or chosen on copy\d"):
        train_recipe(recipe, other.parent, tmp_path / "next")


def test_what_the_first_model_saw_travels_on(run, tree, tmp_path):
    other = tmp_path / "other"
    folder.make(other / "data", 6, seed=200)  # other pixels than those of the first model
    for path in [*(other / "data" / "images").iterdir(), *(other / "data" / "labels").iterdir()]:
        path.rename(path.with_name(f"q{path.name[1:]}"))
    recipe = load_recipe(tree / "tiny.yaml", [
        f"init={{from: {run.as_posix()}}}", "train.steps=3", "data.sets.0.title=Other",
    ])  # fmt: skip
    card = read_card(train_recipe(recipe, other, tmp_path / "next"))
    through = [entry for entry in card.training_data if entry.get("through") == "tiny"]
    seen = {g for e in through for part in e.get("groups", {}).values() for g in part}
    assert len(seen) == 4
    assert not seen & set(card.training_data[-1]["groups"]["train"])


def test_targets_lean_towards_the_teachers(run):
    import torch

    from nucleate.training.teacher import Teachers

    recipe = load_recipe(
        run / "recipe.yaml",
        [f"teacher={{models: [{run.as_posix()}, {run.as_posix()}], weight: 0.25}}"],
    )
    teachers = Teachers.load(recipe, torch.device("cpu"))
    pixels = read_image(next((run / "validation").glob("overlays/*")))[0]
    image = torch.from_numpy(pixels[None].copy())
    said = load_model(run, backend="torch", device="cpu").backend(image.numpy())
    truth = {name: torch.zeros(image.shape[:3]) for name in (*said, "boundary")}
    blended = teachers.blend(image.permute(0, 3, 1, 2), truth)
    for name, drawn in said.items():
        np.testing.assert_allclose(blended[name].numpy(), 0.25 * drawn, atol=1e-5)
    assert blended["boundary"] is truth["boundary"]
    truth["foreground"][0, 100, 100] = 1.0
    near = Teachers(teachers._networks, 0.25, within_px=2).blend(image.permute(0, 3, 1, 2), truth)
    for name, drawn in said.items():
        expected = np.zeros_like(drawn)
        block = (0, slice(98, 103), slice(98, 103))
        expected[block] = 0.25 * drawn[block] + 0.75 * truth[name].numpy()[block]
        np.testing.assert_allclose(near[name].numpy(), expected, atol=1e-5)


def test_a_pupil_learns_from_its_teacher(run, tree, tmp_path):
    changes = [f"teacher.models=[{run.as_posix()}]", "teacher.weight=1", "train.workers=0"]
    model = train_recipe(load_recipe(tree / "tiny.yaml", changes), tree, tmp_path / "pupil")
    base, other = (load_file(m / "model.safetensors") for m in (run / "model", model))
    assert any(not np.array_equal(base[k], other[k]) for k in base)
    assert "blended with the maps of tiny (weight 1.0)" in read_card(model).notes
    assert any(entry.get("through") == "tiny" for entry in read_card(model).training_data)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("data.split_seed=2", r"teacher\.models: tiny was trained or chosen on"),
        ("data.mpp=0.5", r"teacher\.models: tiny works at 0\.25 um per pixel; the crops have 0\.5"),
        (("heads={boundary: {loss: {bce: 1}}}"), "predicts .*, but not boundary"),
    ],
)
def test_teachers_that_do_not_fit_are_refused(run, tree, tmp_path, change, said):
    changes = [f"teacher.models=[{run.as_posix()}]", change]
    if change.startswith("heads"):
        from nucleate.training.teacher import teacher_cards

        with pytest.raises(ConfigError, match=said):
            teacher_cards(load_recipe(tree / "tiny.yaml", changes))
        return
    with pytest.raises(ConfigError, match=said):
        train_recipe(load_recipe(tree / "tiny.yaml", changes), tree, tmp_path / "pupil")


def test_the_engine_is_given_what_decoding_needs(tree, tmp_path):
    heads = "{foreground: {loss: {bce: 1}}, distance: {loss: {mse: 4}}, boundary: {loss: {bce: 1}}}"
    recipe = load_recipe(tree / "tiny.yaml", [f"heads={heads}", "train.steps=3"])
    model = train_recipe(recipe, tree, tmp_path / "run")
    image = np.zeros((1, 64, 64, 3), np.uint8)
    assert set(load_model(model, device="cpu").backend(image)) == {"foreground", "distance"}
    torch_says = load_model(model, device="cpu", backend="torch").backend(image)
    assert set(torch_says) == {"foreground", "distance"}


def test_int8_is_kept_where_it_costs_little(run, tree, tmp_path, monkeypatch, nucleate):
    from nucleate.training import quantise

    monkeypatch.setattr(quantise, "CROPS", 4)
    own = shutil.copytree(run, tmp_path / "run")
    data = f"data.root={tree.as_posix()}"
    before = read_card(own / "model")
    code, out, _ = nucleate("quantise", own, "--set", data, "--most", "100")
    assert code == 0, out
    assert [line.split()[0] for line in out.splitlines()] == ["f32", "bf16", "int8", "int8"]
    card = read_card(own / "model")
    assert card.files.keys() - before.files.keys() == {"model.int8.onnx"}
    assert set(card.metrics["precisions"]) == {"f32", "bf16", "int8"}
    model = load_model(own, device="cpu")
    assert model.backend.about.endswith("int8")
    image = read_image(next((own / "validation").glob("overlays/*")))[0][None]
    whole, small = (
        load_model(own, device="cpu", precision="f32").backend(image),
        model.backend(image),
    )
    for head, drawn in whole.items():
        assert 0 < np.abs(drawn - small[head]).mean() < 0.05
    with pytest.raises(ModelError, match=says("int8", "OpenVINO")):
        load_model(own, device="cpu", backend="torch", precision="int8")
    assert not quantise.quantise(own, [data], most=-1)[1]
    assert "model.int8.onnx" not in read_card(own / "model").files
    assert load_model(own, device="cpu").backend.about.endswith("f32")
    with pytest.raises(ModelError, match=says("model.int8.onnx", "nucleate quantise")):
        load_model(own, device="cpu", precision="int8")
    with pytest.raises(ConfigError, match=says("those of the run")):
        quantise.quantise(own, [data, "data.split_seed=2"], most=1)


@pytest.mark.slow
def test_chance_inside_the_network_survives_a_kill(tree, tmp_path):
    """EfficientNet drops connections at random."""
    words = ["model={family: encoder_unet, arguments: {encoder: efficientnet-b0}}",
             "train.ema=0", "train.workers=0", "train.steps=6"]  # fmt: skip
    recipe = load_recipe(tree / "tiny.yaml", words)
    whole = load_file(train_recipe(recipe, tree, tmp_path / "whole") / "model.safetensors")
    cut = tmp_path / "cut"
    from nucleate.training import loop

    real = loop.Keeper.on_train_epoch_end

    def killed(self, trainer, module):
        real(self, trainer, module)
        raise KeyboardInterrupt

    loop.Keeper.on_train_epoch_end = killed
    try:
        with pytest.raises((KeyboardInterrupt, TrainingError, SystemExit)):
            train_recipe(recipe, tree, cut)
    finally:
        loop.Keeper.on_train_epoch_end = real
    resumed = load_file(train_recipe(recipe, tree, cut, resume=True) / "model.safetensors")
    for name in whole:
        np.testing.assert_array_equal(whole[name], resumed[name], err_msg=name)


def test_resumed_from_elsewhere_and_after_a_kill_at_the_very_start(run, tree, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(tree / "data", moved / "data")
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "model")
    recipe = load_recipe(tree / "tiny.yaml", [f"data.root={moved.as_posix()}"])
    assert train_recipe(recipe, tree, tmp_path / "run", resume=True).is_dir()
    (tmp_path / "young").mkdir()
    shutil.copy(run / "recipe.yaml", tmp_path / "young" / "recipe.yaml")
    recipe = load_recipe(tree / "tiny.yaml")
    assert train_recipe(recipe, tree, tmp_path / "young", resume=True).is_dir()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["model={family: encoder_unet, arguments: {encoder: 5}}"], "encoder = 5: input should be"),
        (["model.arguments.gates='no'"], "gates = no: input should be a valid boolean"),
        (
            ["model={family: linknet}", "train.batch=1", "train.crop_px=32"],
            "cannot process 1 crops",
        ),
        (["model={family: encoder_unet, arguments: {decoder_widths: [0, 0, 0, 0, 0]}}"], "model"),
        (["augment.zoom=[1.3, 0.7]"], r"zoom is \[smallest, largest\]"),
        (["heads.foreground={loss: {bce: -1}}"], "greater than 0"),
        (
            ["heads.foreground={loss: {lovasz: 1}, background: 0.5}"],
            "lovasz does not support a background weight",
        ),
        (["init={frm: x}"], "Known: from, imagenet"),
        (["model={family: unet, arguments: {mean: [0, 0, .nan]}}"], "mean"),
    ],
)
def test_senseless_settings_are_refused_before_the_run(tree, tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said):
        train_recipe(load_recipe(tree / "tiny.yaml", changes), tree, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.alone  # late in a long process it was ended by a signal; by itself it never was
@pytest.mark.slow
def test_a_detector_from_recipe_to_nuclei(tree, tmp_path):
    """Trained, killed, resumed, loaded by every engine, evaluated: like any other family."""
    content = {
        **TINY,
        "name": "detector",
        "model": {
            "family": "mask_rcnn",
            "arguments": {"encoder": "resnet18", "proposals": [100, 60], "detections": 30,
                          "min_score": 0.0, "regions": 32},
        },
        "heads": {"instances": {"loss": {"objectness": 1.0, "proposal": 1.0, "classifier": 1.0,
                                         "box": 1.0, "mask": 1.0}}},
        "decode": {"decoder": "mask_nms", "thresholds": {"score": 0.1}, "halo_px": 32},
    }  # fmt: skip
    content["train"] = {**TINY["train"], "steps": 4, "validate_every": 2, "schedule": "constant"}
    (tmp_path / "detector.yaml").write_text(yaml.safe_dump(content))
    recipe = load_recipe(tmp_path / "detector.yaml")
    run = train_recipe(recipe, tree, tmp_path / "whole").parent
    rows = RunFolder(run).numbers()
    assert {"loss_instances/box", "loss_instances/mask"} <= rows[0].keys()
    cut = tmp_path / "cut"
    short = recipe.model_copy(update={"train": recipe.train.model_copy(update={"steps": 2})})
    train_recipe(short, tree, cut)
    shutil.rmtree(cut / "model")
    (cut / "recipe.yaml").write_text((run / "recipe.yaml").read_text())
    train_recipe(recipe, tree, cut, resume=True)
    assert (cut / "model" / "model.safetensors").read_bytes() == (
        run / "model" / "model.safetensors"
    ).read_bytes()
    image = folder.tissue(96, 128, 30, 1)[0]
    tables = [segment(image, load_model(run, backend=b), mpp=0.25) for b in ("openvino", "torch")]
    assert len(tables[0]) == len(tables[1])
    assert (run / "validation" / "overlays").is_dir()
    card = read_card(run / "model")
    assert (card.heads, card.decoder) == (["instances"], "mask_nms")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["heads={instances: {loss: {mask: 1}}}", "decode.decoder=mask_nms"], "predicts maps"),
        (["model={family: mask_rcnn}"], "only the head instances"),
        (["model={family: mask_rcnn}", "heads={instances: {loss: {bce: 1}}}",
          "decode.decoder=mask_nms"], "no loss named 'bce'"),
        (["model={family: mask_rcnn}", "heads={instances: {loss: {mask: 1}}}"], "needs the head"),
        (["model={family: mask_rcnn, arguments: {norm: frozen}}", "decode.decoder=mask_nms",
          "heads={instances: {loss: {mask: 1}}}", "init.imagenet=if-reachable"], "frozen norms"),
    ],
)  # fmt: skip
def test_heads_that_do_not_fit_the_family_are_refused(tree, tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said):
        train_recipe(load_recipe(tree / "tiny.yaml", changes), tree, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_temporary_folder_too_long_for_sockets_is_refused(monkeypatch, tmp_path):
    """Workers would drop what they make, and training would wait for ever."""
    from nucleate.training.loop import check_temporary_folder

    monkeypatch.setattr("tempfile.tempdir", "/t" + "x" * 90)
    with pytest.raises(ConfigError, match=says("temporary folder", "TMPDIR")):
        check_temporary_folder(1)
    check_temporary_folder(0)
    monkeypatch.setattr("tempfile.tempdir", "/tmp")  # noqa: S108
    check_temporary_folder(4)

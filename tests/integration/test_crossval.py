"""Cross-validation for real, on a tiny generated tree."""

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml

from nucleate import load_model, segment
from nucleate.annotations.label_images import read_labels
from nucleate.config import load_recipe
from nucleate.datasets.splits import bare_name, read_split
from nucleate.errors import ConfigError, ModelError, TrainingError
from nucleate.evaluation.scores import read_scores
from nucleate.training.crossval import CrossvalOptions, cross_validate
from nucleate.training.run_folder import RunFolder
from tests.data import folder
from tests.errors import says
from tests.integration.test_train import TINY
from tests.synthetic import tissue

FOLDS = ["fold-1", "fold-2", "fold-3"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("cv")
    truth = folder.make(root / "data", 6)
    content = {**TINY, "crossval": {"folds": 3, "validation": 0.3}}
    content["train"] = {**TINY["train"], "workers": 0}
    (root / "tiny.yaml").write_text(yaml.safe_dump(content))
    return root, truth


def _recipe(tree, *changes):
    return load_recipe(tree[0] / "tiny.yaml", list(changes))


@pytest.fixture(scope="module")
def done(tree):
    out = tree[0] / "cv"
    return out, cross_validate(_recipe(tree), tree[0], out, CrossvalOptions(tta=True))


def test_every_image_is_predicted_once_by_a_model_that_never_saw_it(tree, done):
    out, summary = done
    splits = {name: read_split(out / "splits" / f"{name}.json") for name in FOLDS}
    tested = [bare_name(n) for s in splits.values() for n in s.parts["test"]]
    assert sorted(tested) == sorted(tree[1])
    for split in splits.values():
        assert not set(split.parts["test"]) & {*split.parts["train"], *split.parts["validation"]}
    files = {p.name.removesuffix(".labels.tif") for p in (out / "predictions").iterdir()}
    assert files == set(tree[1])
    assert list(summary["out_of_fold"]["folds"]) == FOLDS


def test_the_summary_is_the_mean_over_folds_of_what_the_models_do(tree, done):
    out, summary = done
    scores = read_scores(out).metrics
    for metric in ("dice", "aji"):
        each = []
        for name in FOLDS:
            split = read_split(out / "splits" / f"{name}.json")
            each.append(np.nanmean([scores[metric][bare_name(n)] for n in split.parts["test"]]))
            assert summary["out_of_fold"]["folds"][name][metric] == pytest.approx(each[-1])
        over = summary["out_of_fold"]["over_folds"][metric]
        assert over["mean"] == pytest.approx(np.mean(each))
        assert over["sd"] == pytest.approx(np.std(each, ddof=1))
    # a prediction on disk is what the fold's own model draws
    name = bare_name(read_split(out / "splits" / "fold-2.json").parts["test"][0])
    from nucleate.datasets.loading import list_entries
    from nucleate.geometry.outlines import rasterise

    entry = next(e for e in list_entries("folder", tree[0] / "data", {}) if e.name == name)
    nuclei = segment(entry.read().image, out / "fold-2", mpp=0.25)
    drawn = rasterise(nuclei.coords_xy, nuclei.offsets, (128, 128))[0]
    np.testing.assert_array_equal(drawn, read_labels(out / "predictions" / f"{name}.labels.tif"))


def test_the_folder_is_the_ensemble_of_its_folds(done):
    out, _ = done
    image = tissue(64, 80, 5, seed=3)[0][None]
    whole = load_model(out)
    each = [load_model(out / name) for name in FOLDS]
    maps = whole.backend(image)
    for head in ("foreground", "distance"):
        mean = np.mean([m.backend(image)[head] for m in each], axis=0)
        np.testing.assert_allclose(maps[head], mean, atol=1e-6)
    for key, value in whole.card.thresholds.items():
        assert value == np.median([m.card.thresholds[key] for m in each])


def test_views_are_reported_apart(done):
    out, summary = done
    assert (out / "out-of-fold-tta" / "metrics.json").exists()
    assert summary["out_of_fold"] != summary["out_of_fold_tta"]
    assert "8 views" in json.loads(
        (out / "out-of-fold-tta" / "metrics.json").read_text()
    )["about"]["engine"]  # fmt: skip


def test_resuming_between_folds_gives_the_same(tree, done, tmp_path):
    out, summary = done
    copy = tmp_path / "cv"
    shutil.copytree(out, copy)
    shutil.rmtree(copy / "fold-3")
    (copy / "crossval.json").unlink()
    with pytest.raises(TrainingError, match="--resume"):
        cross_validate(_recipe(tree), tree[0], copy, CrossvalOptions())
    printed = []
    # the splits of a copy lie elsewhere, so its fold is trained by what lies there
    again = cross_validate(
        _recipe(tree), tree[0], copy, CrossvalOptions(resume=True), printed.append
    )
    assert {f"{name}: already finished" for name in ("fold-1", "fold-2")} <= set(printed)

    def plain(result):
        return {
            name: {k: v for k, v in fold.items() if k != "seconds"}
            for name, fold in result["out_of_fold"]["folds"].items()
        }

    assert plain(again) == plain(summary)


@pytest.mark.slow
def test_killed_inside_a_fold_and_resumed(tree, done, tmp_path, monkeypatch, nucleate):
    out = tmp_path / "cv"
    words = ["crossval", "tiny.yaml", "-o", str(out)]
    monkeypatch.chdir(tree[0])
    first = subprocess.Popen(
        [sys.executable, "-m", "nucleate", *words],
        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    log = out / "fold-2" / "log.txt"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        time.sleep(0.01)
        if log.exists() and " · loss " in log.read_text():
            break
    first.kill()
    assert first.wait() == -signal.SIGKILL
    assert not (out / "crossval.json").exists()
    code, printed, err = nucleate(*words, "--resume")
    assert code == 0, err
    assert "resuming from step-" in log.read_text()
    assert "mean ± SD" in printed
    mine, theirs = read_scores(out).metrics, read_scores(done[0]).metrics
    assert mine["dice"] == theirs["dice"]


def test_a_damaged_checkpoint_or_model_is_named(tree, done, tmp_path):
    copy = tmp_path / "cv"
    shutil.copytree(done[0], copy)
    shutil.rmtree(copy / "fold-2" / "model")
    checkpoint = RunFolder(copy / "fold-2").checkpoint("last")
    checkpoint.write_bytes(b"x" + checkpoint.read_bytes()[1:])
    recipe = load_recipe(copy / "fold-2" / "recipe.yaml")
    from nucleate.training.trainer import train_recipe

    with pytest.raises(TrainingError, match=f"fold-2.*{checkpoint.name}: the checkpoint is damag"):
        train_recipe(recipe, tree[0], copy / "fold-2", resume=True)
    (copy / "fold-1" / "model" / "model.onnx").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"fold-1.*SHA-256"):
        cross_validate(_recipe(tree), tree[0], copy, CrossvalOptions(resume=True))


@pytest.mark.slow
def test_folds_in_processes_of_their_own_give_the_same(tree, done, tmp_path, monkeypatch):
    monkeypatch.chdir(tree[0])
    copy = tmp_path / "cv"
    shutil.copytree(done[0], copy)
    (copy / "crossval.json").unlink()
    for name in FOLDS[1:]:
        shutil.rmtree(copy / name)
    summary = cross_validate(_recipe(tree), tree[0], copy, CrossvalOptions(resume=True, jobs=2))
    one, other = summary["out_of_fold"], done[1]["out_of_fold"]
    assert one["over_folds"]["dice"] == pytest.approx(other["over_folds"]["dice"], abs=1e-4)


@pytest.mark.slow
def test_a_fold_that_fails_is_named(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tree[0])
    recipe = _recipe(tree, "train.lr=1e30", "train.clip_norm=0")
    with pytest.raises(TrainingError, match=r"fold-1.*training failed.*fold-1\.err"):
        cross_validate(recipe, tree[0], tmp_path / "cv", CrossvalOptions(jobs=3))


def test_refusals(tree, done, tmp_path):
    out = done[0]
    with pytest.raises(TrainingError, match="another recipe"):
        cross_validate(_recipe(tree, "seed=5"), tree[0], out, CrossvalOptions(resume=True))
    with pytest.raises(TrainingError, match=says("cross-validation", "resume")):
        cross_validate(_recipe(tree), tree[0], tmp_path / "no", CrossvalOptions(resume=True))
    with pytest.raises(ConfigError, match=says("2 to 6 folds")):
        cross_validate(
            _recipe(tree, "crossval.folds=9"), tree[0], tmp_path / "x", CrossvalOptions()
        )
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    with pytest.raises(TrainingError, match="neither empty"):
        cross_validate(_recipe(tree), tree[0], tmp_path / "full", CrossvalOptions())


@pytest.mark.slow
def test_resumed_under_another_spelling_and_after_a_kill_at_the_very_start(tree, done, tmp_path):
    out = tmp_path / "cv"
    shutil.copytree(done[0], out)
    shutil.rmtree(out / "fold-2" / "model")
    again = cross_validate(_recipe(tree), tree[0], out, CrossvalOptions(resume=True))
    assert "out_of_fold_tta" not in again  # a fold was finished again
    unchanged = cross_validate(_recipe(tree), tree[0], done[0], CrossvalOptions(resume=True))
    assert "out_of_fold_tta" in unchanged
    young = tmp_path / "young"
    young.mkdir()
    shutil.copy(done[0] / "recipe.yaml", young / "recipe.yaml")
    whole = cross_validate(_recipe(tree), tree[0], young, CrossvalOptions(resume=True))
    assert list(whole["out_of_fold"]["folds"]) == FOLDS


def test_a_start_that_saw_the_folds_is_refused(tree, done, tmp_path):
    recipe = _recipe(tree, f"init={{from: {(done[0] / 'fold-1').as_posix()}}}")
    with pytest.raises(ConfigError, match=says("held out")):
        cross_validate(recipe, tree[0], tmp_path / "cv", CrossvalOptions())


def test_gpus_are_dealt_out_among_those_that_are_allowed(tmp_path, monkeypatch):
    from nucleate.training import parallel as jobs

    seen = []
    monkeypatch.setattr(
        jobs.subprocess, "Popen", lambda *_, env, **__: seen.append(env["CUDA_VISIBLE_DEVICES"])
    )
    recipe = load_recipe_of_tiny(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")
    for slot in (0, 1, 2):
        jobs._launch("train", recipe, tmp_path, "fold-1", slot, 3, 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    jobs._launch("train", recipe, tmp_path, "fold-1", 1, 3, 2)
    assert seen == ["6", "7", "6", "1"]


def load_recipe_of_tiny(folder):
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return load_recipe(folder / "tiny.yaml")


@pytest.mark.slow
def test_a_stop_ends_the_folds_that_it_started(tree, tmp_path):
    words = [sys.executable, "-m", "nucleate", "crossval", "tiny.yaml", "-o", str(tmp_path / "cv"),
             "--jobs", "2", "--set", "train.steps=6000"]  # fmt: skip
    parent = subprocess.Popen(words, cwd=tree[0], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        time.sleep(0.02)
        if (tmp_path / "cv" / "fold-1" / "log.txt").exists():
            break
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(timeout=60) == 130
    before = (tmp_path / "cv" / "fold-1" / "log.txt").read_text()
    time.sleep(1.0)
    assert (tmp_path / "cv" / "fold-1" / "log.txt").read_text() == before


def test_two_sets_with_images_of_one_name(tree, tmp_path):
    first = "{name: folder, path: data, options: {mpp: 0.25}}"
    again = first.replace("path", "title: again, path")
    recipe = _recipe(tree, f"data.sets=[{first}, {again}]", "train.steps=3")
    cross_validate(recipe, tree[0], tmp_path / "cv", CrossvalOptions())
    assert len(list((tmp_path / "cv" / "predictions").iterdir())) == 12
    assert len(read_scores(tmp_path / "cv").groups) == 12


def test_settings_that_would_do_nothing_are_refused(tree, tmp_path):
    recipe = _recipe(tree, "crossval={scheme: leave-one-patient-out, folds: 3}")
    with pytest.raises(ConfigError, match=says("crossval.folds", "leave-one-patient-out")):
        cross_validate(recipe, tree[0], tmp_path / "cv", CrossvalOptions())

"""The queue of long trainings: what is next, how many steps fit, and a run that is killed."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from nucleate.config import TrainConfig
from tests.data import folder
from tests.integration.test_train import TINY

PROGRAMS = Path(__file__).parents[2] / "benchmarks" / "published"
COST = {"step_s": 2.0, "validation_s": 20.0, "fixed_s": 100.0, "processor": "a CPU"}


@pytest.fixture
def plan(monkeypatch):
    monkeypatch.syspath_prepend(str(PROGRAMS))
    import plan

    return plan


SYSTEM = {
    "mtl": "MTL-NucleusSeg", "unet-monuseg": "Nuclei-Segmentation",
    "unet-cryonuseg": "Histology-NucleiSeg", "fpn": "Medical_segmentation",
    "mask-rcnn": "Detectron2",
}  # fmt: skip


def item(plan, name, pretraining=False):
    tree = {"data": {"sets": [{"path": "data"}]}} | ({"pretext": {}} if pretraining else {})
    train = TrainConfig(steps=3000, validate_every=500)
    system = next(system for start, system in SYSTEM.items() if name.startswith(start))
    return plan.Item(name, system, Path(name), tree, train)


def test_all_steps_where_they_fit_with_a_checkpoint_every_five_minutes(plan):
    train = TrainConfig(steps=3000, validate_every=500, warmup_steps=100)
    made = plan.make_plan(train, plan.Cost(**COST), 4 * 3600)
    assert made == plan.Plan(3000, 150, 100)  # 150 × 2 s; 100 + 6,000 + 20 × 20 s in all
    assert plan.Cost(**COST).seconds(3000, 150) == 6500


def test_as_many_whole_rounds_as_fit_where_all_steps_cost_more(plan):
    train = TrainConfig(steps=20000, validate_every=2000, warmup_steps=500)
    made = plan.make_plan(train, plan.Cost(**{**COST, "step_s": 10.0}), 4 * 3600)
    # rounds of 30 steps and 320 s; (0.9 × 14,400 - 100) / 320 = 40.2
    assert made == plan.Plan(1200, 30, 30)
    assert TrainConfig(steps=made.steps, validate_every=made.validate_every)
    assert plan.make_plan(train, plan.Cost(**{**COST, "step_s": 20000.0}), 4 * 3600) is None


def test_slow_validations_come_seldom(plan):
    train = TrainConfig(steps=3000, validate_every=500)
    made = plan.make_plan(train, plan.Cost(**{**COST, "validation_s": 200.0}), 4 * 3600)
    assert made.validate_every == 300  # 600 s of steps for 200 s of validation


def test_improved_recipes_come_by_system_and_published_ones_cheapest_first(plan):
    def facts(step_s=None, **more):
        cost = plan.Cost(**{**COST, "step_s": step_s}) if step_s else None
        return plan.Facts(cost=cost, **more)

    started = plan.Plan(3000, 150, 100)
    known = {
        "mtl-as-published": facts(3.0),
        "unet-monuseg-as-published": facts(1.0),
        "mtl-improved": facts(result={"steps": 500}),
        "unet-monuseg-improved": facts(9.0),
        "unet-cryonuseg-a-improved": facts(result={"steps": 3000}),
        "unet-cryonuseg-improved": facts(result={"steps": 1200, "queue": {}}),
        "fpn-improved": facts(),
        "fpn-pretext-improved": facts(),
        "mask-rcnn-improved": facts(5.0),
        "mask-rcnn-as-published": facts(7.0, plan=started),
        "fpn-as-published": facts(failed="broken"),
        "mtl-other-improved": facts(missing="Other"),
    }
    items = [item(plan, name, "pretext" in name) for name in known]
    assert [each.name for each in plan.order(items, known)] == [
        "mask-rcnn-as-published", "unet-monuseg-improved", "fpn-improved", "mask-rcnn-improved",
        "fpn-pretext-improved", "unet-monuseg-as-published", "mtl-as-published", "mtl-improved",
        "fpn-as-published",
    ]  # fmt: skip
    assert plan.state(items[-1], known["mtl-other-improved"]) == "no data"
    shown = plan.line(items[8], plan.Facts(plan.Cost(**{**COST, "step_s": 100.0})), 14400, True)
    assert "next" in plan.line(items[6], known["fpn-improved"], 14400, True)
    assert shown.startswith("mask-rcnn-improved")


def test_the_recipes_of_all_five_systems_are_known(plan):
    found = plan.known(Path(__file__).parents[2] / "recipes")
    assert {each.system for each in found} == set(plan.SYSTEMS)
    names = {each.name for each in found}
    assert {"fpn-autoencoder-improved", "mask-rcnn-cpu", "mtl-monuseg-as-published"} <= names


def test_costs_come_from_the_times_of_steps(plan):
    import run

    # two rounds of three steps of 2 s, 10 s of validation after each, 30 s before and 5 after
    cost = run.cost_of([32, 34, 36, 48, 50, 52], 67)
    assert (cost.step_s, cost.validation_s, cost.fixed_s) == (2, 10, 35)


@pytest.mark.slow
def test_a_paused_run_goes_on_and_its_result_is_kept(plan, tmp_path, monkeypatch, capsys):
    import run as queue_program

    folder.make(tmp_path / "data" / "data", 4)
    recipe = TINY | {"name": "mtl-monuseg-tiny-improved", "decode": {"tune": False}}
    recipe["train"] = TINY["train"] | {"steps": 45, "workers": 1}
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mtl-monuseg-tiny-improved.yaml").write_text(yaml.safe_dump(recipe))
    folders = {name: tmp_path / name for name in ("data", "runs", "recipes", "results")}
    words = [sys.executable, str(PROGRAMS / "run.py"), "--next", "--nice", "0"]
    words += [word for name, path in folders.items() for word in (f"--{name}", str(path))]
    run = tmp_path / "runs" / "mtl-monuseg-tiny-improved"
    paused = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (run / "checkpoints" / "manifest.json").exists() and paused.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    paused.terminate()
    assert paused.wait() == 128 + signal.SIGTERM

    queue = queue_program.Queue(**folders)
    before = queue.facts(queue_program.planning.known(queue.recipes)[0])
    assert before.cpu_s > 1
    assert before.step < before.plan.steps == 45
    queue_program.status(queue)
    assert "started" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [])
    queue_program.work(queue, one=False)
    assert "resuming from" in (run / "log.txt").read_text()
    kept = json.loads((tmp_path / "results/experiments/mtl-monuseg-tiny-improved.json").read_text())
    assert (kept["steps"], kept["queue"]["of_steps"]) == (45, 45)
    assert kept["queue"]["cpu_hours"] * 3600 > before.cpu_s - 18  # it is kept in hundredths
    assert kept["images_are"] == "chosen on"
    assert str(tmp_path) not in kept["command"]
    assert "mtl-monuseg-tiny-improved" in json.loads(queue.costs.read_text())
    queue_program.status(queue)
    assert "done" in capsys.readouterr().out

"""What the queue of published systems plans: which recipe is next, how many steps fit. No training.

`run.py` runs what is planned here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from nucleate.config import TrainConfig

ROUND_S = 300.0  # CPU seconds between checkpoints, where the recipe's own rounds are longer
ROUND_VALIDATIONS = 3.0  # at least this many times what a validation costs
FILLED = 0.9  # share of the budget that is planned: validating a trained network costs more
PENDING = ("started", "waiting", "short", "failed")
SYSTEMS = {  # published system -> patterns of its recipes; improved ones are run in this order
    "MTL-NucleusSeg": ("mtl-monuseg-*", "mtl-nuinsseg-*"),
    "Nuclei-Segmentation": ("linknet34-*", "resunet-*", "unet-monuseg-*"),
    "Histology-NucleiSeg": ("unet-cryonuseg-*", "unet-small-*"),
    "Medical_segmentation": ("fpn-monuseg-*", "pretrain/fpn-*"),
    "Detectron2": ("mask-rcnn-*",),
}


@dataclass(frozen=True, slots=True)
class Item:
    """One recipe of the queue."""

    name: str
    system: str
    file: Path
    tree: dict[str, Any]
    train: TrainConfig

    @property
    def pretraining(self) -> bool:
        """Whether it makes an encoder, not a model."""
        return "pretext" in self.tree

    @property
    def improved(self) -> bool:
        """Whether it is our form of the system, not the published one."""
        return not self.name.endswith("as-published")

    @property
    def inputs(self) -> list[str]:
        """Paths below the data folder that it reads."""
        data = self.tree["data"]
        return [part["path"] for part in [*data.get("sets", []), *data.get("folders", [])]]


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds on one thread, measured.

    Attributes:
        step_s: of one training step.
        validation_s: of one validation and its checkpoint.
        fixed_s: of all before the first step and after the last validation.
        processor: what they were measured on.
    """

    step_s: float
    validation_s: float
    fixed_s: float
    processor: str

    def seconds(self, steps: int, every: int) -> float:
        """Return what `steps` steps cost with a validation after each `every`."""
        return self.fixed_s + steps * self.step_s + steps // every * self.validation_s


@dataclass(frozen=True, slots=True)
class Plan:
    """What is set in the recipe: the learning-rate schedule ends with the last of these steps."""

    steps: int
    validate_every: int
    warmup_steps: int


@dataclass(slots=True)
class Facts:
    """What is known about a recipe.

    Attributes:
        missing: path of data that are not there.
        cost: if measured.
        result: content of its results file.
        plan: of a run that was started.
        step: of its last checkpoint.
        cpu_s: CPU seconds spent, over all parts of a run.
        failed: what ended the run.
    """

    missing: str | None = None
    cost: Cost | None = None
    result: dict[str, Any] | None = None
    plan: Plan | None = None
    step: int = 0
    cpu_s: float = 0.0
    failed: str | None = None
    tried: bool = field(default=False)


def known(recipes: Path) -> list[Item]:
    """Return all recipes of the published systems, system by system."""
    items = []
    for system, patterns in SYSTEMS.items():
        files = [file for pattern in patterns for file in recipes.glob(f"{pattern}.yaml")]
        for file in sorted(files, key=lambda f: f.stem):
            tree = yaml.safe_load(file.read_text(encoding="utf-8"))
            items.append(Item(file.stem, system, file, tree, TrainConfig(**tree["train"])))
    return items


def make_plan(train: TrainConfig, cost: Cost, budget_s: float) -> Plan | None:
    """Return all steps of a recipe, or as many as fit in the budget; None if not one round fits."""
    budget_s *= FILLED
    longest_s = max(ROUND_S, ROUND_VALIDATIONS * cost.validation_s)
    most = min(train.validate_every, max(1, int(longest_s / cost.step_s)))
    every = max(n for n in range(1, most + 1) if train.steps % n == 0)
    if cost.seconds(train.steps, every) <= budget_s:
        return Plan(train.steps, every, train.warmup_steps)
    round_s = most * cost.step_s + cost.validation_s
    steps = min(int((budget_s - cost.fixed_s) / round_s), train.steps // most) * most
    if steps < 1:
        return None
    return Plan(steps, most, math.ceil(train.warmup_steps * steps / train.steps))


def full_hours(item: Item, cost: Cost) -> float:
    """Return the CPU hours of all steps of a recipe, with the validations it asks for."""
    return cost.seconds(item.train.steps, item.train.validate_every) / 3600


def state(item: Item, facts: Facts) -> str:
    """Return in one word how far a recipe is."""
    result = facts.result
    if result and (result["steps"] >= item.train.steps or "queue" in result):
        return "done"
    if facts.missing:
        return "no data"
    if facts.failed:
        return "failed"
    if facts.plan:
        return "started"
    return "short" if result else "waiting"


def tier(item: Item, facts: Facts) -> int:
    """Return 0 for what was started, then improved, as published, run too short, failed."""
    found = state(item, facts)
    if found == "waiting":
        return 1 if item.improved else 2
    return {"started": 0, "short": 3, "failed": 4}[found]


def order(items: list[Item], facts: dict[str, Facts]) -> list[Item]:
    """Return what is left to do, next first.

    Improved recipes come by system, as-published ones cheapest first; what has a result of fewer
    steps than fit comes after all that have none.
    """

    systems = list(SYSTEMS)

    def place(item: Item) -> tuple[int, bool, float, str]:
        mine = facts[item.name]
        cost = full_hours(item, mine.cost) if mine.cost else math.inf
        first = tier(item, mine)
        if first < 2:
            return first, item.pretraining, float(systems.index(item.system)), item.name
        return first, False, cost, item.name

    left = [
        item
        for item in items
        if state(item, facts[item.name]) in PENDING and not facts[item.name].tried
    ]
    return sorted(left, key=place)


def line(item: Item, facts: Facts, budget_s: float, following: bool) -> str:
    """Return what `--status` prints about a recipe."""
    word = state(item, facts)
    wanted, cost = item.train.steps, facts.cost
    plan = facts.plan or (make_plan(item.train, cost, budget_s) if cost else None)
    done = facts.result["steps"] if facts.result else facts.step
    of = f" of {plan.steps:,}" if word == "started" and plan and plan.steps < wanted else ""
    cells = [
        f"{item.name:33} {'next' if following and word != 'started' else word:8}",
        f"{done:,}{of} of {wanted:,} steps",
        f"{cost.step_s:.2f} s/step, {full_hours(item, cost):.1f} h" if cost else "not measured",
    ]
    if facts.cpu_s:
        cells.append(f"{facts.cpu_s / 3600:.2f} h used")
    if cost and (plan is None or plan.steps < wanted):
        fit = f"{plan.steps:,} steps fit" if plan else "nothing fits"
        cells.append(f"{fit}; all steps wait for a GPU")
    cells += [f"no {facts.missing}"] if word == "no data" else []
    cells += [facts.failed or ""] if word == "failed" else []
    cells += [_score(facts.result)] if facts.result else []
    return " · ".join(cells)


def _score(result: dict[str, Any]) -> str:
    if "mean" not in result:
        return ", ".join(f"{name} {value:.3f}" for name, value in result["validation"].items())
    sides = [("AJI", result), *((f"AJI on {e['data']}", e) for e in result["elsewhere"])]
    means = [(name, side["mean"]["aji"]["mean"]) for name, side in sides]
    return ", ".join(f"{name} {value:.3f}" for name, value in means if value is not None)

"""What the queue of published systems keeps on disk, and the meter of what a recipe has spent."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plan import Cost, Facts, Item, Plan

from nucleate.files import write_text
from nucleate.training.run_folder import RunFolder

TRAINING = "MoNuSeg/MoNuSeg 2018 Training Data.zip"
COCO = {  # made here from what is published: reader, path, options
    "coco/monuseg": ("monuseg", TRAINING),
    "coco/cryonuseg": ("cryonuseg", "CryoNuSeg"),
    "coco/tnbc": ("folder", "TNBC", "--option", "mpp=0.25", "--option", "group=^([0-9]+)_"),
}
SAVED_EVERY_S = 5.0  # CPU seconds between two notes of how much was spent


@dataclass(frozen=True, slots=True)
class Queue:
    """Where things are, and how much a recipe may cost."""

    data: Path
    runs: Path
    recipes: Path
    results: Path
    hours: float = 4.0
    tried: set[str] = field(default_factory=set)

    @property
    def costs(self) -> Path:
        """File of what was measured."""
        return self.results / "published-costs.json"

    def result(self, item: Item) -> Path:
        """Return the file that a result is kept in."""
        folder = self.results / "experiments"
        return (folder / "pretraining" if item.pretraining else folder) / f"{item.name}.json"

    def state(self, item: Item) -> Path:
        """Return the file of what a run beside its folder needs."""
        return self.runs / f"{item.name}.state.json"

    def facts(self, item: Item) -> Facts:
        """Return what is known about a recipe."""
        cost, kept = read(self.costs).get(item.name), read(self.state(item))
        rows = RunFolder(self.runs / item.name).rows()
        sources = [COCO[path][1] if path in COCO else path for path in item.inputs]
        return Facts(
            missing=next((path for path in sources if not (self.data / path).exists()), None),
            cost=Cost(**cost) if cost else None,
            result=read(self.result(item)) or None,
            plan=Plan(**kept["plan"]) if kept.get("plan") else None,
            step=int(rows[-1]["step"]) if rows else 0,
            cpu_s=kept.get("cpu_s", 0.0),
            failed=kept.get("failed"),
            tried=item.name in self.tried,
        )

    def note(self, item: Item, **changes: Any) -> None:
        """Change what is kept beside a run folder."""
        write_text(self.state(item), json.dumps({**read(self.state(item)), **changes}) + "\n")


class Meter:
    """CPU seconds of this process: at each step, and what a recipe has spent.

    Attributes:
        steps: CPU seconds at the end of each step since the last `begin`.
    """

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.queue: Queue | None = None
        self.item: Item | None = None
        self.saved = 0.0

    def begin(self, queue: Queue, item: Item) -> None:
        """Count for a recipe from now on."""
        self.save()
        self.queue, self.item, self.steps = queue, item, []
        self.saved = time.process_time()

    def step(self, *_: object) -> None:
        """Take the time of a step; torch calls it."""
        self.steps.append(time.process_time())
        if self.steps[-1] - self.saved > SAVED_EVERY_S:
            self.save()

    def save(self) -> None:
        """Add what was spent since the last time."""
        if self.queue is None or self.item is None:
            return
        now = time.process_time()
        spent = read(self.queue.state(self.item)).get("cpu_s", 0.0) + now - self.saved
        self.saved = now
        self.queue.note(self.item, cpu_s=round(spent, 1))


def read(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file, nothing where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def processor() -> str:
    """Return the name of the CPU."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    named = (row.partition(":")[2].strip() for row in lines if row.startswith("model name"))
    return next(named, platform.processor() or platform.machine())

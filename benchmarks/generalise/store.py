"""What the judge has found, on disk: one JSON file per idea, its folds in it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.generalise.plan import IDEAS, Idea
from benchmarks.generalise.sets import SETS

from nucleate.files import write_text

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results" / "generalise"


@dataclass(frozen=True, slots=True)
class Job:
    """One fold of one idea with one seed."""

    idea: Idea
    left_out: str
    seed: int

    @property
    def name(self) -> str:
        """Of its run folder and files."""
        return f"{self.idea.name}.{self.left_out}.{self.seed}"


def jobs(results: Path, ideas: tuple[Idea, ...] = IDEAS) -> list[Job]:
    """Return what is missing, in the order of the plan: all folds of a seed before the next."""
    return [
        job
        for idea in ideas
        for seed in idea.seeds
        for left_out in idea.left_out
        if (job := Job(idea, left_out, seed)).name not in folds_of(results, idea)
    ]


def folds_of(results: Path, idea: Idea) -> dict[str, dict[str, Any]]:
    """Return name of a job -> result of each fold of an idea that was run as it is planned."""
    content = read(results / f"{idea.name}.json")
    if content.get("changes") != list(idea.changes) or content.get("balance") != idea.balance:
        return {}
    return dict(content["folds"])


def keep(results: Path, job: Job, fold: dict[str, Any]) -> None:
    """Write a fold into the file of its idea; folds of another plan of that name are dropped."""
    idea = job.idea
    folds = {**folds_of(results, idea), job.name: fold}
    write(results / f"{idea.name}.json", {
        "idea": idea.name, "hypothesis": idea.hypothesis, "prediction": idea.prediction,
        "changes": list(idea.changes), "balance": idea.balance, "folds": folds,
    })  # fmt: skip


def write(path: Path, content: dict[str, Any]) -> None:
    """Write an idea's file: one line per image and per list, so that it stays short."""
    folds = content["folds"]
    parts = []
    for name in sorted(folds):
        fold = dict(folds[name])
        images = ",\n   ".join(json.dumps(i, separators=(",", ":")) for i in fold.pop("images"))
        rest = [f"  {json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}"
                for k, v in fold.items()]  # fmt: skip
        body = ",\n".join([*rest, f'  "images": [\n   {images}]'])
        parts.append(f" {json.dumps(name)}: {{\n{body}}}")
    head = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in content.items() if k != "folds"]
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join([*head, '"folds": {\n' + ",\n".join(parts) + "}"])
    write_text(path, "{" + lines + "}\n")


def read(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file, nothing where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def merge(results: Path, brought: dict[str, Any]) -> int:
    """Keep the folds that came back from another machine; return how many."""
    known = {idea.name: idea for idea in IDEAS}
    for name, fold in brought["folds"].items():
        idea = known[name.partition(".")[0]]
        keep(results, Job(idea, fold["set"], fold["seed"]), fold)
    return len(brought["folds"])


def by_set(folds: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return set -> its folds, in the order of `SETS`; sets without one are left out."""
    found = {name: [f for f in folds.values() if f["set"] == name] for name in SETS}
    return {name: some for name, some in found.items() if some}

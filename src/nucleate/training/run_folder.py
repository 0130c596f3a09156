"""The folder of a training run: recipe, log and metrics, checkpoints."""

from __future__ import annotations

import csv
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nucleate.datasets.splits import Split, read_split, write_split
from nucleate.environment import environment
from nucleate.errors import TrainingError, optional
from nucleate.files import atomic, read_text, sha256, write_text
from nucleate.models.card import CARD, read_card, trusted_file
from nucleate.trees import Strict, dump_recipe, load_tree


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths and files of one run."""

    path: Path

    @property
    def model(self) -> Path:
        """Folder of the finished model."""
        return self.path / "model"

    def begin(self, recipe: Strict, split: Split, resume: bool) -> None:
        """Write the recipe, split and environment, or check that a resumed run has the same.

        Raises:
            TrainingError: the folder contains a run and `resume` is off, or another run, or no run
                to resume.
        """
        file = self.path / "recipe.yaml"
        if not file.exists() and resume:
            raise TrainingError(f"{self.path} contains no run to resume. Omit --resume.")
        if file.exists():
            if not resume:
                raise TrainingError(
                    f"{self.path} already contains a run. Add --resume, or choose another -o."
                )
            changed = differences(load_tree(type(recipe), file), recipe)
            if changed:
                raise TrainingError(
                    f"{self.path}: the run was started with another recipe ({', '.join(changed)}). "
                    "Resume it with the same recipe, or choose another -o."
                )
            self._begin_files(split)
            if read_split(self.path / "split.json").digest != split.digest:
                raise TrainingError(
                    f"{self.path}: the data have changed since the run was started, and their "
                    "split differs. Restore the data, or choose another -o."
                )
            return
        if self.path.exists() and any(self.path.iterdir()):
            raise TrainingError(f"{self.path} is neither empty nor a run. Choose another -o.")
        write_text(file, dump_recipe(recipe))
        self._begin_files(split)

    def _begin_files(self, split: Split) -> None:
        """Write the initial files of a run that do not exist yet."""
        if not (self.path / "split.json").exists():
            write_split(self.path / "split.json", split)
        if not (self.path / "environment.json").exists():
            write_text(self.path / "environment.json", json.dumps(environment(), indent=1) + "\n")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the folder against other processes; the lock is released even if killed.

        Raises:
            TrainingError: another process has the lock.
        """
        filelock: Any = optional("filelock", "train")
        lock = filelock.FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise TrainingError(
                f"{self.path}: another process is training here. Wait for it, or choose another -o."
            ) from error
        try:
            yield
        finally:
            lock.release()

    def say(self, text: str) -> None:
        """Print a line and append it to the log."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        with open(self.path / "log.txt", "a", encoding="utf-8") as log:
            log.write(f"{stamp} {text}\n")
        sys.stderr.write(f"{text}\n")

    def add_row(self, row: dict[str, Any]) -> None:
        """Add a row to metrics.csv, dropping rows of this or later steps (from a killed run)."""
        rows = [old for old in self.rows() if int(old["step"]) < int(row["step"])]
        text = io.StringIO()
        names = list(dict.fromkeys(name for entry in [*rows, row] for name in entry))
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*rows, row])
        write_text(self.path / "metrics.csv", text.getvalue())

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of metrics.csv; empty if there is no file."""
        path = self.path / "metrics.csv"
        return list(csv.DictReader(io.StringIO(read_text(path)))) if path.exists() else []

    def checkpoint(self, which: str) -> Path | None:
        """Return the last or best checkpoint after checking its hash; None if there is none.

        Raises:
            TrainingError: the hash does not match.
        """
        entry = self._manifest().get(which)
        if entry is None:
            return None
        path: Path = self.path / "checkpoints" / entry["file"]
        if not path.exists() or sha256(path) != entry["sha256"]:
            raise TrainingError(
                f"{path}: the checkpoint is damaged (its SHA-256 does not match the manifest). "
                "Restore the file, or start the run again in another folder."
            )
        return path

    def save_checkpoint(self, step: int, score: float, save: Callable[[Path], None]) -> None:
        """Write a checkpoint; the manifest lists it only when it is complete.

        Args:
            step: optimiser steps so far.
            score: validation score; the highest becomes `best`.
            save: function that writes the checkpoint to a path.
        """
        folder = self.path / "checkpoints"
        path = folder / f"step-{step:08d}.ckpt"
        with atomic(path) as temporary:
            save(temporary)
        entry = {"file": path.name, "sha256": sha256(path), "step": step, "score": score}
        manifest = self._manifest()
        manifest["last"] = entry
        if "best" not in manifest or score > manifest["best"]["score"]:  # never true for NaN
            manifest["best"] = entry
        write_text(folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")
        kept = {e["file"] for e in manifest.values()}
        for old in folder.glob("step-*.ckpt"):
            if old.name not in kept:
                old.unlink()

    def step_of(self, which: str) -> int:
        """Return the step of the best or last checkpoint."""
        return int(self._manifest()[which]["step"])

    def is_finished(self) -> bool:
        """Return whether the run has a model, after checking its hashes.

        Raises:
            ModelError: the model is damaged.
        """
        if not (self.model / CARD).exists():
            return False
        card = read_card(self.model)
        for name in card.files:
            trusted_file(self.model, card, name)
        return True

    def best_row(self, score: str = "val_aji") -> dict[str, Any]:
        """Return the row of metrics.csv with the best validation score; empty without rows."""
        known = [row for row in self.rows() if row.get(score) not in (None, "", "nan")]
        return max(known, key=lambda row: float(row[score]), default={})

    def write_start(self, sentence: str, trained_on: list[Any]) -> None:
        """Record and log a sentence about the initial weights, and their training data."""
        content = {"said": sentence, "trained_on": trained_on}
        write_text(self.path / "start.json", json.dumps(content, indent=1) + "\n")
        self.say(sentence)

    def started_from(self) -> tuple[str, list[Any]]:
        """Return what `write_start` recorded; empty for a run of an older version."""
        path = self.path / "start.json"
        if not path.exists():
            return "", []
        try:
            content = json.loads(read_text(path))
            return str(content["said"]), list(content["trained_on"])
        except (ValueError, TypeError, KeyError) as error:
            raise TrainingError(f"{path}: damaged ({error}). Start the run again.") from error

    def numbers(self) -> list[dict[str, float]]:
        """Return the rows of metrics.csv as numbers, without empty fields.

        Raises:
            TrainingError: the file is damaged.
        """
        try:
            found = [
                {name: float(value) for name, value in row.items() if value} for row in self.rows()
            ]
            return [{**row, "step": row["step"], "seconds": row["seconds"]} for row in found]
        except (ValueError, TypeError, KeyError) as error:
            raise TrainingError(
                f"{self.path / 'metrics.csv'}: damaged ({error}). Restore the file."
            ) from error

    def draw_curves(self) -> None:
        """Plot metrics.csv into curves.png."""
        from matplotlib.figure import Figure  # no pyplot: no global state, no window

        rows = self.rows()
        if not rows:
            return
        steps = [int(row["step"]) for row in rows]
        figure = Figure(figsize=(15, 4))
        figure.subplots_adjust(left=0.04, right=0.99, bottom=0.13, top=0.92, wspace=0.12)
        panels = (
            ("loss", ("loss", "val_loss")),
            ("nuclei, validation", ("val_aji", "val_pq", "val_dq")),
            ("pixels", ("train_", "val_dice", "val_iou", "val_accuracy")),
        )
        for axes, (title, wanted) in zip(figure.subplots(1, 3), panels, strict=True):
            for name in [n for n in rows[-1] if n.startswith(wanted)]:
                axes.plot(steps, [float(row.get(name) or "nan") for row in rows], label=name)
            axes.set(xlabel="step", title=title)
            axes.grid(alpha=0.3)
            axes.legend(fontsize=8)
        with atomic(self.path / "curves.png") as temporary:
            figure.savefig(temporary, format="png", dpi=100)

    def _manifest(self) -> dict[str, Any]:
        path = self.path / "checkpoints" / "manifest.json"
        if not path.exists():
            return {}
        try:
            manifest = json.loads(read_text(path))
            return {k: {**entry, "step": int(entry["step"])} for k, entry in manifest.items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise TrainingError(
                f"{path}: damaged ({error}). Restore the file, or start the run again elsewhere."
            ) from error


def differences(a: Strict, b: Strict) -> list[str]:
    """Return the dotted keys whose values differ, except the paths of the data and the split.

    The content of the split is checked by its hash.
    """
    found = _differences(a.model_dump(), b.model_dump())
    return [key for key in found if key not in ("data.root", "data.split")]


def _differences(a: dict[str, Any], b: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key in dict.fromkeys([*a, *b]):
        one, other = a.get(key), b.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            found += _differences(one, other, f"{prefix}{key}.")
        elif one != other:
            found.append(f"{prefix}{key}")
    return found

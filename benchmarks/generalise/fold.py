"""One fold: train on four sets, test on the fifth."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from benchmarks.generalise import scoring
from benchmarks.generalise.areas import by_image, load_areas, read_slides
from benchmarks.generalise.plan import Idea, recipe_of
from benchmarks.generalise.sets import MPP, SETS, digest, read_test, read_training
from lightning.pytorch.callbacks import EMAWeightAveraging
from safetensors.numpy import save_file
from torch import Tensor

from nucleate.config import Recipe
from nucleate.environment import git_commit
from nucleate.inference.backends import Model
from nucleate.inference.engine import predict_maps
from nucleate.inference.torch_backend import TorchBackend
from nucleate.postprocess import DECODERS
from nucleate.readers.array import ArraySource
from nucleate.training.crops import CropDataset
from nucleate.training.initial_weights import start
from nucleate.training.loop import choose_device, fit
from nucleate.training.run_folder import RunFolder
from nucleate.training.task import Task, provisional_card
from nucleate.training.teacher import Teachers
from nucleate.types import Maps, Sample, UInt8


class Packed:
    """The packed data in memory: shared by the processes that are forked later.

    Attributes:
        root: folder of the packed sets.
        test: set -> its samples at 0.25 um/px.
        slides: crop and mask of each area of a slide.
    """

    def __init__(self, root: Path) -> None:
        if not (root / "slides.zip").exists():
            raise SystemExit(f"{root}: contains no packed sets. Run benchmarks/generalise/pack.py.")
        self.root, self.digest = root, digest(root)
        self.test = {name: read_test(name, root) for name in SETS}
        self.slides = read_slides(root / "slides.zip")
        self.areas = load_areas()
        self.pixels = {
            n: float(sum(s.image[..., 0].size for s in ss)) for n, ss in self.test.items()
        }
        self._training: dict[str, list[Sample]] = {}

    def training(self, recipe: Recipe) -> list[Sample]:
        """Return what a recipe trains on; sets are read once per way of reading them."""
        found: list[Sample] = []
        for number, one in enumerate(recipe.data.sets):
            key = one.model_dump_json()
            if key not in self._training:
                alone = recipe.data.model_copy(update={"sets": [one]})
                self._training[key] = read_training(alone, self.root)
            found += [
                replace(sample, name=f"{number}:{sample.name.partition(':')[2] or sample.name}")
                for sample in self._training[key]
            ]
        return found


class FoldTask(Task):
    """A task that is not validated: the fold's test comes at the end."""

    def validation_step(self, index: Tensor, batch_idx: int) -> None:
        """Do nothing."""

    def on_validation_epoch_end(self) -> None:
        """Do nothing."""

    def round_row(self) -> dict[str, float]:
        """Return the losses of the round, and forget them."""
        row = {**self.training_means(), "val_aji": 0.0, "val_pq": 0.0, "val_dice": 0.0}
        empty, self.sums = not self.sums, {}
        return {} if empty else row


def run_fold(
    idea: Idea,
    left_out: str,
    seed: int,
    data: Packed,
    device: str,
    folder: Path,
    steps: int | None = None,
    every: int | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Train and test one fold; an interrupted one goes on from its last checkpoint.

    Args:
        idea: of the plan.
        left_out: set that is tested on.
        seed: of the idea.
        data: in memory.
        device: cuda or cpu.
        folder: of the run.
        steps: instead of the idea's.
        every: steps between checkpoints; None keeps one at the end.

    Returns:
        The fold's results, and its weights as float16.
    """  # fmt: skip
    recipe = recipe_of(idea, left_out, seed, steps, data.pixels)
    change: dict[str, Any] = {"device": device}
    if every is not None and recipe.train.steps % every == 0:
        change["validate_every"] = every
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update=change)})
    started = time.monotonic()
    tested = {sample.group for sample in data.test[left_out]}  # some patients are in two sets
    samples = [sample for sample in data.training(recipe) if sample.group not in tested]
    task = train(recipe, samples, folder)
    trained = time.monotonic()
    network = task.network.eval().to(torch.device(choose_device(recipe.train)))
    model = Model(provisional_card(recipe, task.align_px), TorchBackend(network, device, "f32"))
    result = judge(maps_by(model), data, left_out, scoring.GRID)
    seconds = trained - started
    about = {
        "seed": seed, "set": left_out, "commit": git_commit(), "data": data.digest,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "steps": recipe.train.steps, "seconds": round(seconds, 1),
        "steps_per_s": round(recipe.train.steps / seconds, 2),
        "test_seconds": round(time.monotonic() - trained, 1),
    }  # fmt: skip
    weights = {k: v.cpu().numpy() for k, v in network.state_dict().items()}
    halves = {k: v.astype(np.float16) if v.dtype == np.float32 else v for k, v in weights.items()}
    return {**about, **result}, halves


def train(recipe: Recipe, samples: list[Sample], folder: Path) -> Task:
    """Train a recipe from scratch or from its last checkpoint; return it with averaged weights."""
    device = choose_device(recipe.train)
    run = RunFolder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pl.seed_everything(recipe.seed, verbose=False)
    task = FoldTask(recipe, samples[:1], Teachers.load(recipe, torch.device(device)))
    if run.checkpoint("last") is None:
        start(task.network, recipe)
    averaged = [EMAWeightAveraging(decay=recipe.train.ema)] if recipe.train.ema else []
    fit(task, CropDataset(samples, recipe), samples[:1], recipe, run, device, averaged)
    last = run.checkpoint("last")
    if last is None:
        raise SystemExit(f"{folder}: training left no checkpoint.")
    task.load_state_dict(torch.load(last, map_location="cpu", weights_only=True)["state_dict"])
    return task


def judge(
    maps_of: scoring.MapsOf, data: Packed, name: str, grid: tuple[dict[str, float], ...]
) -> dict[str, Any]:
    """Score a model on one set and on the areas of slides, at every setting of a grid."""
    found = scoring.judge_set(data.test[name], by_image(data.areas, name), maps_of, grid)
    return {"grid": list(grid), **found, "slides": scoring.judge_slides(data.slides, maps_of, grid)}


def maps_by(model: Model) -> scoring.MapsOf:
    """Return what computes the maps that the decoder needs, on the model's grid."""
    heads = DECODERS["watershed"].heads

    def maps_of(image: UInt8) -> Maps:
        high, wide = (round(edge * MPP / model.card.mpp) for edge in image.shape[:2])
        found = predict_maps(ArraySource(image), model, MPP)
        return {head: np.ascontiguousarray(found[head][:high, :wide]) for head in heads}

    return maps_of


def write_weights(path: Path, weights: dict[str, np.ndarray]) -> None:
    """Write the weights of a fold."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(value) for name, value in weights.items()}, path)

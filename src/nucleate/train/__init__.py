"""Recipe → run folder → model folder. The loop, precision, checkpoints and resume are Lightning's.

An epoch is the span between two validations. Crop number i is made from (seed, i) alone, so a run
that was killed and resumed sees the same crops as one that was not.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from nucleate.config import Recipe
from nucleate.datasets.collect import collect
from nucleate.errors import ConfigError, InputError, TrainingError, pick
from nucleate.inference.engine import EngineOptions
from nucleate.inference.tiling import plan
from nucleate.losses import LOSSES
from nucleate.models import build, parameter_count
from nucleate.postprocess import complete_thresholds, missing_head
from nucleate.run_folder import RunFolder
from nucleate.stain.training import fit_stain, restain
from nucleate.targets import HEADS
from nucleate.train.crops import CropDataset, Pictures, RoundSampler
from nucleate.train.finish import finish
from nucleate.train.start import check_start, start
from nucleate.train.task import Task
from nucleate.types import Sample

_TOLD = ("val_aji", "val_pq", "val_dice")  # best scores, beside the hyper-parameters
_PRECISION: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def train_recipe(recipe: Recipe, base: Path, out: Path, resume: bool = False) -> Path:
    """Train a recipe and write the finished model.

    Args:
        recipe: what to do.
        base: folder that the recipe's relative paths start from.
        out: the run folder.
        resume: go on with the run in `out` from its last checkpoint.

    Returns:
        The model folder, ready for `load_model`.

    Raises:
        ConfigError: the recipe contradicts itself.
        InputError: the data cannot be read, or hold official test pictures.
        TrainingError: the run folder is taken, a checkpoint is damaged, or the loss is not finite.
    """
    check_recipe(recipe)
    data = collect(recipe.data, base)
    training = data.read("train", recipe.data.mpp)
    validation = data.read("validation", recipe.data.mpp)
    _check_classes(recipe, training + validation)
    if not any(s.labels is not None and s.labels.any() for s in validation):
        raise InputError("The pictures held out for validation hold no nuclei. Split differently.")
    device = "cuda" if recipe.train.device != "cpu" and torch.cuda.is_available() else "cpu"
    if recipe.train.device == "cuda" and device == "cpu":
        raise TrainingError("PyTorch finds no CUDA device here. Set train.device=cpu.")
    if recipe.train.precision == "fp16" and device == "cpu":
        raise ConfigError("train.precision: fp16 needs a GPU. Set it to bf16 or fp32.")
    check_start(recipe, data)
    _try_network(recipe)
    held_out = [s.name for s in validation] + list(data.split.parts.get("test", ()))
    pictures = {s.name: partial(getattr, s, "image") for s in training}
    stain = fit_stain(recipe.stain, pictures, held_out, base)
    run = RunFolder(out)
    run.begin(recipe, data.split, resume)
    if stain is not None:
        run.say(f"stain: {stain.method}, reference {', '.join(stain.fitted_on)}")
    training, validation = (restain(part, stain, run.say) for part in (training, validation))
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    pl.seed_everything(recipe.seed, verbose=False)
    task = Task(recipe, validation)
    if run.checkpoint("last") is None:
        run.write_start(*start(task.network, recipe))
    run.say(
        f"{recipe.name}: {len(training)} pictures to train on, {len(validation)} held out; "
        f"{parameter_count(task.network) / 1e6:.2f} M parameters; {recipe.train.steps} steps of "
        f"{recipe.train.batch} crops on {device}, {recipe.train.precision}"
    )
    _fit(task, CropDataset(training, recipe), run, device)
    return finish(recipe, data, training, validation, run, stain)


def check_recipe(recipe: Recipe) -> None:
    """Raise a `ConfigError` for what the recipe's tree alone cannot know.

    Raises:
        ConfigError: an unknown head, loss, decoder, threshold or model argument; a decoder without
            the heads it needs.
    """
    for name, head in recipe.heads.items():
        pick({**HEADS, "types": None}, name, "head")
        for loss in head.loss:
            pick(LOSSES, loss, "loss")
        if "lovasz" in head.loss and head.background != 1:
            raise ConfigError(
                f"heads.{name}: lovasz knows no weight of the background. Set background to 1."
            )
    complete_thresholds(recipe.decode.decoder, recipe.decode.thresholds)
    missing = missing_head(recipe.decode.decoder, list(recipe.heads))
    if missing is not None:
        raise ConfigError(
            f"heads: the decoder {recipe.decode.decoder!r} needs the head {missing!r}. Add it."
        )
    network = build(recipe.model.family, list(recipe.maps), recipe.model.arguments)
    plan(1, 1, EngineOptions().tile_px, recipe.decode.halo_px, network.align_px)  # type: ignore[arg-type]


def _try_network(recipe: Recipe) -> None:
    """Run the network once on a batch of the recipe's crops, so that it fails before the run.

    Raises:
        ConfigError: it cannot take such crops.
    """
    train = recipe.train
    network = build(recipe.model.family, list(recipe.maps), recipe.model.arguments).train()
    crops = torch.zeros(min(train.batch, 2), 3, train.crop_px, train.crop_px, dtype=torch.uint8)
    half = train.precision != "fp32"
    try:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            network(crops)
    except (RuntimeError, ValueError, AssertionError) as error:
        said = " ".join(str(error).split())[:160]
        raise ConfigError(
            f"model: {recipe.model.family} cannot take {train.batch} crops of {train.crop_px} "
            f"pixels ({said}). Change model.arguments, train.crop_px or train.batch."
        ) from error


def _check_classes(recipe: Recipe, samples: list[Sample]) -> None:
    """Raise a `ConfigError` where the recipe names other nucleus types than the data have."""
    wanted = recipe.data.classes
    other = next((s for s in samples if wanted and s.class_names != wanted), None)
    if other is not None:
        raise ConfigError(
            f"data.classes: {', '.join(wanted)}; but {other.name} has "
            f"{', '.join(other.class_names) or 'no nucleus types'}. Name those of the data."
        )


class Keeper(Callback):
    """After each round: one row of metrics, one checkpoint, one line for people."""

    def __init__(self, run: RunFolder, recipe: Recipe) -> None:
        self.run, self.recipe = run, recipe
        self.begun = self.round_begun = time.monotonic()
        self.first_step = 0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Start the clock."""
        self.begun = self.round_begun = time.monotonic()
        self.first_step = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:  # noqa: ANN401
        """Tell how far it is, now and then."""
        step = trainer.global_step
        every = max(1, min(100, self.recipe.train.validate_every // 4))
        if step % every == 0:
            self._tell(step, "")

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write the row and the checkpoint."""
        task = module
        if not isinstance(task, Task):
            raise TypeError("Keeper watches a Task.")
        if not task.scores:  # a resumed run comes by the end of the round that it starts from
            return
        step, scores, means = trainer.global_step, task.means(), task.training_means()
        task.sums, task.scores = {}, []
        now = time.monotonic()
        self.run.add_row(
            {
                "step": step,
                "seconds": round(now - self.round_begun, 1),
                "memory_mb": _peak_memory_mb(task),
                "lr": trainer.optimizers[0].param_groups[0]["lr"],
                **{name: round(value, 6) for name, value in {**means, **scores}.items()},
            }
        )
        best = self.run.best_row()
        told = {name: value for name, value in means.items() if name.startswith("train_")}
        told |= {f"hp/{name}": float(best.get(name, "nan")) for name in _TOLD}
        for name, value in told.items():
            task.logger.experiment.add_scalar(name, value, step)  # type: ignore[union-attr]
        self.round_begun = now
        self.run.save_checkpoint(step, scores["val_aji"], trainer.save_checkpoint)
        self._tell(
            step,
            f" · loss {means['loss']:.4f} · validation AJI {scores['val_aji']:.4f}, "
            f"PQ {scores['val_pq']:.4f}",
        )

    def _tell(self, step: int, more: str) -> None:
        done, steps = step - self.first_step, self.recipe.train.steps
        rate = (time.monotonic() - self.begun) / max(1, done)
        left = (steps - step) * rate / 60
        self.run.say(f"step {step}/{steps} · {rate:.2f} s/step · {left:.0f} min left{more}")


def _peak_memory_mb(task: Task) -> int | None:
    """Return the most memory that was held so far: of the GPU, or of this process, where known."""
    if task.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated() / 2**20)
    if sys.platform == "win32":  # has no such figure
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak / (2**20 if sys.platform == "darwin" else 2**10))


def _fit(task: Task, crops: CropDataset, run: RunFolder, device: str) -> None:
    """Train from scratch or from the last checkpoint until the recipe's last step."""
    config = task.recipe.train
    last = run.checkpoint("last")
    callbacks: list[Callback] = []
    if config.ema:
        callbacks.append(EMAWeightAveraging(decay=config.ema))
    callbacks.append(Keeper(run, task.recipe))
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        trainer = pl.Trainer(
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=1,
            precision=_PRECISION[config.precision],
            max_steps=config.steps,
            max_epochs=-1,
            gradient_clip_val=config.clip_norm or None,
            callbacks=callbacks,
            logger=TensorBoardLogger(run.path, name="tensorboard", version=""),
            log_every_n_steps=min(20, config.validate_every),
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        loader = DataLoader(
            crops,
            batch_size=config.batch,
            sampler=RoundSampler(config.batch, config.validate_every, lambda: trainer.global_step),
            num_workers=config.workers,
            persistent_workers=config.workers > 0,
            pin_memory=device == "cuda",
            worker_init_fn=_quiet_worker,
        )
        pictures = DataLoader(Pictures(task.validation), batch_size=None)
        if last is not None:
            run.say(f"resuming from {last.name}")
        if isinstance(trainer.logger, TensorBoardLogger):
            scores = dict.fromkeys((f"hp/{name}" for name in _TOLD), 0.0)  # the rounds fill them in
            trainer.logger.log_hyperparams(flat(task.recipe.model_dump(mode="json")), scores)
        trainer.fit(task, loader, pictures, ckpt_path=last, weights_only=True)
    if trainer.interrupted or trainer.global_step < config.steps:
        raise TrainingError(
            f"Training was interrupted at step {trainer.global_step} of {config.steps}. "
            f"Go on with: nucleate train … -o {run.path} --resume"
        )


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return dotted key -> plain value of a tree, as TensorBoard lists hyper-parameters.

    Example:
        >>> flat({"a": {"b": 1}, "c": [2, 3]})
        {'a.b': 1, 'c': '[2, 3]'}
    """
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value if isinstance(value, int | float) else str(value)
    return found


def _quiet_worker(_: int) -> None:
    """Leave the cores to the network: a worker makes crops on one thread."""
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(0)

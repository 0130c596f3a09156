"""Recipe → run folder → model folder. The loop, precision, checkpoints and resume are Lightning's.

An epoch is the span between two validations. Crop number i is made from (seed, i) alone, so a run
that was killed and resumed sees the same crops as one that was not.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sized
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from safetensors.numpy import save
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from nucleate import __version__
from nucleate.augment import random_crop
from nucleate.checkpoint import ONNX, WEIGHTS, write_card
from nucleate.config import AugmentConfig, Recipe
from nucleate.datasets.collect import Collection, collect
from nucleate.errors import ConfigError, InputError, TrainingError, pick
from nucleate.inference.backends import Model, TorchBackend
from nucleate.inference.engine import EngineOptions, find_nuclei, predict_maps
from nucleate.inference.tiling import plan
from nucleate.io.files import atomic, sha256
from nucleate.io.slides import ArraySource
from nucleate.labels import compact, rasterise
from nucleate.losses import LOSSES, total_loss
from nucleate.metrics.instance import aji, matches, panoptic
from nucleate.metrics.matching import overlap
from nucleate.models import build, parameter_count
from nucleate.models.export import export_onnx
from nucleate.postprocess import DECODERS, complete_thresholds, missing_head
from nucleate.run_folder import RunFolder
from nucleate.stain.normalise import Normaliser
from nucleate.stain.training import fit_stain, restain
from nucleate.targets import HEADS, encode
from nucleate.tune import tune_thresholds
from nucleate.types import ModelCard, Sample

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
    if not any(s.labels is not None and s.labels.any() for s in validation):
        raise InputError("The pictures held out for validation hold no nuclei. Split differently.")
    device = "cuda" if recipe.train.device != "cpu" and torch.cuda.is_available() else "cpu"
    if recipe.train.device == "cuda" and device == "cpu":
        raise TrainingError("PyTorch finds no CUDA device here. Set train.device=cpu.")
    if recipe.train.precision == "fp16" and device == "cpu":
        raise ConfigError("train.precision: fp16 needs a GPU. Set it to bf16 or fp32.")
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
        pick(HEADS, name, "head")
        for loss in head.loss:
            pick(LOSSES, loss, "loss")
    complete_thresholds(recipe.decode.decoder, recipe.decode.thresholds)
    missing = missing_head(recipe.decode.decoder, list(recipe.heads))
    if missing is not None:
        raise ConfigError(
            f"heads: the decoder {recipe.decode.decoder!r} needs the head {missing!r}. Add it."
        )
    network = build(recipe.model.family, list(recipe.heads), recipe.model.arguments)
    plan(1, 1, EngineOptions().tile_px, recipe.decode.halo_px, network.align_px)  # type: ignore[arg-type]


class CropDataset(Dataset[tuple[Tensor, dict[str, Tensor], Tensor]]):
    """Crop number i, made from (seed, i) alone: picture HWC, targets per head, ignored pixels."""

    def __init__(self, samples: list[Sample], recipe: Recipe) -> None:
        self.samples, self.recipe = samples, recipe
        areas = np.array([sample.image.shape[0] * sample.image.shape[1] for sample in samples])
        self.cumulated = np.cumsum(areas) / areas.sum()

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        rng = np.random.default_rng((self.recipe.seed, index))
        sample = self.samples[int(np.searchsorted(self.cumulated, rng.random(), "right"))]
        config: AugmentConfig = self.recipe.augment
        image, labels, ignore = random_crop(sample, self.recipe.train.crop_px, config, rng)
        targets = encode(labels, list(self.recipe.heads))
        return (
            torch.from_numpy(image),
            {head: torch.from_numpy(target) for head, target in targets.items()},
            torch.from_numpy(ignore),
        )


class RoundSampler(Sampler[int]):
    """The crop numbers of one round, counted from the optimiser's steps: they survive a kill."""

    def __init__(self, batch: int, steps: int, done: Callable[[], int]) -> None:
        self.batch, self.steps, self.done = batch, steps, done

    def __iter__(self) -> Iterator[int]:
        first = self.done() * self.batch
        return iter(range(first, first + len(self)))

    def __len__(self) -> int:
        return self.batch * self.steps


class Pictures(Dataset[int]):
    """The numbers of the validation pictures; they are in memory already."""

    def __init__(self, pictures: Sized) -> None:
        self.count = len(pictures)

    def __getitem__(self, index: int) -> int:
        return index

    def __len__(self) -> int:
        return self.count


class Task(pl.LightningModule):
    """The network, its losses, its optimiser and its validation on whole pictures."""

    def __init__(self, recipe: Recipe, validation: list[Sample]) -> None:
        super().__init__()
        self.recipe = recipe
        self.validation = validation
        self.network = build(recipe.model.family, list(recipe.heads), recipe.model.arguments)
        self.network.to(memory_format=torch.channels_last)
        self.sums: dict[str, float] = {}
        self.scores: list[dict[str, float]] = []

    def training_step(self, batch: Any, index: int) -> Tensor:  # noqa: ANN401
        """Return the loss of a batch; stop when it is not finite."""
        images, targets, ignore = batch
        logits = self.network(images.permute(0, 3, 1, 2))
        loss, parts = total_loss(logits, targets, ignore, self.recipe.heads)
        if not torch.isfinite(loss):
            said = ", ".join(f"{name} = {float(part.detach()):g}" for name, part in parts.items())
            raise TrainingError(
                f"The loss is not finite at step {self.global_step + 1}: {said}. "
                "Lower train.lr, or use precision fp32."
            )
        values = {"loss": loss.detach(), **{f"loss_{k}": v.detach() for k, v in parts.items()}}
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
        self.log_dict(values)
        return loss

    def validation_step(self, index: Tensor, batch_idx: int) -> None:
        """Segment one whole picture with the engine that users run, and score it."""
        sample = self.validation[int(index)]
        model = Model(
            self._card(),
            TorchBackend(self.network, list(self.recipe.heads), self.device.type, "f32"),
        )
        nuclei = find_nuclei(
            ArraySource(sample.image), model, self.recipe.data.mpp, EngineOptions()
        ).nuclei
        pred = rasterise(nuclei.coords_xy, nuclei.offsets, sample.image.shape[:2])[0]
        if sample.labels is None:
            raise TrainingError(f"{sample.name}: has no labels. Leave it out.")
        table = overlap(sample.labels, pred, sample.ignore)
        dq, _, pq = panoptic(*matches(table, 0.5))
        self.scores.append({"val_aji": aji(table), "val_pq": pq, "val_dq": dq})

    def on_validation_epoch_end(self) -> None:
        """Log the means over the validation pictures."""
        if not self.trainer.sanity_checking:
            self.log_dict(self.means())

    def means(self) -> dict[str, float]:
        """Return the mean of each validation score; pictures without nuclei are left out."""
        names = self.scores[0] if self.scores else {}
        return {name: float(np.nanmean([s[name] for s in self.scores])) for name in names}

    def configure_optimizers(self) -> Any:  # noqa: ANN401
        """Return AdamW (no decay on norms and biases), linear warm-up and cosine to 0."""
        config = self.recipe.train
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        plain = [p for p in self.network.parameters() if p.ndim <= 1]
        optimiser = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": config.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=config.lr,
        )

        def factor(step: int) -> float:
            if step < config.warmup_steps:
                return (step + 1) / config.warmup_steps
            gone = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
            return 0.5 * (1 + float(np.cos(np.pi * min(1.0, gone))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _card(self) -> ModelCard:
        return provisional_card(self.recipe, self.network.align_px)  # type: ignore[arg-type]


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
        step, scores = trainer.global_step, task.means()
        batches = self.recipe.train.validate_every
        losses = {name: total / batches for name, total in task.sums.items()}
        task.sums, task.scores = {}, []
        now = time.monotonic()
        self.run.add_row(
            {
                "step": step,
                "seconds": round(now - self.round_begun, 1),
                "lr": trainer.optimizers[0].param_groups[0]["lr"],
                **{name: round(value, 6) for name, value in {**losses, **scores}.items()},
            }
        )
        self.round_begun = now
        self.run.save_checkpoint(step, scores["val_aji"], trainer.save_checkpoint)
        self._tell(
            step,
            f" · loss {losses['loss']:.4f} · validation AJI {scores['val_aji']:.4f}, "
            f"PQ {scores['val_pq']:.4f}",
        )

    def _tell(self, step: int, more: str) -> None:
        done, steps = step - self.first_step, self.recipe.train.steps
        rate = (time.monotonic() - self.begun) / max(1, done)
        left = (steps - step) * rate / 60
        self.run.say(f"step {step}/{steps} · {rate:.2f} s/step · {left:.0f} min left{more}")


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
        trainer.fit(task, loader, pictures, ckpt_path=last, weights_only=True)
    if trainer.interrupted or trainer.global_step < config.steps:
        raise TrainingError(
            f"Training was interrupted at step {trainer.global_step} of {config.steps}. "
            f"Go on with: nucleate train … -o {run.path} --resume"
        )


def _quiet_worker(_: int) -> None:
    """Leave the cores to the network: a worker makes crops on one thread."""
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def finish(
    recipe: Recipe,
    data: Collection,
    training: list[Sample],
    validation: list[Sample],
    run: RunFolder,
    stain: Normaliser | None,
) -> Path:
    """Tune the thresholds of the best checkpoint, export it, write its card; return its folder."""
    best = run.checkpoint("best")
    if best is None:
        raise TrainingError(f"{run.path}: there is no checkpoint. Train first.")
    task = Task(recipe, validation)
    task.load_state_dict(torch.load(best, map_location="cpu", weights_only=True)["state_dict"])
    network = task.network.eval()
    heads = list(recipe.heads)
    card = provisional_card(recipe, network.align_px)  # type: ignore[arg-type]
    model = Model(card, TorchBackend(network, heads, "cpu", "f32"))
    thresholds = card.thresholds
    maps = [predict_maps(ArraySource(s.image), model, 1.0) for s in validation]
    truths = [(s.labels, s.ignore) for s in validation if s.labels is not None]
    if recipe.decode.tune:
        thresholds, score = tune_thresholds(maps, truths, recipe.decode.decoder, thresholds)
        run.say(f"thresholds tuned on validation: {thresholds}, AJI {score:.4f}")
    run.model.mkdir(parents=True, exist_ok=True)
    network = network.to(memory_format=torch.contiguous_format)
    export_onnx(network, heads, card.align_px, run.model / ONNX)
    with atomic(run.model / WEIGHTS) as temporary:
        arrays = {k: v.contiguous().numpy() for k, v in network.state_dict().items()}
        temporary.write_bytes(save(arrays))  # their save_file makes files that only the owner reads
    card = replace(card, stain=None if stain is None else stain.to_dict())
    write_card(run.model, _final_card(recipe, card, data, training, maps, truths, thresholds, run))
    run.draw_curves()
    run.say(f"model written to {run.model}")
    return run.model


def provisional_card(recipe: Recipe, align_px: int) -> ModelCard:
    """Return the card of a network that is still in training."""
    return ModelCard(
        name=recipe.name,
        version="0",
        family=recipe.model.family,
        arguments=dict(recipe.model.arguments),
        heads=list(recipe.heads),
        decoder=recipe.decode.decoder,
        thresholds=complete_thresholds(recipe.decode.decoder, recipe.decode.thresholds),
        mpp=recipe.data.mpp,
        align_px=align_px,
        halo_px=recipe.decode.halo_px + -recipe.decode.halo_px % align_px,
        classes=["nucleus"],
        training_data=[],
        licence=recipe.licence,
        metrics={},
        files={},
        package_version=__version__,
        recipe=_without_paths(recipe),
    )


def _without_paths(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as plain values; the folder of the data is nobody else's business."""
    tree = recipe.model_dump(mode="json")
    tree["data"]["root"] = "."
    return tree


def _final_card(
    recipe: Recipe,
    card: ModelCard,
    data: Collection,
    training: list[Sample],
    maps: list[Any],
    truths: list[Any],
    thresholds: dict[str, float],
    run: RunFolder,
) -> ModelCard:
    """Return the card of a finished model: hashes, thresholds, results on validation, lineage."""
    decode = DECODERS[recipe.decode.decoder].decode
    tables = [
        overlap(labels, decode(m, thresholds), ignore)
        for m, (labels, ignore) in zip(maps, truths, strict=True)
    ]
    quality = [panoptic(*matches(table, 0.5)) for table in tables]
    nuclei = sum(len(compact(s.labels)[1]) for s in training if s.labels is not None)
    return replace(
        card,
        version="1",
        thresholds=thresholds,
        training_data=[
            *data.sources,
            {
                "split_sha256": data.split.digest,
                "trained_on": len(training),
                "nuclei_trained_on": nuclei,
                "validation": list(data.split.parts["validation"]),
            },
        ],
        metrics={
            "validation": {
                "pictures": len(tables),
                "aji": float(np.nanmean([aji(table) for table in tables])),
                "pq": float(np.nanmean([pq for _, _, pq in quality])),
                "best_step": run.best_step(),
            }
        },
        files={name: sha256(run.model / name) for name in (ONNX, WEIGHTS)},
    )

"""The training loop shared by training and pretraining, based on Lightning.

An epoch of Lightning, here called a round, is the interval between two validations. Example i
depends only on (seed, i), so a resumed run uses the same examples as an uninterrupted one.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import Any, ClassVar

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from nucleate.config import FitConfig
from nucleate.errors import ConfigError, TrainingError
from nucleate.training.run_folder import RunFolder
from nucleate.trees import Strict

_LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107  # maximum length of a socket path
_PRECISION: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


class Learner(pl.LightningModule, ABC):
    """Base of Lightning modules for `fit`.

    Attributes:
        score: name of the value that determines the best checkpoint; higher is better.
        logged: values of a round to log -> their names in the log.
        sums: sums over the steps of the current round.
    """

    score: ClassVar[str]
    logged: dict[str, str]

    def __init__(self, config: FitConfig, seed: int) -> None:
        super().__init__()
        self.config, self.seed = config, seed
        self.sums: dict[str, float] = {}

    @abstractmethod
    def round_row(self) -> dict[str, float]:
        """Return the values of the round, and reset them; empty if there was no validation."""

    def on_train_epoch_start(self) -> None:
        """Seed the randomness of the network with (seed, step), so that it can be resumed."""
        state = np.random.SeedSequence((self.seed, self.global_step)).generate_state(1)
        torch.manual_seed(int(state[0]))

    def keep(self, loss: Tensor, parts: dict[str, Tensor]) -> None:
        """Log the losses of a step; raise a `TrainingError` if they are not finite."""
        if not torch.isfinite(loss):
            said = ", ".join(f"{name} = {float(part.detach()):g}" for name, part in parts.items())
            raise TrainingError(
                f"The loss is not finite at step {self.global_step + 1}: {said}. "
                "Lower train.lr, or use precision fp32."
            )
        values = {"loss": loss.detach(), **{f"loss_{k}": v.detach() for k, v in parts.items()}}
        self.log_dict(values)
        self.add(values)

    def add(self, values: dict[str, Tensor]) -> None:
        """Add values of a step to the sums of the round."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)

    def optimiser(self, network: nn.Module, others: Iterable[nn.Parameter] = ()) -> Any:  # noqa: ANN401
        """Return the optimiser (no decay on norms, biases and `others`), warm-up and schedule."""
        config = self.config
        decayed = [p for p in network.parameters() if p.ndim > 1]
        plain = [p for p in network.parameters() if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": [*plain, *others], "weight_decay": 0.0},
        ]
        optimiser: torch.optim.Optimizer = (
            torch.optim.SGD(groups, lr=config.lr, momentum=0.9)
            if config.optimizer == "sgd"
            else torch.optim.AdamW(groups, lr=config.lr)
        )

        def factor(step: int) -> float:
            if step < config.warmup_steps:
                return (step + 1) / config.warmup_steps
            if config.schedule == "constant":
                return 1.0
            gone = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
            return 0.5 * (1 + float(np.cos(np.pi * min(1.0, gone))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Keeper(Callback):
    """Callback that writes a row of metrics, a checkpoint and a log line after each round."""

    def __init__(self, run: RunFolder, config: FitConfig) -> None:
        self.run, self.config = run, config
        self.started = self.round_started = time.monotonic()
        self.first_step = 0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Start the clock."""
        self.started = self.round_started = time.monotonic()
        self.first_step = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:  # noqa: ANN401
        """Log the progress at intervals."""
        step = trainer.global_step
        every = max(1, min(100, self.config.validate_every // 4))
        if step % every == 0:
            self._tell(step, "")

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write the row and the checkpoint."""
        if not isinstance(module, Learner):
            raise TypeError("Keeper requires a Learner.")
        row = module.round_row()
        if not row:  # a resumed run passes the end of the round from which it resumes
            return
        step, now = trainer.global_step, time.monotonic()
        self.run.add_row(
            {
                "step": step,
                "seconds": round(now - self.round_started, 1),
                "memory_mb": _peak_memory_mb(module.device),
                "lr": trainer.optimizers[0].param_groups[0]["lr"],
                **{name: round(value, 6) for name, value in row.items()},
            }
        )
        best = self.run.best_row(module.score)
        scalars = {name: value for name, value in row.items() if name.startswith("train_")}
        scalars |= {f"hp/{name}": float(best.get(name, "nan")) for name in module.logged}
        for name, value in scalars.items():
            module.logger.experiment.add_scalar(name, value, step)  # type: ignore[union-attr]
        self.round_started = now
        self.run.save_checkpoint(step, row[module.score], trainer.save_checkpoint)
        said = ", ".join(f"{label} {row[name]:.4f}" for name, label in module.logged.items())
        self._tell(step, f" · loss {row['loss']:.4f} · validation {said}")

    def _tell(self, step: int, more: str) -> None:
        done, steps = step - self.first_step, self.config.steps
        rate = (time.monotonic() - self.started) / max(1, done)
        left = (steps - step) * rate / 60
        self.run.say(f"step {step}/{steps} · {rate:.2f} s/step · {left:.0f} min left{more}")


class RoundSampler(Sampler[int]):
    """Indices of the examples of a round, derived from the step, so that they can be resumed."""

    def __init__(self, batch: int, steps: int, done: Callable[[], int]) -> None:
        self.batch, self.steps, self.done = batch, steps, done

    def __iter__(self) -> Iterator[int]:
        first = self.done() * self.batch
        return iter(range(first, first + len(self)))

    def __len__(self) -> int:
        return self.batch * self.steps


class Numbers(Dataset[int]):
    """Indices 0 … n - 1 of the validation images, which are in memory."""

    def __init__(self, images: Sized) -> None:
        self.count = len(images)

    def __getitem__(self, index: int) -> int:
        return index

    def __len__(self) -> int:
        return self.count


def choose_device(config: FitConfig) -> str:
    """Return the device, cuda or cpu, and set the number of threads.

    Raises:
        TrainingError: a GPU is requested, but there is none.
        ConfigError: fp16 on a CPU.
    """
    device = "cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu"
    if config.device == "cuda" and device == "cpu":
        raise TrainingError("PyTorch finds no CUDA device here. Set train.device=cpu.")
    if config.precision == "fp16" and device == "cpu":
        raise ConfigError("train.precision: fp16 needs a GPU. Set it to bf16 or fp32.")
    if config.threads:
        torch.set_num_threads(config.threads)
    return device


def fit(
    learner: Learner,
    examples: Dataset[Any],
    validation: Sized,
    recipe: Strict,
    run: RunFolder,
    device: str,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Train from the start or the last checkpoint until the recipe's last step.

    Args:
        learner: module that receives batches of `examples`, and the indices of `validation`.
        examples: training examples by index, without an upper limit.
        validation: validation images of the learner.
        recipe: recipe, logged to TensorBoard.
        run: run folder for rows and checkpoints.
        device: cuda or cpu.
        callbacks: Lightning callbacks to run before the rows are written.

    Raises:
        TrainingError: interrupted, a checkpoint is damaged, or there is not enough memory.
        ConfigError: workers cannot send examples, see `check_temporary_folder`.
    """
    config = learner.config
    check_temporary_folder(config.workers)
    last = run.checkpoint("last")
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
            callbacks=[*callbacks, Keeper(run, config)],
            logger=TensorBoardLogger(run.path, name="tensorboard", version=""),
            log_every_n_steps=min(20, config.validate_every),
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        loader = DataLoader(
            examples,
            batch_size=config.batch,
            sampler=RoundSampler(config.batch, config.validate_every, lambda: trainer.global_step),
            num_workers=config.workers,
            persistent_workers=config.workers > 0,
            pin_memory=device == "cuda",
            worker_init_fn=_quiet_worker,
        )
        if last is not None:
            run.say(f"resuming from {last.name}")
        if isinstance(trainer.logger, TensorBoardLogger):
            scores = dict.fromkeys(
                (f"hp/{name}" for name in learner.logged), 0.0
            )  # filled in later
            trainer.logger.log_hyperparams(flat(recipe.model_dump(mode="json")), scores)
        numbers = DataLoader(Numbers(validation), batch_size=None)
        try:
            trainer.fit(learner, loader, numbers, ckpt_path=last, weights_only=True)
        except (MemoryError, RuntimeError) as error:
            if not lacks_memory(error):
                raise
            raise TrainingError(
                f"Out of memory on {device} with {config.batch} examples per batch. Lower "
                "train.batch or train.crop_px, and continue with --resume."
            ) from error
    if trainer.interrupted or trainer.global_step < config.steps:
        raise TrainingError(
            f"Interrupted at step {trainer.global_step} of {config.steps}; {run.path} contains the "
            "last checkpoint. Repeat the command with --resume to continue."
        )


def check_temporary_folder(workers: int) -> None:
    """Raise a `ConfigError` if workers cannot send examples, in which case training would hang.

    Workers send through a socket in the temporary folder, and the system limits the length of its
    path; beyond the limit, the worker's thread silently drops the examples.
    """
    path = f"{tempfile.gettempdir()}/pymp-12345678/listener-12345678"
    if workers and sys.platform != "win32" and len(path.encode()) > _LONGEST_SOCKET:
        raise ConfigError(
            f"{tempfile.gettempdir()}: the path of the temporary folder is too long for the "
            "sockets of train.workers. Set TMPDIR to a shorter path, or train.workers=0."
        )


def lacks_memory(error: BaseException) -> bool:
    """Return whether an error of PyTorch is an out-of-memory error of a GPU or the CPU."""
    said = str(error)
    known = ("out of memory", "can't allocate memory")
    return isinstance(error, MemoryError) or any(words in said for words in known)


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a tree to dotted key -> plain value, for the hyper-parameters of TensorBoard.

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


def _peak_memory_mb(device: torch.device) -> int | None:
    """Return the peak memory of the GPU or this process in MiB; None if unknown."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated() / 2**20)
    if sys.platform == "win32":  # has no `resource`
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak / (2**20 if sys.platform == "darwin" else 2**10))


def _quiet_worker(_: int) -> None:
    """Limit a worker to one thread, to leave the cores to the network."""
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(0)

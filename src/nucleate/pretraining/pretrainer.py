"""Run a pretraining: train an encoder on unlabelled images, to initialise a training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import default_collate

from nucleate._version import __version__
from nucleate.cards import EncoderCard
from nucleate.errors import ConfigError, ModelError, TrainingError, pick
from nucleate.files import sha256
from nucleate.models.card import ENCODER, write_card
from nucleate.models.export import write_weights
from nucleate.models.families import build, some_heads
from nucleate.models.fingerprints import fingerprint
from nucleate.pretraining.autoencoder import AutoEncoder
from nucleate.pretraining.corpus import Corpus, TissueTile, gather
from nucleate.pretraining.figures import draw_images, draw_progress
from nucleate.pretraining.multiscale import MultiScale
from nucleate.pretraining.pretext import Pretext
from nucleate.pretraining.recipe import PretrainRecipe
from nucleate.pretraining.relative_position import RelativePosition
from nucleate.pretraining.task import Examples, Pretraining
from nucleate.training.initial_weights import imagenet_start
from nucleate.training.loop import choose_device, fit
from nucleate.training.run_folder import RunFolder
from nucleate.trees import check_arguments

_LARGEST_PX = 4096  # edge of a window
_IMPOSSIBLE = (RuntimeError, ValueError, TypeError, MemoryError, OverflowError, AssertionError)
PRETEXTS: dict[str, Callable[..., Pretext]] = {
    "relative_position": RelativePosition,
    "multiscale": MultiScale,
    "autoencoder": AutoEncoder,
}


def make_pretext(recipe: PretrainRecipe) -> Pretext:
    """Create the pretext task of a recipe, on a new network.

    Raises:
        ConfigError: no such task or network, or an unknown argument.
    """
    make: Any = pick(PRETEXTS, recipe.pretext.task, "pretext task")
    network = build(recipe.model.family, some_heads(recipe.model.family), recipe.model.arguments)
    owner = f"pretext.arguments: {recipe.pretext.task}"
    check_arguments(make, recipe.pretext.arguments, owner, ("network",))
    try:
        task: Pretext = make(network, **recipe.pretext.arguments)
    except _IMPOSSIBLE as error:
        raise ConfigError(f"{owner}: too large ({_said(error)}). Lower its size.") from error
    if task.window_px > _LARGEST_PX:
        raise ConfigError(
            f"{owner}: windows of {task.window_px} pixels are too large. Use at most {_LARGEST_PX}."
        )
    return task


def pretrain_recipe(recipe: PretrainRecipe, base: Path, out: Path, resume: bool = False) -> Path:
    """Train an encoder on a pretext task.

    Args:
        recipe: the recipe.
        base: base folder of relative paths in the recipe.
        out: the run folder.
        resume: whether to continue the run in `out` from its last checkpoint.

    Returns:
        The run folder, to be used as `init.from` in a training recipe.

    Raises:
        ConfigError: the recipe contradicts itself.
        InputError: an image cannot be read, contains no tissue, or is an official test image.
        TrainingError: the run folder exists, a checkpoint is damaged, or the loss is not finite.
        ModelError: ImageNet weights are required but cannot be loaded.
    """
    pl.seed_everything(recipe.seed, verbose=False)
    pretext = make_pretext(recipe)
    _try(recipe)
    device = choose_device(recipe.train)
    corpus = gather(recipe.data, base)
    left_out: list[str] = []
    parts = ("train", "validation")
    training, held_out = (
        corpus.read(part, pretext.window_px, recipe.data.tissue, left_out.append) for part in parts
    )
    run = RunFolder(out)
    fresh = not resume or run.checkpoint("last") is None
    said = imagenet_start(pretext.network, recipe.init.imagenet) if fresh else ""
    run.begin(recipe, corpus.split, resume)
    with run.alone():
        for line in left_out:
            run.say(line)
        if fresh:
            run.write_start(said, [])
        pixels = sum(tile.image.shape[0] * tile.image.shape[1] for tile in training)
        run.say(
            f"{recipe.name}: {len(training)} training tiles ({pixels / 1e6:.0f} megapixels), "
            f"{len(held_out)} held out; windows of {pretext.window_px} pixels; "
            f"{recipe.train.steps} steps of {recipe.train.batch} examples on {device}, "
            f"{recipe.train.precision}"
        )
        learner = Pretraining(recipe, pretext, held_out)
        learner.to(memory_format=torch.channels_last)
        fit(
            learner,
            Examples(training, pretext, recipe.seed),
            learner.validation,
            recipe,
            run,
            device,
        )
        _finish(recipe, corpus, training, held_out, run)
        run.say(f"encoder written to {run.path / 'encoder'}")
        return run.path


def _try(recipe: PretrainRecipe) -> None:
    """Run the task once on blank views with a separate network, to fail before the run starts.

    Raises:
        ConfigError: the network cannot process the views.
    """
    pretext = make_pretext(recipe).train()
    edge = pretext.window_px
    rng = np.random.default_rng(0)
    half = recipe.train.precision != "fp32"
    try:
        blank = np.full((edge, edge, 3), 128, np.uint8)
        count = min(recipe.train.batch, 2)
        batch = default_collate([pretext.views(blank, rng) for _ in range(count)])
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            pretext(batch)
    except _IMPOSSIBLE as error:
        raise ConfigError(
            f"pretext: {recipe.model.family} cannot process {recipe.train.batch} examples of "
            f"{recipe.pretext.task} ({_said(error)}). Change model.arguments, pretext.arguments or "
            "train.batch."
        ) from error


def _said(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:160].rstrip(".")


def _finish(
    recipe: PretrainRecipe,
    corpus: Corpus,
    training: list[TissueTile],
    held_out: list[TissueTile],
    run: RunFolder,
) -> None:
    """Draw the figures, and write the encoder of the last checkpoint, then its card."""
    last = run.checkpoint("last")
    if last is None:
        raise TrainingError(f"{run.path} has no checkpoint. Pretrain first.")
    pl.seed_everything(recipe.seed, verbose=False)
    first = make_pretext(recipe).network
    with contextlib.suppress(ModelError):  # offline: compare with random weights
        imagenet_start(first, recipe.init.imagenet)
    pretext = make_pretext(recipe)
    state = torch.load(last, map_location="cpu", weights_only=True)["state_dict"]
    pretext.load_state_dict({k.removeprefix("pretext."): v for k, v in state.items()})
    draw_progress(run, pretext)
    draw_images(pretext.network, first, held_out, run.path)
    folder = run.path / "encoder"
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(folder / ENCODER, pretext.network.encoder_state())
    rows = run.numbers()
    if not rows:
        raise TrainingError(f"{run.path / 'metrics.csv'}: contains no rows. Restore the file.")
    row = rows[-1]
    seen = {
        "unlabelled": True,
        "split_sha256": corpus.split.digest,
        "groups": {
            part: sorted({corpus.split.groups[name] for name in corpus.split.parts[part]})
            for part in ("train", "validation")
        },
        "fingerprints": {"train": sorted({fingerprint(tile.image) for tile in training} - {""})},
    }
    card = EncoderCard(
        name=recipe.name,
        version="1",
        family=recipe.model.family,
        arguments=dict(recipe.model.arguments),
        task=recipe.pretext.task,
        mpp=recipe.data.mpp,
        training_data=[*corpus.sources, seen],
        licence=recipe.licence,
        metrics={
            "validation": {n: v for n, v in row.items() if n.startswith("val_")},
            "chance": dict(pretext.chance),
            "steps": int(row["step"]),
        },
        files={ENCODER: sha256(folder / ENCODER)},
        package_version=__version__,
        recipe=recipe.model_dump(mode="json") | {"data": _data(recipe)},
        notes=run.started_from()[0],
    )
    write_card(folder, card)


def _data(recipe: PretrainRecipe) -> dict[str, Any]:
    """Return the data of a recipe without its private root folder."""
    return recipe.data.model_dump(mode="json") | {"root": "."}

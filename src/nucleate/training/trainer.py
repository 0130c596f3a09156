"""Train a recipe: recipe → run folder → model folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging

from nucleate.config import Recipe, load_recipe
from nucleate.datasets.loading import collect
from nucleate.datasets.splits import file_names
from nucleate.errors import ConfigError, InputError, TrainingError, pick
from nucleate.inference.tiling import plan
from nucleate.losses import LOSSES, OWN_LOSSES
from nucleate.models.families import build, parameter_count
from nucleate.postprocess import complete_thresholds, missing_head
from nucleate.stain.fitting import fit_stain, restain
from nucleate.targets import HEADS
from nucleate.training.crops import CropDataset
from nucleate.training.export_run import finish, prints_of
from nucleate.training.initial_weights import check_start, start
from nucleate.training.loop import choose_device, fit, lacks_memory
from nucleate.training.run_folder import RunFolder
from nucleate.training.task import Task
from nucleate.training.teacher import Teachers
from nucleate.types import Sample


def train_recipe(
    recipe: Recipe | str | Path,
    base: str | Path = ".",
    out: str | Path | None = None,
    resume: bool = False,
) -> Path:
    """Train a recipe and write the finished model.

    Args:
        recipe: a recipe, or the path of its YAML file.
        base: base folder of relative paths in the recipe.
        out: the run folder; None uses `runs/NAME`, with the name of the recipe.
        resume: whether to continue the run in `out` from its last checkpoint.

    Returns:
        The model folder, to be used with `load_model`.

    Raises:
        ConfigError: the recipe contradicts itself.
        InputError: the data cannot be read, or contain official test images.
        TrainingError: the run folder exists, a checkpoint is damaged, or the loss is not finite.
    """
    if isinstance(recipe, str | Path):
        recipe = load_recipe(recipe)
    if not isinstance(recipe, Recipe):
        raise ConfigError(
            f"train: {type(recipe).__name__} is not a recipe. Pass the path of a recipe, or the "
            "result of load_recipe."
        )
    base, out = Path(base), Path("runs") / recipe.name if out is None else Path(out)
    check_recipe(recipe)
    data = collect(recipe.data, base)
    file_names(data.split.parts["validation"])  # check early the names of files written at the end
    training = data.read("train", recipe.data.mpp)
    validation = data.read("validation", recipe.data.mpp)
    _check_classes(recipe, training + validation)
    if not any(s.labels is not None and s.labels.any() for s in validation):
        raise InputError("The images held out for validation contain no nuclei. Change the split.")
    device = choose_device(recipe.train)
    check_start(recipe, data, validation)
    _try_network(recipe)
    held_out = [s.name for s in validation] + list(data.split.parts.get("test", ()))
    images = {s.name: partial(getattr, s, "image") for s in training}
    stain = fit_stain(recipe.stain, images, held_out, base)
    run = RunFolder(out)
    run.begin(recipe, data.split, resume)
    with run.alone():
        if stain is not None:
            run.say(f"stain: {stain.method}, reference {', '.join(stain.fitted_on)}")
        prints = prints_of(train=training, validation=validation)
        training, validation = (restain(part, stain, run.say) for part in (training, validation))
        pl.seed_everything(recipe.seed, verbose=False)
        task = Task(recipe, validation, Teachers.load(recipe, torch.device(device)))
        if run.checkpoint("last") is None:
            run.write_start(*start(task.network, recipe))
        run.say(
            f"{recipe.name}: {len(training)} images to train on, {len(validation)} held out; "
            f"{parameter_count(task.network) / 1e6:.2f} M parameters; {recipe.train.steps} "
            f"steps of {recipe.train.batch} crops on {device}, {recipe.train.precision}"
        )
        averaged = [EMAWeightAveraging(decay=recipe.train.ema)] if recipe.train.ema else []
        fit(task, CropDataset(training, recipe), validation, recipe, run, device, averaged)
        return finish(recipe, data, training, validation, run, stain, prints)


def check_recipe(recipe: Recipe) -> None:
    """Check a recipe beyond its syntax.

    Raises:
        ConfigError: an unknown head, loss, decoder, threshold or model argument; a decoder without
            the heads it needs.
    """
    for name, head in recipe.heads.items():
        pick({**HEADS, "types": None}, name, "head")
        own = name in OWN_LOSSES
        known = dict.fromkeys(OWN_LOSSES[name] if own else LOSSES)
        for loss in head.loss:
            pick(known, loss, "loss")
        if "lovasz" in head.loss and head.edge_px > 0:
            raise ConfigError(
                f"heads.{name}: lovasz does not support soft edges. Set edge_px to 0, or use dice."
            )
        if "lovasz" in head.loss and head.background != 1:
            raise ConfigError(
                f"heads.{name}: lovasz does not support a background weight. Set background to 1."
            )
        if head.edge_px > 0 and name != "foreground":
            raise ConfigError(
                f"heads.{name}: edge_px applies only to the head foreground. Set it to 0."
            )
        if own and (head.background != 1 or recipe.train.weighting != "fixed"):
            raise ConfigError(
                f"heads.{name}: its losses support neither a background weight nor learned "
                "weighting. Set background to 1 and train.weighting to fixed."
            )
    complete_thresholds(recipe.decode.decoder, recipe.decode.thresholds)
    missing = missing_head(recipe.decode.decoder, list(recipe.heads))
    if missing is not None:
        raise ConfigError(
            f"heads: the decoder {recipe.decode.decoder!r} needs the head {missing!r}. Add it."
        )
    init = recipe.init
    at_random = init.from_model is None and init.imagenet in ("never", "if-reachable")
    if recipe.model.arguments.get("norm") == "frozen" and at_random:
        raise ConfigError(
            "model.arguments: frozen norms need the statistics of published weights. Set "
            "init.imagenet=required, set init.from to a model, or use the norm batch or group."
        )
    with torch.device("meta"):  # its sizes, without its weights
        network = build(recipe.model.family, list(recipe.maps), recipe.model.arguments)
    plan(1, 1, recipe.decode.tile_px, recipe.decode.halo_px, network.align_px)


def _try_network(recipe: Recipe) -> None:
    """Run the network once on a batch of the recipe's crop size, to fail before the run starts.

    Raises:
        ConfigError: the network cannot process such crops.
        TrainingError: there is not enough memory.
    """
    train = recipe.train
    count, edge = min(train.batch, 2), train.crop_px
    network = build(recipe.model.family, list(recipe.maps), recipe.model.arguments).train()
    half = train.precision != "fp32"
    try:
        crops = torch.zeros(count, 3, edge, edge, dtype=torch.uint8)
        nothing = torch.zeros(count, edge, edge)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            targets = dict.fromkeys(recipe.maps, nothing)
            network.learn(crops, targets, nothing > 0, recipe.maps)
    except (MemoryError, RuntimeError, ValueError, AssertionError) as error:
        if lacks_memory(error):
            raise TrainingError(
                f"Out of memory with {count} crops of {edge} pixels. Lower train.batch or "
                "train.crop_px."
            ) from error
        said = " ".join(str(error).split())[:160]
        raise ConfigError(
            f"model: {recipe.model.family} cannot process {train.batch} crops of {train.crop_px} "
            f"pixels ({said}). Change model.arguments, train.crop_px or train.batch."
        ) from error


def _check_classes(recipe: Recipe, samples: list[Sample]) -> None:
    """Raise a `ConfigError` if the recipe lists other nucleus types than the data have."""
    wanted = recipe.data.classes
    other = next((s for s in samples if wanted and s.class_names != wanted), None)
    if other is not None:
        raise ConfigError(
            f"data.classes: {', '.join(wanted)}, but {other.name} has "
            f"{', '.join(other.class_names) or 'no nucleus types'}. List the classes of the data "
            "set."
        )

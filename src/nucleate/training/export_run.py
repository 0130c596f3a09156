"""Export a trained run as a model folder: tune thresholds, export the network, write the card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nucleate.config import Recipe
from nucleate.datasets.loading import Collection
from nucleate.datasets.splits import file_names
from nucleate.errors import TrainingError
from nucleate.evaluation.error_overlays import coloured
from nucleate.evaluation.evaluate import Prediction, evaluate_model
from nucleate.evaluation.metrics.instance import aji, matches, panoptic
from nucleate.evaluation.metrics.matching import overlap
from nucleate.files import sha256
from nucleate.geometry.labels import compact
from nucleate.inference.backends import Model
from nucleate.inference.engine import predict_maps
from nucleate.inference.torch_backend import TorchBackend
from nucleate.models.card import ONNX, WEIGHTS, write_card
from nucleate.models.export import export_onnx, round_weights, write_weights
from nucleate.models.fingerprints import fingerprints
from nucleate.postprocess import DECODERS, flat, needed
from nucleate.readers.array import ArraySource
from nucleate.results.images import write_labels, write_png
from nucleate.stain.normalise import Normaliser
from nucleate.training.run_folder import RunFolder
from nucleate.training.task import Task, provisional_card
from nucleate.training.tune import Truth, tune_thresholds
from nucleate.types import Maps, Sample


def finish(
    recipe: Recipe,
    data: Collection,
    training: list[Sample],
    validation: list[Sample],
    run: RunFolder,
    stain: Normaliser | None,
    prints: dict[str, list[str]],
) -> Path:
    """Export the best or last checkpoint of a run as a model.

    Args:
        recipe: recipe of the run.
        data: the data sets and their split.
        training: training images.
        validation: validation images, on which thresholds are tuned if the recipe requests it.
        run: the run folder; its checkpoints are read and its model folder is written.
        stain: stain normaliser applied to images; stored with the model.
        prints: fingerprints of training and validation images before stain normalisation.

    Returns:
        The model folder.

    Raises:
        TrainingError: there is no checkpoint, or it is damaged.
    """
    kept = run.checkpoint(recipe.train.keep)
    if kept is None:
        raise TrainingError(
            f"{run.path} has no {recipe.train.keep!r} checkpoint, as happens if the validation "
            "images have no nuclei. Train again with nuclei in the held-out images."
        )
    task = Task(recipe, validation)
    task.load_state_dict(torch.load(kept, map_location="cpu", weights_only=True)["state_dict"])
    network = task.network.eval()
    round_weights(network)
    maps_of = list(recipe.maps)
    card = provisional_card(recipe, task.align_px)
    model = Model(card, TorchBackend(network, "cpu", "f32"))
    thresholds = card.thresholds
    maps = [predict_maps(ArraySource(s.image), model, model.card.mpp) for s in validation]
    truths = [(s.labels, s.ignore) for s in validation if s.labels is not None]
    if recipe.decode.tune:
        thresholds, score = tune_thresholds(maps, truths, recipe.decode.decoder, thresholds)
        run.say(f"thresholds tuned on validation: {thresholds}, AJI {score:.4f}")
    run.model.mkdir(parents=True, exist_ok=True)
    network = network.to(memory_format=torch.contiguous_format)
    export_onnx(network, needed(recipe.decode.decoder, maps_of), card.align_px, run.model / ONNX)
    write_weights(run.model / WEIGHTS, network.state_dict())
    card = replace(
        card,
        version="1",
        thresholds=thresholds,
        stain=None if stain is None else stain.to_dict(),
        training_data=_training_data(run.started_from()[1], data, training, prints),
        metrics={"validation": _scores(recipe, maps, truths, thresholds, run)},
        files={name: sha256(run.model / name) for name in (ONNX, WEIGHTS)},
        notes=run.started_from()[0],
    )
    run.draw_curves()
    _look_back(replace(model, card=card), data, run)
    write_card(run.model, card)  # last, because it marks the run as finished
    run.say(f"model written to {run.model}")
    return run.model


def _look_back(model: Model, data: Collection, run: RunFolder) -> None:
    """Write labels, overlays and scores of the finished model on the validation images."""
    out = run.path / "validation"

    def keep(found: Prediction) -> None:
        sample, name = found.sample, files[found.score.name]
        write_labels(out / "labels" / f"{name}.predicted.tif", found.labels, sample.mpp)
        if sample.labels is not None:
            write_labels(out / "labels" / f"{name}.true.tif", sample.labels, sample.mpp)
        write_png(out / "overlays" / f"{name}.png", coloured(sample.image, found.nuclei))

    files = file_names(data.split.parts["validation"])
    evaluate_model(model, [data.entries[name] for name in files], each=keep).write(out)


def prints_of(**parts: list[Sample]) -> dict[str, list[str]]:
    """Return part -> fingerprints of its images, as listed in a card."""
    return {
        part: sorted({fingerprints(sample.image) for sample in samples} - {""})
        for part, samples in parts.items()
    }


def _training_data(
    earlier: list[dict[str, Any]],
    data: Collection,
    training: list[Sample],
    prints: dict[str, list[str]],
) -> list[dict[str, Any]]:
    """Return the data on which a model and its ancestors were trained and selected, for its card.

    Fingerprints of an image are listed only once.
    """
    own = {
        "split_sha256": data.split.digest,
        "trained_on": len(training),
        "nuclei_trained_on": sum(
            len(compact(s.labels)[1]) for s in training if s.labels is not None
        ),
        "validation": list(data.split.parts["validation"]),
        "groups": {
            part: sorted({data.split.groups[name] for name in data.split.parts[part]})
            for part in ("train", "validation")
        },
        "fingerprints": prints,
    }
    return [*(_less(entry, prints) for entry in earlier), *data.sources, own]


def _less(entry: dict[str, Any], prints: dict[str, list[str]]) -> dict[str, Any]:
    """Return an entry of a card without the fingerprints in `prints`."""
    if "fingerprints" not in entry:
        return entry
    kept = {
        part: [text for text in texts if text not in prints.get(part, ())]
        for part, texts in entry["fingerprints"].items()
    }
    return {**entry, "fingerprints": kept}


def _scores(
    recipe: Recipe,
    maps: list[Maps],
    truths: list[Truth],
    thresholds: dict[str, float],
    run: RunFolder,
) -> dict[str, Any]:
    """Return the scores on the validation images, and the step of the checkpoint."""
    decode = DECODERS[recipe.decode.decoder].decode
    tables = [
        overlap(labels, flat(decode(m, thresholds, labels.shape)), ignore)
        for m, (labels, ignore) in zip(maps, truths, strict=True)
    ]
    return {
        "images": len(tables),
        "aji": float(np.nanmean([aji(table) for table in tables])),
        "pq": float(np.nanmean([panoptic(*matches(table, 0.5))[2] for table in tables])),
        "best_step": run.step_of(recipe.train.keep),
    }

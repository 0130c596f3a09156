"""Predictions against ground truth: two folders of files, or a model on a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nucleate.annotations.doubts import doubtful_labels
from nucleate.annotations.label_images import as_labels
from nucleate.datasets.base import Entry, sample_doubts
from nucleate.errors import InputError, pick
from nucleate.evaluation.annotated_files import annotation_files, common_mpp, read_pair
from nucleate.evaluation.leakage import seen_in_file
from nucleate.evaluation.metrics.classes import Typed, compare_classes
from nucleate.evaluation.metrics.coco import Records, average_precision
from nucleate.evaluation.report import Report
from nucleate.evaluation.score import DETECTION_RADIUS_UM, NEED_MPP, ImageScore, score_labels
from nucleate.folders import renamed
from nucleate.geometry.outlines import paint
from nucleate.inference.backends import Model
from nucleate.inference.pipeline import EngineOptions
from nucleate.inference.segment import find_nuclei
from nucleate.models.fingerprints import seen_as
from nucleate.postprocess import DECODERS, complete_thresholds
from nucleate.readers.array import ArraySource
from nucleate.readers.source import Source
from nucleate.resolution import HOW_TO_STATE_MPP, SAME_MPP, check_mpp
from nucleate.types import Instances, Int32, Sample


def evaluate(
    pred: Instances | Int32 | str | Path,
    truth: Instances | Int32 | str | Path,
    mpp: float | None = None,
) -> Report:
    """Score predictions against ground truth: nuclei, label images, files or folders.

    Args:
        pred: nuclei; a label image, int32 (H, W), 0 background; or a file or folder of them.
        truth: likewise.
        mpp: micrometres per pixel, for the detection radius (3 um); None uses what nuclei or files
            state. If neither is known, `f1_detection` is omitted.

    Returns:
        The scores; `means()` returns each metric with its interval, `pooled()` the metrics of all
        images together, `write(folder)` writes them.

    Raises:
        InputError: sizes or resolutions differ; arrays on one side, files on the other.

    Example:
        >>> import numpy as np
        >>> labels = np.array([[1, 1, 0, 2]], np.int32)
        >>> pq = evaluate(labels, labels).means()["pq"]
        >>> pq["mean"]
        1.0
    """
    if isinstance(pred, str | Path) and isinstance(truth, str | Path):
        return evaluate_files(Path(pred), Path(truth), mpp=mpp)
    if isinstance(pred, str | Path) or isinstance(truth, str | Path):
        raise InputError(
            "evaluate: a path and an array cannot be compared. Read the file first with "
            "nucleate.read or read_labels."
        )
    stated = [mpp, *(side.frame.mpp for side in (pred, truth) if isinstance(side, Instances))]
    known = [check_mpp(value) for value in stated if value is not None]
    if known and max(known) > min(known) * (1 + SAME_MPP):
        raise InputError(
            f"evaluate: {min(known):g} and {max(known):g} um/px. Compare images of one resolution."
        )
    pred, truth = (
        side.to_labels() if isinstance(side, Instances) else side for side in (pred, truth)
    )
    radius = DETECTION_RADIUS_UM / known[0] if known else None
    score = score_labels(truth, pred, name="image", radius_px=radius)
    doubts = [
        f"{side}: {doubt}"
        for side, labels in (("pred", pred), ("truth", truth))
        for doubt in doubtful_labels(as_labels(side, labels))
    ]
    return Report([score], {"warnings": doubts} if doubts else {})


def evaluate_files(
    pred: Path,
    truth: Path,
    tell: Callable[[str], None] = lambda _: None,
    mpp: float | None = None,
) -> Report:
    """Compare predicted with true annotations, paired by name.

    Args:
        pred: a file, or a folder of label images (PNG, TIFF, NPY, MAT), outlines (GeoJSON, XML) or
            results (.nuclei.parquet).
        truth: likewise; at least one side must be label images or results.
        tell: called with one line per image, and one if metrics are omitted.
        mpp: micrometres per pixel, for the detection radius (3 um); None uses what the files
            state. If neither is known, `f1_detection` is omitted.

    Raises:
        InputError: nothing to compare, a prediction without truth or the reverse, other sizes, or
            resolutions that differ by more than 5 %.
    """
    predicted, true = annotation_files(pred), annotation_files(truth)
    if pred.is_file() and truth.is_file():
        predicted, true = {truth.stem: pred}, {truth.stem: truth}
    predicted = renamed(predicted, true)
    alone = sorted(predicted.keys() ^ true.keys())
    if alone:
        side = "prediction" if alone[0] in true else "truth"
        raise InputError(
            f"{alone[0]}: has no {side} (and {len(alone) - 1} more). Use the same file names in "
            "both folders."
        )
    scores, unknown, warnings = [], [], list[str]()
    about: dict[str, Any] = {"prediction": str(pred), "truth": str(truth)}
    for name in sorted(true):
        resolution = common_mpp(true[name], predicted[name], mpp)
        truth_labels, pred_labels, doubts = read_pair(true[name], predicted[name])
        warnings += doubts
        if truth_labels.shape != pred_labels.shape:
            raise InputError(
                f"{predicted[name]}: {pred_labels.shape[1]} × {pred_labels.shape[0]} pixels, but "
                f"the truth {true[name].name} is {truth_labels.shape[1]} × "
                f"{truth_labels.shape[0]}. Compare images of one size."
            )
        radius = None if resolution is None else DETECTION_RADIUS_UM / resolution
        score = score_labels(truth_labels, pred_labels, name=name, radius_px=radius)
        score = replace(score, seen=seen_in_file(predicted[name]))
        scores.append(score)
        unknown += [name] if resolution is None else []
        _tell(tell, score)
    if unknown:
        omitted = ", ".join(NEED_MPP)
        why = f"no file states the resolution. {HOW_TO_STATE_MPP}"
        tell(f"{omitted}: omitted for {len(unknown)} of {len(true)} images, since {why}.")
        about["omitted"] = {"metrics": list(NEED_MPP), "images": unknown, "why": why}
    if warnings:
        about["warnings"] = warnings
    return Report(scores, about)


@dataclass(frozen=True, slots=True)
class Prediction:
    """One image, the nuclei found in it, and their score.

    Attributes:
        sample: the image and its ground truth.
        nuclei: the nuclei found, in pixels of the image.
        labels: the nuclei drawn, int32 (H, W), ids as in `nuclei`.
        score: score against the ground truth.
        candidates: nuclei and lower-scored detections, for average precision.
    """

    sample: Sample
    nuclei: Instances
    labels: Int32
    score: ImageScore
    candidates: Instances


def predictions(
    model: Model,
    entries: Iterable[Entry],
    options: EngineOptions | None = None,
    own_names: bool = True,
) -> Iterator[Prediction]:
    """Yield the engine's result for each image, and its score.

    Scores are computed on the grid of the data set's images. Images that the model saw in training
    are marked in their scores; `own_names` as in `seen_as`.

    Raises:
        InputError: an image cannot be read, has no labels, or has no resolution.
    """
    for entry in entries:
        sample = entry.read()
        if sample.labels is None:
            raise InputError(f"{entry.name}: has no labels. Add labels, or remove the image.")
        source = ArraySource(sample.image, sample.mpp, sample.name)
        nuclei, candidates = _found(source, model, options or EngineOptions())
        labels = paint(nuclei, sample.labels.shape)
        radius = DETECTION_RADIUS_UM / check_mpp(sample.mpp)
        score = score_labels(sample.labels, labels, sample.ignore, entry.name, entry.organ, radius)
        if sample.classes is not None and sample.class_names == tuple(model.card.classes):
            kinds = compare_classes(
                Typed(sample.labels, sample.classes),
                Typed(labels, nuclei.classes),
                sample.class_names,
                sample.ignore,
                radius,
            )
            score = replace(score, counts=score.counts | kinds)
        seen = seen_as(model.card, entry.group, sample.image, own_names)
        score = replace(score, group=entry.group, seen=seen)
        yield Prediction(sample, nuclei, labels, score, candidates)


def _found(source: Source, model: Model, options: EngineOptions) -> tuple[Instances, Instances]:
    """Return the nuclei that users get, and all candidates, including low scores if there are any.

    Candidates of lower score do not affect the others, except where two tiles see one nucleus and
    the deeper view has the lower score.
    """
    card = model.card
    name = pick(DECODERS, card.decoder, "decoder").candidates
    if name is None:
        nuclei = find_nuclei(source, model, None, options).nuclei
        return nuclei, nuclei
    thresholds = complete_thresholds(card.decoder, card.thresholds)
    lower = Model(replace(card, thresholds={**thresholds, name: 0.0}), model.backend)
    candidates = find_nuclei(source, lower, None, options).nuclei
    sure = candidates.take(candidates.scores > thresholds[name])
    return Instances.concatenate([sure], sure.frame), candidates


def evaluate_model(
    model: Model,
    entries: list[Entry],
    tell: Callable[[str], None] = lambda _: None,
    options: EngineOptions | None = None,
    each: Callable[[Prediction], None] = lambda _: None,
    own_names: bool = True,
) -> Report:
    """Score a model on the images of a data set; `each` is called with every prediction.

    Images that the model saw in training are marked; `own_names` as in `fingerprints.seen_as`.

    Raises:
        InputError: an image cannot be read, has no labels, or has no resolution.
    """
    scores, records, warnings = [], Records(), list[str]()
    for found in predictions(model, entries, options, own_names):
        scores.append(found.score)
        warnings += [f"{found.sample.name}: {doubt}" for doubt in sample_doubts(found.sample)]
        if found.sample.labels is not None:
            records.add(found.sample.labels, found.sample.ignore, found.candidates)
        each(found)
        _tell(tell, found.score)
    about = model_facts(model) | ({"warnings": warnings} if warnings else {})
    return Report(scores, about, average_precision(records))


def model_facts(model: Model) -> dict[str, Any]:
    """Return the facts about a model that a report states."""
    decoder = pick(DECODERS, model.card.decoder, "decoder")
    lowest = float(model.card.arguments.get("min_score", decoder.min_score))
    return {
        "average_precision": {"score_above": lowest, "score": decoder.score},
        "model": model.card.name,
        "model_files": model.card.files,
        "thresholds": model.card.thresholds,
        "engine": model.backend.about,
        "recipe": model.card.recipe.get("name"),
    }


def _tell(tell: Callable[[str], None], score: ImageScore) -> None:
    m = score.metrics
    tell(f"{score.name}: AJI {m['aji']:.3f}, PQ {m['pq']:.3f}, Dice {m['dice']:.3f}")

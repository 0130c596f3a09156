"""Predictions against truth: two folders of files, or a model on a data set."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nucleate.datasets.entry import Entry
from nucleate.datasets.splits import bare_name
from nucleate.errors import InputError
from nucleate.fingerprints import seen_as
from nucleate.inference.backends import Model
from nucleate.inference.engine import find_nuclei
from nucleate.inference.pipeline import EngineOptions
from nucleate.io.annotated import annotation_files, common_mpp, read_pair
from nucleate.io.files import read_text, write_text
from nucleate.io.slides import ArraySource
from nucleate.io.source import Source
from nucleate.labels import paint
from nucleate.leaks import seen_in_file
from nucleate.metrics.classes import Typed, compare_classes
from nucleate.metrics.coco import Records, average_precision
from nucleate.metrics.report import (
    DETECTION_RADIUS_UM,
    METRICS,
    NEED_MPP,
    PictureScore,
    Report,
    compare,
)
from nucleate.postprocess import complete_thresholds
from nucleate.run_folder import git_commit
from nucleate.types import MIN_SCORE, Instances, Int32, Sample, check_mpp, detects

LEDGER = ("date", "commit", "model", "sha256", "pictures", "aji", "pq", "dice", "command")


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
        truth: likewise; one side has to be label images or results.
        tell: is given one line per picture, and one if metrics are omitted.
        mpp: micrometres per pixel, for the radius of detection (3 um); None takes what the files
            state. Where neither is known, `f1_detection` is omitted.

    Raises:
        InputError: nothing to compare, a prediction without truth or the reverse, other sizes, or
            resolutions that differ by more than 5 %.
    """
    predicted, true = annotation_files(pred), annotation_files(truth)
    if pred.is_file() and truth.is_file():
        predicted, true = {truth.stem: pred}, {truth.stem: truth}
    alone = sorted(predicted.keys() ^ true.keys())
    if alone:
        side = "prediction" if alone[0] in true else "truth"
        raise InputError(
            f"{alone[0]}: there is no {side} of this name (and {len(alone) - 1} more without a "
            "partner). Give both folders the same file names."
        )
    scores, unknown = [], []
    about: dict[str, Any] = {"prediction": str(pred), "truth": str(truth)}
    for name in sorted(true):
        resolution = common_mpp(true[name], predicted[name], mpp)
        truth_labels, pred_labels = read_pair(true[name], predicted[name])
        if truth_labels.shape != pred_labels.shape:
            raise InputError(
                f"{predicted[name]}: {pred_labels.shape[1]} × {pred_labels.shape[0]} pixels, but "
                f"the truth {true[name].name} is {truth_labels.shape[1]} × "
                f"{truth_labels.shape[0]}. Compare pictures of one size."
            )
        radius = None if resolution is None else DETECTION_RADIUS_UM / resolution
        score = compare(truth_labels, pred_labels, name=name, radius_px=radius)
        score = replace(score, seen=seen_in_file(predicted[name]))
        scores.append(score)
        unknown += [name] if resolution is None else []
        _tell(tell, score)
    if unknown:
        omitted = ", ".join(NEED_MPP)
        why = "no file states the resolution. Give it by --mpp"
        tell(f"{omitted}: omitted for {len(unknown)} of {len(true)} images, since {why}.")
        about["omitted"] = {"metrics": list(NEED_MPP), "images": unknown, "why": why}
    return Report(scores, about)


@dataclass(frozen=True, slots=True)
class Prediction:
    """One picture, what was found in it, and how well.

    Attributes:
        sample: the picture and its truth.
        nuclei: what was found, in pixels of the picture.
        labels: the same drawn, int32 (H, W), ids as in `nuclei`.
        score: against the truth.
        candidates: with what is too unsure to be shown to users: what average precision is of.
    """

    sample: Sample
    nuclei: Instances
    labels: Int32
    score: PictureScore
    candidates: Instances


def predictions(
    model: Model,
    entries: Iterable[Entry],
    options: EngineOptions | None = None,
    own_names: bool = True,
) -> Iterator[Prediction]:
    """Yield what the engine that users run finds in each picture, and its score.

    Everything is compared on the grid of the data set's own pictures. Images that the model saw
    in training are marked in their scores; `own_names` as in `seen_as`.

    Raises:
        InputError: a picture cannot be read, has no labels, or has no resolution.
    """
    for entry in entries:
        sample = entry.read()
        if sample.labels is None:
            raise InputError(f"{entry.name}: has no labels. Add them, or leave the picture out.")
        source = ArraySource(sample.image, sample.mpp, sample.name)
        nuclei, candidates = _found(source, model, options or EngineOptions())
        labels = paint(nuclei, sample.labels.shape)
        radius = DETECTION_RADIUS_UM / check_mpp(sample.mpp)
        score = compare(sample.labels, labels, sample.ignore, entry.name, entry.organ, radius)
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
    """Return what users get, and all candidates: of a detector also those of low score.

    The sure ones do not depend on those that are less sure than they are, save where two tiles
    see one nucleus and the deeper view is unsure.
    """
    card = model.card
    if not detects(card.heads):
        nuclei = find_nuclei(source, model, None, options).nuclei
        return nuclei, nuclei
    thresholds = complete_thresholds(card.decoder, card.thresholds)
    lower = Model(replace(card, thresholds={**thresholds, "score": 0.0}), model.backend)
    candidates = find_nuclei(source, lower, None, options).nuclei
    sure = candidates.take(candidates.scores > thresholds["score"])
    return Instances.concatenate([sure], sure.frame), candidates


def evaluate_model(
    model: Model,
    entries: list[Entry],
    tell: Callable[[str], None] = lambda _: None,
    options: EngineOptions | None = None,
    each: Callable[[Prediction], None] = lambda _: None,
    own_names: bool = True,
) -> Report:
    """Score a model on the pictures of a data set; `each` is given every prediction.

    Images that the model saw in training are marked; `own_names` as in `fingerprints.seen_as`.

    Raises:
        InputError: a picture cannot be read, has no labels, or has no resolution.
    """
    scores, records = [], Records()
    for found in predictions(model, entries, options, own_names):
        scores.append(found.score)
        if found.sample.labels is not None:
            records.add(found.sample.labels, found.sample.ignore, found.candidates)
        each(found)
        _tell(tell, found.score)
    return Report(scores, describe(model), average_precision(records))


def describe(model: Model) -> dict[str, Any]:
    """Return what a report says about the model behind it."""
    detector = detects(model.card.heads)
    lowest = float(model.card.arguments.get("min_score", MIN_SCORE)) if detector else 0.0
    return {
        "average_precision": {"score_above": lowest, "score": "of the box"}
        if detector
        else {"score_above": lowest, "score": "mean foreground of the nuclei that users get"},
        "model": model.card.name,
        "model_files": model.card.files,
        "thresholds": model.card.thresholds,
        "engine": model.backend.about,
        "recipe": model.card.recipe.get("name"),
    }


@dataclass(frozen=True, slots=True)
class Scores:
    """A written result.

    Attributes:
        metrics: metric -> picture -> value; NaN where it is not defined.
        groups: picture -> patient or slide; the picture itself where none is known.
        seen: image that the model saw in training -> how, and what shows it.
    """

    metrics: dict[str, dict[str, float]]
    groups: dict[str, str]
    seen: dict[str, str]


def read_scores(folder: Path) -> Scores:
    """Return what `Report.write` wrote, by the names of the pictures.

    The number of a picture's set in a recipe is left out of its name where that stays unique, so
    that a cross-validation can be held against an evaluation.

    Args:
        folder: with a metrics.json, or a finished cross-validation: its out-of-fold result.

    Raises:
        InputError: there is none, it is no such file, or names a picture twice.
    """
    files = (folder / "metrics.json", folder / "out-of-fold" / "metrics.json")
    path = next((file for file in files if file.is_file()), files[0])
    try:
        content = json.loads(read_text(path))
        rows = content["per_picture"]
        names = whole = [str(row["name"]) for row in rows]
        bare = [bare_name(name) for name in names]
        names = bare if len(set(bare)) == len(bare) else names
        metrics = {
            metric: {
                name: float("nan") if (found := _value(row, metric)) is None else float(found)
                for name, row in zip(names, rows, strict=True)
            }
            for metric in METRICS
            if metric not in NEED_MPP or any(metric in row for row in rows)
        }
        groups = {n: str(r.get("group") or n) for n, r in zip(names, rows, strict=True)}
        marked = content.get("seen_in_training", {})  # an older result has none
        seen = {n: str(marked[w]) for n, w in zip(names, whole, strict=True) if w in marked}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError,
            RecursionError) as error:  # fmt: skip
        raise InputError(
            f"{path}: not a result of this version of nucleate ({str(error)[:80]!r}). Evaluate "
            "again."
        ) from error
    if len(groups) < len(rows):
        raise InputError(f"{path}: names a picture twice. Evaluate again.")
    return Scores(metrics, groups, seen)


def _value(row: dict[str, Any], metric: str) -> float | None:
    """Return a metric of a picture; those that need a resolution may be lacking."""
    return row.get(metric) if metric in NEED_MPP else row[metric]


def check_ledger(ledger: Path) -> list[dict[str, str]]:
    """Return the rows of the ledger of test uses, none where there is no file yet.

    Raises:
        InputError: the file is there, but is no such ledger.
    """
    if not ledger.exists():
        return []
    reader = csv.DictReader(io.StringIO(read_text(ledger)))
    if tuple(reader.fieldnames or ()) != LEDGER:
        raise InputError(f"{ledger}: not a ledger of test uses. Name another file by --ledger.")
    return list(reader)


def log_test_use(ledger: Path, name: str, digest: str, report: Report, command: str) -> None:
    """Append one row to the ledger of uses of official test pictures.

    Args:
        ledger: CSV file; a new one is started where there is none.
        name: what was evaluated: a model, or a folder of predictions.
        digest: SHA-256 of the model's weights, "files" for predictions.
        report: what came out.
        command: that repeats it.

    Raises:
        InputError: the file is no ledger.
    """
    means = report.means()
    row = {
        "date": time.strftime("%Y-%m-%d"),
        "commit": git_commit() or "",
        "model": name,
        "sha256": digest,
        "pictures": len(report.pictures),
        **{name: round(means[name]["mean"], 4) for name in ("aji", "pq", "dice")},
        "command": command,
    }
    rows = check_ledger(ledger)
    text = io.StringIO()
    writer = csv.DictWriter(text, LEDGER, lineterminator="\n")
    writer.writeheader()
    writer.writerows([*rows, row])
    write_text(ledger, text.getvalue())


def _tell(tell: Callable[[str], None], score: PictureScore) -> None:
    m = score.metrics
    tell(f"{score.name}: AJI {m['aji']:.3f}, PQ {m['pq']:.3f}, Dice {m['dice']:.3f}")

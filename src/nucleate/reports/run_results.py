"""A run folder → everything that the report states about it; images are predicted again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nucleate.cards import ModelCard
from nucleate.config import Recipe, load_recipe
from nucleate.datasets.base import Entry
from nucleate.datasets.loading import list_sets
from nucleate.datasets.splits import Split, read_split
from nucleate.errors import InputError
from nucleate.evaluation.error_overlays import outlined
from nucleate.evaluation.evaluate import Prediction, predictions
from nucleate.evaluation.metrics.matching import overlap
from nucleate.evaluation.metrics.nucleus_errors import PRED_OUTCOMES, outcomes
from nucleate.evaluation.report import Report
from nucleate.evaluation.score import ImageScore
from nucleate.files import read_text
from nucleate.inference.loading import load_model
from nucleate.models.card import read_card
from nucleate.models.families import build, flops_per_pixel, parameter_count
from nucleate.training.run_folder import RunFolder
from nucleate.types import Bool, Float32

_WINDOW, _ENLARGED = 300, 2  # pixels of an image that are shown, and how many times as large


@dataclass(frozen=True, slots=True)
class ImageResult:
    """One image that the run was not trained on.

    Attributes:
        score: against the truth.
        scores: float32 (n,), of the predicted nuclei.
        hits: bool (n,), whether each matches a true nucleus (IoU above 0.5).
        overlay: JPEG of the window with most errors.
    """

    score: ImageScore
    scores: Float32
    hits: Bool
    overlay: bytes


@dataclass(frozen=True, slots=True)
class RunResult:
    """One run, or one cross-validation.

    Attributes:
        name: of the folder.
        recipe: what was asked.
        part: what its images were to the run: "tested on", or "chosen on" (the checkpoint or
            the thresholds were chosen on the same images, so that scores are too high).
        curves: name of a fold -> rows of metrics.csv.
        images: results.
        cost: what it takes: name -> (value, unit).
        environment: where it ran.
    """

    name: str
    recipe: Recipe
    part: str
    curves: dict[str, list[dict[str, float]]]
    images: list[ImageResult]
    cost: dict[str, tuple[float, str]]
    environment: dict[str, Any]

    @property
    def report(self) -> Report:
        """Scores of all images."""
        return Report([image.score for image in self.images])


def gather(
    path: Path, base: Path, root: str | None, tell: Callable[[str], None] = lambda _: None
) -> RunResult:
    """Read a finished run or cross-validation and predict its images again.

    Args:
        path: the folder.
        base: folder that the recipe's relative paths start from.
        root: folder of the data; None takes the recipe's.
        tell: is given one line per run.

    Raises:
        InputError: no such run, or its data are gone or changed.
        ModelError: the run is not finished, or its model is damaged.
    """
    if not (path / "recipe.yaml").is_file():
        raise InputError(f"{path}: not a run. Name a folder that nucleate train or crossval wrote.")
    recipe = load_recipe(path / "recipe.yaml", [] if root is None else [f"data.root={root}"])
    folds = sorted((path / "splits").glob("*.json"))
    runs = {fold.stem: path / fold.stem for fold in folds} or {"": path}
    entries = list_sets(recipe.data.sets, base / recipe.data.root)[0]
    found: list[ImageResult] = []
    seconds = pixels = 0.0
    parts: set[str] = set()
    for run in runs.values():
        split = read_split(run / "split.json")
        names, part = _shown(split, entries, recipe)
        parts.add(part)
        if len(parts) > 1:
            raise InputError(
                f"{path}: only some folds contain official test images, so that their results "
                "cannot be pooled. Report each fold separately."
            )
        model = load_model(run)
        clock = time.perf_counter()
        for prediction in predictions(model, (_entry(entries, name) for name in names)):
            seconds += time.perf_counter() - clock
            pixels += prediction.sample.image[..., 0].size
            found.append(_image(prediction))
            clock = time.perf_counter()
        tell(f"{run}: {len(names)} images predicted")
    first = next(iter(runs.values()))
    curves = {name: RunFolder(run).numbers() for name, run in runs.items()}
    return RunResult(
        name=path.resolve().name,
        recipe=recipe,
        part=part,
        curves=curves,
        images=found,
        cost={
            **_cost(read_card(RunFolder(first).model), curves),
            "segmenting, with reading and scoring": (
                1e6 * seconds / max(pixels, 1),
                "s per megapixel",
            ),
        },
        environment=_environment(first / "environment.json"),
    )


def _shown(split: Split, entries: dict[str, Entry], recipe: Recipe) -> tuple[list[str], str]:
    """Return the images to show, and what they were to the run; never official test images."""
    tested = split.parts.get("test", ())
    if tested and not any(_entry(entries, name).test_only for name in tested):
        return sorted(tested), "tested on"
    chosen = recipe.train.keep == "best" or recipe.decode.tune
    return sorted(split.parts["validation"]), "chosen on" if chosen else "tested on"


def _environment(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}). Restore the file.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: not the environment of a run. Restore the file.")
    return content


def _entry(entries: dict[str, Entry], name: str) -> Entry:
    if name not in entries:
        raise InputError(
            f"{name}: is missing from the data set. Restore it, or name the folder of the data "
            "with --root."
        )
    return entries[name]


def _image(found: Prediction) -> ImageResult:
    """Return what the report keeps of a prediction."""
    truth = found.sample.labels
    if truth is None:
        raise InputError(f"{found.sample.name}: has no labels. Restore them.")
    table = overlap(truth, found.labels, found.sample.ignore)
    seen = outcomes(table)
    pred = found.labels if found.sample.ignore is None else found.labels * ~found.sample.ignore
    ids = np.unique(pred[pred > 0])
    return ImageResult(
        score=found.score,
        scores=found.nuclei.scores[ids - 1],
        hits=np.asarray(seen.pred == PRED_OUTCOMES.index("matched")),
        overlay=_window(found),
    )


def _window(found: Prediction) -> bytes:
    """Return the window of an image where truth and prediction differ most, as JPEG."""
    sample, labels = found.sample, found.labels
    truth = labels if sample.labels is None else sample.labels
    wrong = ((truth > 0) != (labels > 0)).astype(np.float32) + 0.1 * (truth > 0)
    if sample.ignore is not None:
        wrong[sample.ignore] = 0
    high, wide = min(_WINDOW, truth.shape[0]), min(_WINDOW, truth.shape[1])
    sums = cv2.boxFilter(wrong, -1, (wide, high), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    inside = sums[: truth.shape[0] - high + 1, : truth.shape[1] - wide + 1]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    window = slice(int(top), int(top) + high), slice(int(left), int(left) + wide)

    drawn = outlined(sample.image, truth, labels, sample.ignore, window, _ENLARGED)
    return cv2.imencode(".jpg", drawn[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes()


def _cost(
    card: ModelCard, curves: dict[str, list[dict[str, float]]]
) -> dict[str, tuple[float, str]]:
    """Return what a network costs: size, arithmetic, and what its training took."""
    network = build(card.family, card.heads, card.arguments)
    rows = [row for fold in curves.values() for row in fold]
    memory = [row["memory_mb"] for row in rows if "memory_mb" in row]
    return {
        "parameters": (parameter_count(network) / 1e6, "million"),
        "arithmetic": (flops_per_pixel(network) / 1e3, "GFLOP per megapixel"),
        "training": (sum(row["seconds"] for row in rows) / 60, "minutes"),
        "memory of the training, at most": (max(memory, default=float("nan")), "MB"),
    }

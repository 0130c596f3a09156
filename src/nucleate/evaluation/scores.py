"""Scores of an earlier evaluation, read back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nucleate.datasets.splits import bare_name
from nucleate.errors import InputError
from nucleate.evaluation.score import METRICS, NEED_MPP
from nucleate.files import read_text


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of a written result.

    Attributes:
        metrics: metric -> image -> value; NaN if undefined.
        groups: image -> patient or slide; the image itself if unknown.
        seen: image that the model saw in training -> how, with the evidence.
    """

    metrics: dict[str, dict[str, float]]
    groups: dict[str, str]
    seen: dict[str, str]


def read_scores(folder: Path) -> Scores:
    """Read what `Report.write` wrote, by image name.

    The number of an image's set in a recipe is removed from its name if the name stays unique, so
    that a cross-validation can be compared with an evaluation.

    Args:
        folder: with a metrics.json, or a finished cross-validation, read as out-of-fold result.

    Raises:
        InputError: missing, not a result, or with an image listed twice.
    """
    files = (folder / "metrics.json", folder / "out-of-fold" / "metrics.json")
    path = next((file for file in files if file.is_file()), files[0])
    try:
        content = json.loads(read_text(path))
        rows = content["per_image"]
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
        marked = content.get("seen_in_training", {})  # absent from older results
        seen = {n: str(marked[w]) for n, w in zip(names, whole, strict=True) if w in marked}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError,
            RecursionError) as error:  # fmt: skip
        raise InputError(
            f"{path}: not a result of this version of nucleate ({str(error)[:80]!r}). Evaluate "
            "again."
        ) from error
    if len(groups) < len(rows):
        raise InputError(f"{path}: lists an image twice. Evaluate again.")
    return Scores(metrics, groups, seen)


def _value(row: dict[str, Any], metric: str) -> float | None:
    """Return a metric of an image; metrics that need a resolution may be missing."""
    return row.get(metric) if metric in NEED_MPP else row[metric]

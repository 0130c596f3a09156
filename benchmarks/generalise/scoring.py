"""What a fold is scored by: AJI and its like at a grid of thresholds, false nuclei, G and F.

Maps of an image are computed once and decoded at every setting, so that an idea is judged at its
best common setting (one for all five sets) and at a fixed one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from benchmarks.generalise.areas import KINDS, Area, false_nuclei, paint
from benchmarks.generalise.sets import MPP, SETS

from nucleate.evaluation.metrics.instance import aji_counts, aji_plus_counts, matches, panoptic
from nucleate.evaluation.metrics.matching import Overlap
from nucleate.features import is_ink
from nucleate.geometry.labels import compact
from nucleate.geometry.outlines import rasterise, trace
from nucleate.postprocess import complete_thresholds, watershed
from nucleate.types import Bool, Float64, Int32, Maps, Sample, UInt8

FOREGROUND, MARKER = (0.3, 0.4, 0.5), (0.3, 0.4, 0.5)
GRID = tuple(
    {"foreground": f, "marker": m, "smooth": 1.0, "min_area": 30.0}
    for f, m in itertools.product(FOREGROUND, MARKER)
)
FIXED = {"foreground": 0.4, "marker": 0.4, "smooth": 1.0, "min_area": 30.0}
COUNTS = ("aji_c", "aji_u", "aji_plus_c", "aji_plus_u", "tp", "fp", "fn", "iou_sum", "area_ratio")
DRAWS = 2000
MapsOf = Callable[[UInt8], Maps]
Row = Sequence[float]


@dataclass(frozen=True, slots=True)
class Counts:
    """Summable counts of one image at one setting, and the ratio of median areas."""

    aji_c: float
    aji_u: float
    aji_plus_c: float
    aji_plus_u: float
    tp: float
    fp: float
    fn: float
    iou_sum: float
    area_ratio: float

    def metrics(self) -> dict[str, float]:
        """Return the scores of the image; NaN where one is not defined."""
        tp, fp, fn = int(self.tp), int(self.fp), int(self.fn)
        return {
            "aji": _ratio(self.aji_c, self.aji_u),
            "aji_plus": _ratio(self.aji_plus_c, self.aji_plus_u),
            "pq": panoptic(tp, fp, fn, self.iou_sum)[2],
            "precision": _ratio(tp, tp + fp),
            "recall": _ratio(tp, tp + fn),
            "area_ratio": self.area_ratio,
        }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def table_of(truth: Int32, pred: Int32) -> Overlap:
    """Return the table of `overlap` for labels 1..n without gaps: counted, not sorted.

    Example:
        >>> table_of(np.array([[1, 1, 0]], np.int32), np.array([[0, 1, 1]], np.int32)).shared
        array([1])
    """
    n, m = int(truth.max(initial=0)), int(pred.max(initial=0))
    codes = truth.ravel().astype(np.int64) * (m + 1) + pred.ravel()
    shared = np.bincount(codes, minlength=(n + 1) * (m + 1)).reshape(n + 1, m + 1)
    pairs = np.argwhere(shared[1:, 1:])
    return Overlap(
        truth_areas=shared.sum(1)[1:].astype(np.int64),
        pred_areas=shared.sum(0)[1:].astype(np.int64),
        pairs=pairs.astype(np.int64),
        shared=shared[1:, 1:][pairs[:, 0], pairs[:, 1]].astype(np.int64),
    )


def count(truth: Int32, pred: Int32, ignore: Bool | None) -> Counts:
    """Score one image; pixels of `ignore` are background in both.

    Example:
        >>> one = np.array([[1, 1, 0, 2]], np.int32)
        >>> count(one, one, None).metrics()["aji"]
        1.0
    """
    if ignore is not None:
        truth, pred = np.where(ignore, 0, truth), np.where(ignore, 0, pred)
    truth, pred = compact(truth.astype(np.int32))[0], compact(pred.astype(np.int32))[0]
    table = table_of(truth, pred)
    tp, fp, fn, iou_sum = matches(table, 0.5)
    found, true = (_median(areas) for areas in (table.pred_areas, table.truth_areas))
    plus = aji_plus_counts(table)
    ratio = round(_ratio(found, true), 4)
    return Counts(*aji_counts(table), *plus, tp, fp, fn, round(iou_sum, 4), ratio)


def _median(areas: Any) -> float:
    return float(np.median(areas)) if len(areas) else float("nan")


def judge_set(
    samples: list[Sample],
    areas: dict[str, list[Area]],
    maps_of: MapsOf,
    grid: Sequence[dict[str, float]] = GRID,
) -> dict[str, Any]:
    """Score the images of a set at every setting of a grid.

    Args:
        samples: at 0.25 um/px, with labels.
        areas: image -> its areas without nuclei.
        maps_of: image -> maps of its size.
        grid: complete thresholds of the watershed.

    Returns:
        `images`: per image its name, group and per setting the values of `COUNTS`; `false`: per
        setting the false nuclei of each of `KINDS`.
    """  # fmt: skip
    images, false = [], np.zeros((len(grid), len(KINDS)), int)
    for sample in samples:
        if sample.labels is None:
            raise ValueError(f"{sample.name} has no labels")
        maps, mask = maps_of(sample.image), _mask(sample, areas.get(sample.name, []))
        rows = []
        for number, thresholds in enumerate(grid):
            labels = nuclei_of(sample.image, maps, thresholds)
            counts = count(sample.labels, labels, sample.ignore)
            rows.append([_plain(getattr(counts, name)) for name in COUNTS])
            if mask is not None:
                false[number] += false_nuclei(labels, mask)
        images.append({"name": sample.name, "group": sample.group, "rows": rows})
    return {"images": images, "false": false.tolist()}


def judge_slides(
    crops: list[tuple[UInt8, UInt8]], maps_of: MapsOf, grid: Sequence[dict[str, float]] = GRID
) -> list[list[int]]:
    """Return per setting the false nuclei of each of `KINDS` in the areas of slides."""
    false = np.zeros((len(grid), len(KINDS)), int)
    for image, mask in crops:
        maps = maps_of(image)
        for number, thresholds in enumerate(grid):
            labels = nuclei_of(image, maps, thresholds)
            false[number] += false_nuclei(labels, mask)
    return [[int(n) for n in row] for row in false]


def nuclei_of(image: UInt8, maps: Maps, thresholds: dict[str, float]) -> Int32:
    """Return the nuclei that `nucleate` finds in an image, from its maps: labels 1..n.

    Thresholds that are not stated have the decoder's defaults, as in results from before they were
    introduced. Maps may be coarser than the image: areas are stated in its pixels all the same.
    """
    complete = settle(thresholds)
    coarser = image.shape[0] / maps["foreground"].shape[0]
    labels = watershed(maps, {**complete, "min_area": complete["min_area"] / coarser**2})
    if labels.shape != image.shape[:2]:
        coords_xy, offsets, _ = trace(labels)
        labels, _ = rasterise(coords_xy * np.float32(coarser), offsets, image.shape[:2])
        labels = compact(labels)[0]
    ink = is_ink(labels, image, complete["ink"])
    return compact(np.where(np.append(False, ink)[labels], 0, labels).astype(np.int32))[0]


def _mask(sample: Sample, areas: list[Area]) -> UInt8 | None:
    if not areas:
        return None
    return paint(areas, sample.image.shape[:2], areas[0].mpp / MPP)


def _plain(value: float) -> float | None:
    number = float(value)
    return None if np.isnan(number) else int(number) if number.is_integer() else number


def settle(thresholds: dict[str, float]) -> dict[str, float]:
    """Return complete thresholds of the watershed."""
    return complete_thresholds("watershed", thresholds)


def per_image(fold: dict[str, Any], setting: int, metric: str) -> Float64:
    """Return a metric of every image of a fold at a setting, NaN where it is not defined."""
    rows = [[float("nan") if v is None else v for v in i["rows"][setting]] for i in fold["images"]]
    return np.array([Counts(*row).metrics()[metric] for row in rows])


def of_set(folds: list[dict[str, Any]], setting: int, metric: str = "aji") -> float:
    """Return the mean over images of a set, averaged over the seeds of its folds."""
    return float(np.mean([np.nanmean(per_image(fold, setting, metric)) for fold in folds]))


def drawn(folds: list[dict[str, Any]], setting: int, metric: str, seed: int) -> Float64:
    """Return means of a metric of a set over bootstrap samples of its patients."""
    values = np.mean([per_image(fold, setting, metric) for fold in folds], axis=0)
    groups = [image["group"] for image in folds[0]["images"]]
    known = ~np.isnan(values)
    names = {g: i for i, g in enumerate(dict.fromkeys(np.array(groups)[known].tolist()))}
    index = np.array([names[g] for g in np.array(groups)[known].tolist()])
    sums, sizes = np.bincount(index, values[known]), np.bincount(index)
    picks = np.random.default_rng(seed).integers(0, len(sums), (DRAWS, len(sums)))
    return np.asarray(sums[picks].sum(1) / sizes[picks].sum(1))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an idea reached at one setting.

    Attributes:
        setting: position in the grid.
        g: mean over the sets of the mean AJI over images.
        g_low: lower end of its 95 % bootstrap interval over patients.
        g_high: upper end.
        f: false nuclei per mm² of areas without nuclei, pooled.
        f_tissue: the same without ink and glass, most of which is in a few images.
        f_by_kind: the same by kind.
        sets: set -> metric -> value, low and high.
    """

    setting: int
    g: float
    g_low: float
    g_high: float
    f: float
    f_tissue: float
    f_by_kind: dict[str, float]
    sets: dict[str, dict[str, tuple[float, float, float]]]


def best_setting(folds: dict[str, list[dict[str, Any]]], settings: int) -> int:
    """Return the position of the setting of highest G: one setting for all sets."""
    means = [
        np.mean([of_set(fold, number) for fold in folds.values()]) for number in range(settings)
    ]
    return int(np.argmax(means))


def standing(
    folds: dict[str, list[dict[str, Any]]], areas: list[Area]
) -> tuple[dict[str, float], Verdict, Verdict]:
    """Return the best common setting of an idea, its verdict there, and at the fixed setting."""
    grid = next(iter(folds.values()))[0]["grid"]
    best = best_setting(folds, len(grid))
    at_best, fixed = (verdict(folds, areas, number) for number in (best, grid.index(FIXED)))
    return grid[best], at_best, fixed


def verdict(folds: dict[str, list[dict[str, Any]]], areas: list[Area], setting: int) -> Verdict:
    """Return G, F and the table of the sets at a setting.

    Args:
        folds: set -> results of its folds, one per seed; sets that have not run are absent.
        areas: the list, for its sizes.
        setting: position in the grid.
    """
    metrics = ("aji", "aji_plus", "pq", "precision", "recall", "area_ratio")
    sets: dict[str, dict[str, tuple[float, float, float]]] = {}
    draws = []
    for number, (name, found) in enumerate(folds.items()):
        sets[name] = {}
        for metric in metrics:
            sample = drawn(found, setting, metric, number)
            low, high = np.percentile(sample, [2.5, 97.5])
            sets[name][metric] = (of_set(found, setting, metric), float(low), float(high))
            if metric == "aji":
                draws.append(sample)
    low, high = np.percentile(np.mean(draws, axis=0), [2.5, 97.5])
    false, mm2 = pooled_false(folds, areas, setting)
    tissue = np.array([kind not in ("ink", "glass") for kind in KINDS])
    f, f_tissue = _ratio(false.sum(), mm2.sum()), _ratio(false[tissue].sum(), mm2[tissue].sum())
    by_kind = {k: float(n / a) for k, n, a in zip(KINDS, false, mm2, strict=True) if a}
    g = float(np.mean([values["aji"][0] for values in sets.values()]))
    return Verdict(setting, g, float(low), float(high), float(f), float(f_tissue), by_kind, sets)


def pooled_false(
    folds: dict[str, list[dict[str, Any]]], areas: list[Area], setting: int
) -> tuple[Float64, Float64]:
    """Return false nuclei and square millimetres of each kind, summed over folds and seeds."""
    false, mm2 = np.zeros(len(KINDS)), np.zeros(len(KINDS))
    size = {name: _sizes(areas, name) for name in (*SETS, "slides")}
    for name, found in folds.items():
        for fold in found:
            false += np.array(fold["false"][setting])
            mm2 += size[name]
            if fold.get("slides"):
                false += np.array(fold["slides"][setting])
                mm2 += size["slides"]
    return false, mm2


def _sizes(areas: list[Area], name: str) -> Float64:
    sizes = np.zeros(len(KINDS))
    for area in areas:
        if area.set == name:
            sizes[KINDS.index(area.kind)] += area.mm2
    return sizes

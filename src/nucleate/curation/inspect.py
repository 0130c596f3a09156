"""Statistics of a data set: sizes, colours, nuclei, classes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nucleate.curation.check import Checker
from nucleate.curation.image_facts import describe_sample, thumbnail
from nucleate.datasets.base import DatasetCard, Entry
from nucleate.datasets.splits import Split, bare_name
from nucleate.stain.tissue import tissue_mask

METRICS = {  # per image: name -> unit
    "red": "grey levels", "green": "grey levels", "blue": "grey levels",
    "haematoxylin": "optical density", "eosin": "optical density", "tissue": "share",
    "focus": "variance", "clipped": "share", "nuclei": "count", "nuclei_per_mm2": "per mm²",
    "foreground": "share", "area_median_um2": "µm²", "eccentricity_median": "0 to 1",
    "touching": "share",
}  # fmt: skip
_OUTLYING = 3.5  # robust z-score, recommended by Iglewicz and Hoaglin
_LEAST_SHARE = 0.02  # smaller differences between shares are never outliers
_BINS = 60


@dataclass(slots=True)
class Inspection:
    """Results of an inspection, for the page and the JSON file.

    Attributes:
        images: number of images read.
        nuclei: number of labels in all of them.
        rows: facts and `METRICS` of each image.
        sizes: "width × height" -> images.
        conflicts: the problems of `data check`, and sentences about inconsistent sizes,
            resolutions and annotations.
        unread: number of unreadable images; `conflicts` states why.
        organs: organ -> mean of each metric, and the number of images.
        classes: class -> nuclei.
        histograms: organ -> red, green, blue -> counts of the 256 levels on tissue.
        distributions: `area_um2`, `eccentricity` -> bin edges and counts over all nuclei.
        outliers: image, metric, value, robust z-score.
        bias: test of each metric between organs, centres, and parts of the split.
        thumbs: image -> JPEG with outlines; not in the JSON file.
    """

    images: int = 0
    nuclei: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)
    unread: int = 0
    organs: dict[str, dict[str, Any]] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    histograms: dict[str, list[list[int]]] = field(default_factory=dict)
    distributions: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    outliers: list[dict[str, Any]] = field(default_factory=list)
    bias: list[dict[str, Any]] = field(default_factory=list)
    thumbs: dict[str, bytes] = field(default_factory=dict)


def inspect_entries(
    entries: list[Entry],
    card: DatasetCard,
    split: Split | None = None,
    tell: Callable[[int, int], None] = lambda *_: None,
) -> Inspection:
    """Measure every image of a data set.

    Areas and densities are omitted for images without a resolution.

    Args:
        entries: entries of the data set.
        card: published facts about it.
        split: split whose parts are compared.
        tell: progress callback (images done, images in total).

    Raises:
        InputError: no image can be read; this is the error of the first.
    """
    found, checker = Inspection(), Checker(entries, card)
    part_of = _parts(split)
    areas: list[NDArray[Any]] = []
    eccentricities: list[NDArray[Any]] = []
    histograms: dict[str, NDArray[Any]] = defaultdict(lambda: np.zeros((3, 256), np.int64))
    classes: Counter[str] = Counter()
    for done, entry in enumerate(entries):
        sample = checker.read(entry)
        if sample is None:
            found.unread += 1
            continue
        row, nuclei = describe_sample(sample)
        row["part"] = part_of.get(entry.name)
        row["doubts"] = checker.report.rows[-1]["doubts"]
        found.rows.append(row)
        if nuclei is not None:
            areas.append(nuclei["area_um2"] if sample.mpp else np.zeros(0))
            eccentricities.append(nuclei["eccentricity"])
        if sample.classes is not None:
            row["classes"] = dict(Counter(sample.class_names[c] for c in sample.classes.tolist()))
            classes.update(row["classes"])
        pixels = sample.image[::2, ::2].reshape(-1, 3)
        pixels = pixels[tissue_mask(pixels)]
        for channel in range(3):
            histograms[sample.organ or "all"][channel] += np.bincount(
                pixels[:, channel], minlength=256
            )
        found.thumbs[sample.name] = thumbnail(sample)
        tell(done + 1, len(entries))
    problems = checker.finish().problems
    found.images = len(found.rows)
    found.nuclei = sum(row["nuclei"] or 0 for row in found.rows)
    sizes = Counter(f"{row['width']} × {row['height']}" for row in found.rows)
    found.sizes = dict(sizes.most_common())
    found.conflicts = problems + _conflicts(found, card)
    found.classes = dict(classes.most_common())
    found.histograms = {organ: counts.tolist() for organ, counts in sorted(histograms.items())}
    found.distributions = {
        "area_um2": _distribution(areas, 99.5),
        "eccentricity": _distribution(eccentricities, 100),
    }
    found.organs = _by(found.rows, "organ")
    found.outliers = outliers(found.rows)
    found.bias = bias(found.rows)
    return found


def outliers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the images with a metric far from the median of all images.

    References:
        Iglewicz and Hoaglin 1993, How to Detect and Handle Outliers: |0.6745 (x - median) / MAD|
        above 3.5.

    Example:
        >>> rows = [{"name": str(i), "red": 100.0 + i % 3} for i in range(9)]
        >>> [o["name"] for o in outliers([*rows, {"name": "x", "red": 250.0}])]
        ['x']
    """
    found: list[dict[str, Any]] = []
    for metric in METRICS:
        values = np.array([_number(row.get(metric)) for row in rows])
        known = np.isfinite(values)
        if known.sum() < 5:
            continue
        middle = np.median(values[known])
        spread = np.median(np.abs(values[known] - middle))
        if spread <= 0:
            continue
        z = 0.6745 * (values - middle) / spread
        far = np.abs(values - middle) > (_LEAST_SHARE if METRICS[metric] == "share" else 0)
        found += [
            {
                "name": rows[i]["name"],
                "metric": metric,
                "value": float(values[i]),
                "z": float(z[i]),
            }
            for i in np.flatnonzero(known & far & (np.abs(z) > _OUTLYING))
        ]
    return sorted(found, key=lambda o: -abs(o["z"]))


def bias(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Test each metric for differences between organs, centres and parts of the split.

    Kruskal-Wallis tests with the effect size epsilon² (0 none, 1 complete), p-values corrected by
    Holm over all tests of one grouping. Groups of one image are omitted. The balance of nucleus
    classes is compared by Cramér's V alone: nuclei of one image are not independent, so a
    chi-squared test would call any difference significant.

    References:
        Kruskal and Wallis 1952, doi:10.1080/01621459.1952.10483441; Holm 1979, Scandinavian
        Journal of Statistics 6:65-70; Tomczak and Tomczak 2014, Trends in Sport Sciences 1(21)
        (epsilon²).
    """
    found: list[dict[str, Any]] = []
    for grouping in ("organ", "centre", "part"):
        tests = []
        for metric in METRICS:
            test = _kruskal(rows, grouping, metric)
            if test is not None:
                tests.append({"grouping": grouping, "metric": metric, **test})
        order = sorted(range(len(tests)), key=lambda i: tests[i]["p"])
        worst = 0.0
        for rank, i in enumerate(order):
            worst = max(worst, min(1.0, tests[i]["p"] * (len(tests) - rank)))
            tests[i]["p_holm"] = worst
        found += tests
        balance = _class_balance(rows, grouping)
        if balance is not None:
            found.append(balance)
    return found


def _parts(split: Split | None) -> dict[str, str]:
    """Map image names, with and without the number of the set, to their part."""
    found: dict[str, str] = {}
    for part, names in (split.parts if split else {}).items():
        for name in names:
            found[name] = found[bare_name(name)] = part
    return found


def _conflicts(found: Inspection, card: DatasetCard) -> list[str]:
    said = []
    if len(found.sizes) > 1:
        said.append(f"images of {len(found.sizes)} sizes: {_some(found.sizes)}")
    mpps = Counter(str(row["mpp"]) for row in found.rows)
    if len(mpps) > 1:
        said.append(f"resolutions differ: {_some(mpps)}")
    if "None" in mpps:
        said.append(f"{mpps['None']} images state no resolution: their areas are omitted")
    contested = sum(row.get("contested_px", 0) for row in found.rows)
    hidden = sum(row.get("hidden", 0) for row in found.rows)
    if contested:
        said.append(
            f"{contested} pixels belong to more than one annotation ({card.overlaps}); "
            f"{hidden} annotations have no pixels left"
        )
    empty = [row["name"] for row in found.rows if row["nuclei"] == 0]
    if empty:
        said.append(f"{len(empty)} images have no nuclei: {', '.join(empty[:5])}")
    return said


def _some(counts: dict[str, int]) -> str:
    return ", ".join(f"{key} ({n})" for key, n in list(counts.items())[:6])


def _by(rows: list[dict[str, Any]], key: str) -> dict[str, dict[str, Any]]:
    """Return the mean of each metric per value of a key."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row[key] or "not stated"].append(row)
    return {
        name: {"images": len(members)}
        | {metric: _mean(row[metric] for row in members) for metric in METRICS}
        for name, members in sorted(groups.items())
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _distribution(parts: list[NDArray[Any]], percent: float) -> dict[str, list[float]]:
    """Return the histogram of all values; values above a percentile are in the last bin."""
    values = np.concatenate(parts) if parts else np.zeros(0)
    if not len(values):
        return {"edges": [], "counts": []}
    top = max(float(np.percentile(values, percent)), 1e-6)
    counts, edges = np.histogram(np.minimum(values, top), bins=_BINS, range=(0, top))
    return {"edges": edges.round(4).tolist(), "counts": counts.tolist()}


def _kruskal(rows: list[dict[str, Any]], grouping: str, metric: str) -> dict[str, Any] | None:
    """Test a metric between groups of at least two images; return None if impossible."""
    from scipy import stats

    groups: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row.get(grouping) is not None and row.get(metric) is not None:
            groups[row[grouping]].append(float(row[metric]))
    groups = {name: values for name, values in groups.items() if len(values) >= 2}
    everything = [value for values in groups.values() for value in values]
    if len(groups) < 2 or len(set(everything)) < 2:
        return None
    statistic, p = stats.kruskal(*groups.values())
    n = len(everything)
    return {
        "groups": len(groups),
        "images": n,
        "h": float(statistic),
        "p": float(p),
        "epsilon2": float(np.clip(statistic / (n - 1), 0, 1)),
        "medians": {name: float(np.median(values)) for name, values in sorted(groups.items())},
    }


def _class_balance(rows: list[dict[str, Any]], grouping: str) -> dict[str, Any] | None:
    """Return Cramér's V of groups and nucleus classes; None without two of both."""
    from scipy.stats import contingency

    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row.get(grouping) is not None and row.get("classes"):
            counts[row[grouping]].update(row["classes"])
    names = sorted({name for counter in counts.values() for name in counter})
    if len(counts) < 2 or len(names) < 2:
        return None
    table = np.array([[counter[name] for name in names] for counter in counts.values()])
    return {
        "grouping": grouping, "metric": "classes", "groups": len(counts),
        "cramers_v": float(contingency.association(table, method="cramer")),
        "shares": {
            group: {n: counter[n] / counter.total() for n in names}
            for group, counter in sorted(counts.items())
        },
    }  # fmt: skip


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)

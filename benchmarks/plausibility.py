"""How often the tests of plausibility warn where they should, and where they should not.

    python benchmarks/plausibility.py --data DATA          writes docs/results/plausibility.json
    python benchmarks/plausibility.py --data DATA --fit    calibrates first: calibration.json
    python benchmarks/plausibility.py --data DATA --only suggestions    of --suggest-mpp

Annotated images at their resolution, at half and at twice of it; each also with red and blue
exchanged, and blurred by 1.5 um. `--fit` leaves each data set out in turn as well: what the result
calls `held_out`. No official test image is used.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from timing import cpu_name

from nucleate.datasets.loading import list_entries
from nucleate.environment import git_commit
from nucleate.inference.backends import Model
from nucleate.inference.loading import load_model
from nucleate.inference.pipeline import EngineOptions
from nucleate.inference.segment import find_nuclei
from nucleate.inference.suggest_mpp import suggest_mpp
from nucleate.quality import calibration, colours, plausibility, scale
from nucleate.quality.calibration import quadratic
from nucleate.quality.plausibility import KINDS, doubts_about_sample
from nucleate.quality.scale import scale_facts
from nucleate.readers.array import ArraySource
from nucleate.types import Instances

OUT = Path(__file__).parents[1] / "docs" / "results" / "plausibility.json"
SETS = {
    "monuseg": ("MoNuSeg/MoNuSeg 2018 Training Data.zip", "monuseg", {}),
    "extra7": ("MoNuSeg/extra7.zip", "monuseg", {}),
    "cryonuseg": ("CryoNuSeg", "cryonuseg", {}),
    "tnbc": ("TNBC", "folder", {"mpp": 0.25}),
    "consep": ("CoNSeP", "consep", {}),
    "monusac": ("MoNuSAC61", "folder", {"mpp": 0.25, "channels": "bgr"}),
    "dsb2018": ("DSB2018-tissue", "folder", {"mpp_table": "groups.csv"}),
}
AT_20X = ("TCGA-HE-7128", "TCGA-HE-7129", "TCGA-HE-7130")  # always among the suggested
FIELD_UM = 128.0  # edge of what a scale is calibrated on
OCTAVES = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
RIDGE, SHARE = 30.0, 0.985  # of images at their resolution that must not warn


def images(data: Path) -> Iterator[tuple[str, str, np.ndarray, np.ndarray, float]]:
    """Yield data set, name, image, labels and true mpp."""
    for title, (path, reader, options) in SETS.items():
        for entry in list_entries(reader, data / path, options):
            sample = entry.read()
            yield title, entry.name, sample.image, sample.labels, sample.mpp or 0.25


def found_in(image: np.ndarray, model: Model, mpp: float) -> Any:
    """Return what the model finds in an image that is said to have this mpp."""
    return find_nuclei(ArraySource(np.ascontiguousarray(image)), model, mpp, EngineOptions())


def centre(image: np.ndarray, edge: int) -> np.ndarray:
    """Return the middle of an image."""
    y, x = (max(0, (size - edge) // 2) for size in image.shape[:2])
    return np.ascontiguousarray(image[y : y + edge, x : x + edge])


def collect(data: Path, model: Model) -> dict[str, list]:
    """Return facts of scales and of colours: (data set, octaves or exchanged, facts)."""
    scales, swaps = [], []
    for title, _, image, _, mpp in images(data):
        part = centre(image, round(FIELD_UM / mpp))
        for octave in OCTAVES:
            tile = centre(image, round(FIELD_UM / 2 / mpp)) if octave > 1.5 else part
            nuclei = found_in(tile, model, mpp * 2**octave).nuclei
            mm2 = tile.shape[0] * tile.shape[1] * (mpp * 2**octave) ** 2 / 1e6
            scales.append((title, octave, scale_facts(nuclei, mm2)))
        for exchanged, tile in enumerate((part, part[..., ::-1].copy())):
            inside = found_in(tile, model, mpp).nuclei.to_labels() > 0
            swaps.append((title, exchanged, colours.exchange_facts([tile], [inside], mpp)))
    return {"scales": scales, "swaps": swaps}


def known(rows: list) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return data set, target and facts of the rows that have facts."""
    rows = [row for row in rows if row[2] is not None]
    sets = np.array(["monuseg" if row[0] == "extra7" else row[0] for row in rows])
    return sets, np.array([float(row[1]) for row in rows]), np.array([row[2] for row in rows])


def evenly(sets: np.ndarray) -> np.ndarray:
    """Return weights by which a data set counts by the root of its size."""
    sizes = Counter(sets.tolist())
    return np.array([sizes[name] ** -0.5 for name in sets])


def fit_scale(octaves: np.ndarray, facts: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """Return the coefficients of a ridge regression of octaves on the terms of `quadratic`."""
    mean, sd = facts.mean(axis=0), facts.std(axis=0)
    terms = np.array([quadratic(z) for z in np.clip((facts - mean) / sd, -4, 4)])
    size = np.maximum(terms.std(axis=0), 1e-9)
    size[0] = 1.0
    weights = weights * np.exp(-(octaves**2) / 2)  # the nearer to the truth, the more it counts
    scaled, weights = terms / size, weights / weights.mean()
    penalty = RIDGE * np.diag([0.0] + [1.0] * (terms.shape[1] - 1))
    left = scaled.T @ (scaled * weights[:, None]) + penalty
    solved = np.linalg.solve(left, scaled.T @ (weights * octaves)) / size
    return {"scale_mean": mean, "scale_sd": sd, "scale_weights": solved}


def fit_exchange(exchanged: np.ndarray, facts: np.ndarray) -> np.ndarray:
    """Return the coefficients of a logistic regression, the constant first."""
    from sklearn.linear_model import LogisticRegression

    sd = facts.std(axis=0)
    model = LogisticRegression(max_iter=5000).fit(facts / sd, exchanged)
    return np.concatenate([model.intercept_, model.coef_[0] / sd])


def octaves_of(fit: dict[str, Any], facts: np.ndarray) -> np.ndarray:
    """Return what a fit makes of facts."""
    z = np.clip((facts - fit["scale_mean"]) / fit["scale_sd"], -4, 4)
    return np.array([quadratic(row) for row in z]) @ fit["scale_weights"]


def fit(rows: dict[str, list]) -> dict[str, Any]:
    """Write calibration.json, and return how well it does on data sets held out."""
    sets, octaves, facts = known(rows["scales"])
    kept = fit_scale(octaves, facts, evenly(sets))
    off = np.abs(octaves_of(kept, facts))
    kept["scale_least"] = float(np.quantile(off[octaves == 0], SHARE))
    held: dict[str, Any] = {}
    warned = np.zeros(len(sets), bool)
    for name in sorted(set(sets)):
        others = sets != name
        apart = fit_scale(octaves[others], facts[others], evenly(sets[others]))
        right = others & (octaves == 0)
        least = np.quantile(np.abs(octaves_of(apart, facts[right])), SHARE)
        warned[~others] = np.abs(octaves_of(apart, facts[~others])) >= least
    for octave in (-1.0, 0.0, 1.0):
        share = float(warned[octaves == octave].mean())
        held[f"warns at {2**octave:g} times the mpp"] = round(share, 3)
    sets, exchanged, facts = known(rows["swaps"])
    kept["exchange_weights"] = fit_exchange(exchanged, facts)
    logits = kept["exchange_weights"][0] + facts @ kept["exchange_weights"][1:]
    right = logits[exchanged == 0]
    kept["exchange_least"] = float(max(0.0, right.max()) + 0.05)
    warned = np.zeros(len(sets), bool)
    for name in sorted(set(sets)):
        others = sets != name
        weights = fit_exchange(exchanged[others], facts[others])
        out = weights[0] + facts @ weights[1:]
        least = max(0.0, out[others & (exchanged == 0)].max()) + 0.05
        warned[~others] = out[~others] >= least
    for value, title in enumerate(("right", "exchanged")):
        share = float(warned[exchanged == value].mean())
        held[f"calls {title} colours exchanged"] = round(share, 3)
    plain = {name: np.round(value, 6).tolist() for name, value in kept.items()}
    path = Path(calibration.__file__).with_name("calibration.json")
    path.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    return held


def suggested(data: Path, model: Model, sample: int) -> dict[str, Any]:
    """Return which mpp is suggested of some images, and how often that is within 25 %."""
    kept = list(images(data))
    chosen = set(np.random.default_rng(0).permutation(len(kept))[:sample].tolist())
    chosen |= {i for i, row in enumerate(kept) if any(name in row[1] for name in AT_20X)}
    each: list[dict[str, Any]] = []
    for i in sorted(chosen):
        title, name, image, _, mpp = kept[i]
        found = suggest_mpp(ArraySource(image), model)
        best = found.found[0][0] if found.found else None
        each.append({"set": title, "name": name, "mpp": mpp, "suggested": best,
                     "estimate": found.estimate})  # fmt: skip
        print(i, each[-1], flush=True)
    near = {
        key: float(
            np.mean([r[key] is not None and 0.75 <= r[key] / r["mpp"] <= 1.25 for r in each])
        )
        for key in ("suggested", "estimate")
    }
    return {
        "images": len(each),
        "within_25_percent": round(near["suggested"], 3),
        "estimate_within_25_percent": round(near["estimate"], 3),
        "each": each,
    }


def measure(data: Path, model: Model, every: int) -> dict[str, Any]:
    """Return how often each kind of warning is given, data set by data set."""
    warned: dict[str, dict[str, Counter]] = defaultdict(lambda: defaultdict(Counter))
    counts: Counter = Counter()
    named: dict[str, list[str]] = defaultdict(list)
    annotated: dict[str, Counter] = defaultdict(Counter)  # by labels, as in data check
    kept = list(images(data))
    for i, (title, name, image, labels, mpp) in enumerate(kept):
        if i % every == 0:
            counts[title] += 1
            blurred = cv2.GaussianBlur(image, (0, 0), 1.5 / mpp)
            cases = {
                "as it is": (image, mpp), "half the mpp": (image, mpp / 2),
                "twice the mpp": (image, mpp * 2), "exchanged": (image[..., ::-1], mpp),
                "blurred by 1.5 um": (blurred, mpp),
            }  # fmt: skip
            for case, (pixels, stated) in cases.items():
                kinds = {d.kind for d in found_in(pixels, model, stated).doubts}
                warned[case][title].update(kinds)
                warned[case][title]["any"] += bool(kinds)
                if case == "as it is":
                    named[title] += [f"{name}: {kind}" for kind in sorted(kinds)]
        annotated["images"][title] += 1
        for case, pixels in (("as it is", image), ("exchanged", image[..., ::-1])):
            about = doubts_about_sample(np.ascontiguousarray(pixels), labels, mpp)
            annotated[case].update(f"{title}: {doubt.kind}" for doubt in about)
        print(i, title, name, flush=True)
    total = counts.total()
    shares = {
        case: {
            kind: round(sum(row[kind] for row in rows.values()) / total, 3)
            for kind in (*KINDS, "any")
        }
        for case, rows in warned.items()
    }
    return {
        "images": dict(counts),
        "warned": shares,
        "warned_by_set": {
            case: {title: dict(row) for title, row in rows.items()} for case, rows in warned.items()
        },
        "warned_as_they_are": named,
        "data_check": {case: dict(counter) for case, counter in annotated.items()},
        "cost": cost(kept[0][2], model, kept[0][4]),
    }


def cost(image: np.ndarray, model: Model, mpp: float) -> dict[str, float]:
    """Return the seconds that segmenting takes, and those of the tests in it."""
    from nucleate.inference.segment import doubts_about
    from nucleate.readers.reader import Reader

    found = found_in(image, model, mpp)
    nuclei: Instances = found.nuclei
    reader = Reader(ArraySource(image), mpp)
    took: dict[str, list[float]] = {"segment": [], "tests": []}
    for _ in range(5):
        for name, work in (
            ("segment", lambda: found_in(image, model, mpp)),
            ("tests", lambda: doubts_about(reader, nuclei, None)),
        ):
            started = time.perf_counter()
            work()
            took[name].append(time.perf_counter() - started)
    return {name: round(min(seconds), 4) for name, seconds in took.items()}


def main() -> None:
    """Calibrate if asked to, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--every", type=int, default=1, help="measure every k-th image")
    parser.add_argument("--sample", type=int, default=60, help="images for --suggest-mpp")
    parser.add_argument("--only", choices=("warnings", "suggestions"))
    given = parser.parse_args()
    model = load_model("mtl-small", device="cpu", threads=1)
    before = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else {}
    held = before.get("held_out", {})
    if given.fit:
        held = fit(collect(given.data, model))
        fresh = calibration._read()
        for module in (calibration, colours, plausibility, scale):  # each has taken the old one
            module.CALIBRATION = fresh
    printed = {
        "machine": cpu_name(), "commit": git_commit(), "model": "mtl-small",
        "command": "python benchmarks/plausibility.py --data DATA "
        f"--every {given.every} --sample {given.sample}",
        "held_out": held,
    }  # fmt: skip
    if given.only != "suggestions":
        printed |= measure(given.data, model, given.every)
    if given.only != "warnings":
        printed["suggest_mpp"] = suggested(given.data, model, given.sample)
    printed = before | printed
    OUT.write_text(json.dumps(printed, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

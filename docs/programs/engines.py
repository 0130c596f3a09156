"""One model through every engine and precision, and at 20x: docs/results/engines.json.

python docs/programs/engines.py MODEL DATA ROOT

DATA names a reader and ROOT its folder or file, as of `nucleate evaluate`. All are scored on the
same images; f32 on OpenVINO with one thread is what the others are held against. Uses of official
test images are logged, one row for the whole comparison.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nucleate import load_model
from nucleate.datasets.loading import list_entries
from nucleate.datasets.test_sets import is_official_test
from nucleate.environment import git_commit
from nucleate.evaluation.ledger import log_test_use
from nucleate.evaluation.metrics.instance import matches
from nucleate.evaluation.metrics.matching import overlap
from nucleate.evaluation.report import Report
from nucleate.evaluation.score import ImageScore, score_labels
from nucleate.geometry.outlines import paint
from nucleate.inference.backends import Model
from nucleate.inference.engine import predict_maps
from nucleate.inference.pipeline import EngineOptions
from nucleate.inference.segment import find_nuclei
from nucleate.models.card import INT8, ONNX, find_model, weights_digest
from nucleate.readers.array import ArraySource
from nucleate.types import Int32, Maps, Sample, UInt8

RESULTS = Path(__file__).parents[1] / "results"
OUT = RESULTS / "engines.json"
BASE = "OpenVINO f32, 1 thread"


class OnnxRuntime:
    """The model's ONNX file on ONNX Runtime."""

    about = "ONNX Runtime on CPU"

    def __init__(self, path: Path) -> None:
        import onnxruntime

        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self._names = [out.name for out in self._session.get_outputs()]

    def __call__(self, batch: UInt8) -> Maps:
        """Return head -> float32 (B, H, W) for uint8 (B, H, W, 3)."""
        return dict(zip(self._names, self._session.run(None, {"image": batch}), strict=True))


@dataclass(slots=True)
class Tally:
    """What one way of running a model gives.

    Attributes:
        scores: per image.
        apart: per image the largest difference of a map from the base's.
        same: per image the share of the base's nuclei that are there at an IoU above 0.9.
        equal: whether every nucleus is the very same.
    """

    scores: list[ImageScore]
    apart: list[float]
    same: list[float]
    equal: bool = True


def drawn(image: UInt8, model: Model, mpp: float, scale: int, shape: tuple[int, int]) -> Int32:
    """Return the labels of what is found in an image that is `scale` times smaller than shape."""
    nuclei = find_nuclei(ArraySource(image, mpp), model, None, EngineOptions()).nuclei
    larger = replace(nuclei, coords_xy=nuclei.coords_xy * np.float32(scale))
    return paint(larger, shape)


def ways(name: str) -> dict[str, Model]:
    """Return all ways to run a model."""
    folder = find_model(name)
    model = load_model(name, device="cpu", precision="f32", threads=1)
    found = {
        BASE: model,
        "OpenVINO f32, 2 threads": load_model(name, device="cpu", precision="f32", threads=2),
        "ONNX Runtime f32": Model(model.card, OnnxRuntime(folder / ONNX)),
        "PyTorch f32": load_model(name, device="cpu", backend="torch", precision="f32"),
        "OpenVINO bf16": load_model(name, device="cpu", precision="bf16"),
    }
    if INT8 in model.card.files:
        found["OpenVINO int8"] = load_model(name, device="cpu", precision="int8")
    return found


def measure(name: str, samples: list[Sample], tell: Callable[[str], None]) -> dict[str, Tally]:
    """Return way -> what it gives."""
    models = ways(name)
    tallies = {way: Tally([], [], []) for way in [*models, f"{BASE}, again", "at 20x"]}
    for sample in samples:
        shape = sample.labels.shape
        base = drawn(sample.image, models[BASE], sample.mpp, 1, shape)
        maps = predict_maps(ArraySource(sample.image), models[BASE], sample.mpp)
        for way, tally in tallies.items():
            if way == "at 20x":
                size = (shape[1] // 2, shape[0] // 2)
                half = cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA)
                labels = drawn(half, models[BASE], 2 * sample.mpp, 2, shape)
            else:
                model = models[BASE if way.endswith("again") else way]
                labels = drawn(sample.image, model, sample.mpp, 1, shape)
                others = predict_maps(ArraySource(sample.image), model, sample.mpp)
                tally.apart.append(max(float(np.abs(maps[h] - others[h]).max()) for h in maps))
            tally.scores.append(score_labels(sample.labels, labels, sample.ignore, sample.name))
            tally.same.append(matches(overlap(base, labels), 0.9)[0] / max(1, int(base.max())))
            tally.equal &= bool(np.array_equal(base, labels))
        tell(sample.name)
    return tallies


def row(tally: Tally) -> dict[str, Any]:
    """Return what is kept of a tally."""
    means = Report(tally.scores, {}).means()
    return {
        **{metric: means[metric] for metric in ("aji", "pq", "dice")},
        "largest_difference_of_a_map": max(tally.apart, default=None),
        "same_nuclei": float(np.mean(tally.same)),
        "equal": tally.equal,
    }


def page() -> str:
    """Return the section of the results page."""
    lines = ["\n## Engines, precisions and 20x\n"]
    if not OUT.exists():
        return "\n".join([*lines, "not run\n"])
    for facts in json.loads(OUT.read_text(encoding="utf-8")):
        lines += [
            (
                f"`{facts['command']}` (commit {facts['commit']}), {facts['images']} images. Same "
                f"nuclei: share of those of {BASE}, at an IoU above 0.9.\n"
            ),
            f"| {facts['model']} | AJI | PQ | Dice | largest difference of a map | same nuclei |",
            "|---|---|---|---|---|---|",
        ]
        for way, r in facts["ways"].items():
            apart = r["largest_difference_of_a_map"]
            cells = [f"{r[m]['mean']:.4f}" for m in ("aji", "pq", "dice")]
            cells.append("–" if apart is None else f"{apart:.1e}")
            cells.append("all, bit by bit" if r["equal"] else f"{100 * r['same_nuclei']:.2f} %")
            lines.append(f"| {way} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main(name: str, data: str, root: Path) -> None:
    """Measure, and put the result in its place among those of other models."""
    samples = [entry.read() for entry in list_entries(data, root, {})]
    tallies = measure(name, samples, print)
    command = shlex.join(["python", "docs/programs/engines.py", name, data, root.name])
    card = load_model(name, device="cpu").card
    if any(is_official_test(sample.name) for sample in samples):
        report = Report(tallies[BASE].scores, {})
        ledger = RESULTS / "test-uses.csv"
        log_test_use(ledger, card.name, weights_digest(card), report, command)
    facts = {
        "model": card.name, "command": command, "commit": git_commit(),
        "images": len(samples), "ways": {way: row(tally) for way, tally in tallies.items()},
    }  # fmt: skip
    before = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else []
    rest = [other for other in before if other["model"] != card.name]
    OUT.write_text(json.dumps([*rest, facts], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))

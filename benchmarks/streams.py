"""Which way of calling the network is the fastest: tiles, batches, threads, streams.

    python benchmarks/streams.py [MODEL]      writes docs/results/streams.json

Milliseconds per megapixel on all cores; rounds of all settings follow each other, so that a busy
machine is busy for all; the best round counts.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import openvino
from timing import cpu_name

from nucleate.environment import git_commit
from nucleate.models.card import INT8, ONNX, find_model, read_card

OUT = Path(__file__).parents[1] / "docs" / "results" / "streams.json"
TILES, BATCHES, ROUNDS, MEGAPIXELS = (512, 1024, 1536), (1, 4), 3, 12.0


def one_after_the_other(compiled: openvino.CompiledModel) -> Callable[[list[np.ndarray]], None]:
    """Return what runs batches with all threads on each."""

    def run(batches: list[np.ndarray]) -> None:
        for batch in batches:
            compiled(batch)

    return run


def side_by_side(compiled: openvino.CompiledModel) -> Callable[[list[np.ndarray]], None]:
    """Return what runs batches in as many streams as the engine wants."""
    queue = openvino.AsyncInferQueue(compiled)

    def run(batches: list[np.ndarray]) -> None:
        for batch in batches:
            queue.start_async({0: batch})
        queue.wait_all()

    return run


def main(name: str) -> None:
    """Measure and write."""
    folder = find_model(name)
    file = folder / (INT8 if INT8 in read_card(folder).files else ONNX)
    core = openvino.Core()
    network = core.read_model(file)
    ways = {}
    for title, hint, way in (
        ("one call at a time, all threads", "LATENCY", one_after_the_other),
        ("streams side by side", "THROUGHPUT", side_by_side),
    ):
        settings = {
            "PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
        }  # fmt: skip
        ways[title] = way(core.compile_model(network, "CPU", settings))
    rng = np.random.default_rng(0)
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        for (title, way), tile, batch in product(ways.items(), TILES, BATCHES):
            calls = max(2, round(MEGAPIXELS * 2**20 / (tile * tile * batch)))
            batches = [rng.integers(0, 256, (batch, tile, tile, 3), np.uint8)] * calls
            way(batches[:2])
            started = time.perf_counter()
            way(batches)
            took = 1e3 * (time.perf_counter() - started) / (calls * batch * tile * tile / 2**20)
            key = f"{title}, {batch} × {tile}²"
            best[key] = min(best.get(key, took), took)
            print(f"{key:50s} {took:.1f}", flush=True)
    printed = {
        "machine": cpu_name(),
        "command": "python benchmarks/streams.py" + (f" {name}" if name != "mtl-small" else ""),
        "commit": git_commit(), "model": name, "file": file.name, "cores": os.cpu_count(),
        "ms_per_megapixel": {key: round(took, 1) for key, took in best.items()},
    }  # fmt: skip
    OUT.write_text(json.dumps(printed, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "mtl-small")

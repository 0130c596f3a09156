"""How long does it take to read prepared images back, against numpy.load of the same bytes?

python benchmarks/shards.py [-o docs/results/shards-speed.json]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from timing import cpu_name, fastest

from nucleate.datasets.base import Entry
from nucleate.datasets.loading import list_entries
from nucleate.datasets.shards import Scaling, write_shards
from nucleate.types import Sample

IMAGES, EDGE, REPEATS = 32, 512, 5


def plain(folder: Path) -> None:
    """Read every array of every shard with numpy alone."""
    for file in sorted(folder.glob("*.npz")):
        with np.load(file) as shard:
            for key in shard.files:
                shard[key]


def read_all(entries: list[Entry]) -> None:
    """Read every image, one after the other, as training would."""
    for entry in entries:
        entry.read()


def main() -> None:
    """Time both ways for stored bytes and for z-scored floats."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-o", type=Path)
    out = parser.parse_args().o
    rng = np.random.default_rng(0)
    samples = [
        Sample(
            rng.integers(0, 256, (EDGE, EDGE, 3)).astype(np.uint8),
            rng.integers(0, 300, (EDGE, EDGE)).astype(np.int32), f"s{i}", f"s{i}", 0.25,
        )
        for i in range(IMAGES)
    ]  # fmt: skip
    rows = {}
    for name, scaling in (
        ("bytes", Scaling()),
        ("zscore", Scaling("zscore", (0.5, 0.4, 0.6), (0.2, 0.2, 0.1))),
    ):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            write_shards(samples, folder, scaling)
            entries = list_entries("shards", folder, {})
            theirs = fastest(lambda f=folder: plain(f), REPEATS)
            mine = fastest(lambda e=entries: read_all(e), REPEATS)
        row = {"numpy_ms": 1e3 * theirs, "nucleate_ms": 1e3 * mine, "ratio": mine / theirs}
        rows[name] = {key: round(value, 2) for key, value in row.items()}
        print(name, rows[name])
    if out is not None:
        content = {
            "command": "python benchmarks/shards.py",
            "machine": cpu_name(),
            "images": IMAGES,
            "edge": EDGE,
        }
        out.write_text(json.dumps(content | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

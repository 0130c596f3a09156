"""What every peer's script has in common: tiles in, seconds and labels out. Needs numpy only."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

Segment = Callable[[np.ndarray], np.ndarray]


def run(make: Callable[[argparse.Namespace], Segment], share: float = 1.0) -> None:
    """Segment every tile of a folder, `--rounds` times, after one that is not counted.

    A peer that does a `share` of a tile only is said to take as much longer for the whole.

    A tile is a NAME.npy, uint8 (H, W, 3), at 0.25 um per pixel; labels are written as NAME.npy,
    int32 (H, W). Time is that of a call: reading and writing files is not part of it.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("tiles", type=Path)
    parser.add_argument("out", type=Path, help="JSON file")
    parser.add_argument("--labels", type=Path, help="folder for what is found")
    parser.add_argument("--model", type=Path, help="folder of weights")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    segment = make(options)
    tiles = {path.stem: np.load(path) for path in sorted(options.tiles.glob("*.npy"))}
    segment(next(iter(tiles.values())))
    seconds: dict[str, list[float]] = {name: [] for name in tiles}
    for _ in range(options.rounds):
        for name, tile in tiles.items():
            started = time.perf_counter()
            labels = segment(tile)
            seconds[name].append((time.perf_counter() - started) / share)
            if options.labels is not None:
                np.save(options.labels / f"{name}.npy", labels.astype(np.int32))
    options.out.write_text(json.dumps(seconds))

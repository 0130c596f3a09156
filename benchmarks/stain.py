"""How fast are the normalisers? Ratios against torchstain (numpy) on one tile, in one run.

python benchmarks/stain.py [-o docs/results/stain-speed.json]    needs the extra dev
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from timing import cpu_name, fastest
from torchstain.numpy.normalizers import NumpyMacenkoNormalizer, NumpyReinhardNormalizer

from nucleate.readers.images import read_image
from nucleate.stain.normalise import METHODS, fit

EXAMPLE = Path(__file__).parents[1] / "tests" / "data" / "keratin.tif"
SIZE, REPEATS = 1024, 9
PEERS = {"macenko": NumpyMacenkoNormalizer, "reinhard": NumpyReinhardNormalizer}


def main() -> None:
    """Time estimate + change of a tile, the change alone, and the peer's whole."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-o", type=Path)
    out = parser.parse_args().o
    cv2.setNumThreads(1)
    image = cv2.resize(read_image(EXAMPLE)[0], None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    tile = np.ascontiguousarray(image[:SIZE, :SIZE])
    reference = np.ascontiguousarray(image[-SIZE:, -SIZE:])
    rows = {}
    for method in METHODS:
        normaliser = fit({"reference": reference}, method)
        transform = normaliser.adapt(tile)
        transform.apply(tile)  # compiles
        row = {
            "whole_ms": 1e3 * fastest(lambda n=normaliser: n.adapt(tile).apply(tile), REPEATS),
            "apply_ms": 1e3 * fastest(lambda t=transform: t.apply(tile), REPEATS),
        }
        if method in PEERS:
            peer = PEERS[method]()
            peer.fit(reference)
            row["torchstain_ms"] = 1e3 * fastest(lambda p=peer: p.normalize(tile), REPEATS)
            row["times_as_fast"] = row["torchstain_ms"] / row["whole_ms"]
            theirs = peer.normalize(tile)
            theirs = theirs[0] if isinstance(theirs, tuple) else theirs
            mine = fit({"reference": reference}, method, as_published=True).adapt(tile).apply(tile)
            row["mean_difference_levels"] = float(np.abs(mine.astype(int) - theirs).mean())
        rows[method] = {key: round(value, 2) for key, value in row.items()}
        print(method, rows[method])
    content = {
        "command": "python benchmarks/stain.py",
        "tile": list(tile.shape[:2]),
        "machine": cpu_name(),
        "methods": rows,
    }
    if out is not None:
        out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Shards as nucleate prepare writes them, z-scored."""

from __future__ import annotations

import numpy as np

from nucleate.datasets.shards import Scaling, write_shards
from nucleate.types import Sample
from tests.synthetic import tissue


def make(root, size=128):
    """Write the shards; return name -> labels."""
    samples = []
    for i in range(3):
        image, labels = tissue(size, size, 14, 160 + i)
        kinds = (np.arange(labels.max()) % 2).astype(np.int16)
        ignore = np.zeros(labels.shape, np.bool_)
        ignore[:9, :9] = True
        samples.append(
            Sample(
                image, labels, f"s{i}", f"patient{i // 2}", 0.25, kinds, ("a", "b"), ignore, "skin",
                "human", "here",
            )
        )  # fmt: skip
    root.mkdir(exist_ok=True, parents=True)
    write_shards(samples, root, Scaling("zscore", (0.5, 0.4, 0.6), (0.2, 0.2, 0.1)))
    return {sample.name: sample.labels for sample in samples}

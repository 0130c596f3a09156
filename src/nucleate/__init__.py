"""nucleate finds every cell nucleus in H&E-stained tissue.

The public API on one screen; nothing is imported before it is used.

    from nucleate import segment, load_model

    nuclei = segment("tile.png", mpp=0.25)
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from nucleate._version import __version__

# Three of the packages that nucleate uses send usage data to their makers, and write into the home,
# as soon as they are imported: OpenVINO and NNCF through a package that they also do without, and
# ONNX Runtime unless the environment forbids it.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

_HOME = {
    # types
    "Sample": "nucleate.types",
    "Instances": "nucleate.types",
    "Frame": "nucleate.types",
    "ModelCard": "nucleate.cards",
    "NucleateError": "nucleate.errors",
    # use
    "segment": "nucleate.inference.engine",
    "load_model": "nucleate.inference.loading",
    "read_image": "nucleate.readers.images",
    "read_labels": "nucleate.annotations.label_images",
    "open_nuclei": "nucleate.results.parquet",
    "list_entries": "nucleate.datasets.loading",
    # measure
    "score_labels": "nucleate.evaluation.score",
    # learn
    "load_recipe": "nucleate.config",
    "train_recipe": "nucleate.training.trainer",
}

__all__ = ["__version__", *_HOME]

if TYPE_CHECKING:
    from nucleate.annotations.label_images import read_labels
    from nucleate.cards import ModelCard
    from nucleate.config import load_recipe
    from nucleate.datasets.loading import list_entries
    from nucleate.errors import NucleateError
    from nucleate.evaluation.score import score_labels
    from nucleate.inference.engine import segment
    from nucleate.inference.loading import load_model
    from nucleate.readers.images import read_image
    from nucleate.results.parquet import open_nuclei
    from nucleate.training.trainer import train_recipe
    from nucleate.types import Frame, Instances, Sample


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOME:
        raise AttributeError(f"module 'nucleate' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""nucleate segments cell nuclei in H&E-stained tissue.

The public API on one screen; every name is imported on first use.

    import nucleate

    nuclei = nucleate.segment("tile.png", mpp=0.25)
    nuclei.save("tile.geojson")
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from nucleate._version import __version__

# Three dependencies send usage data to their makers, and write into the home directory, as soon as
# they are imported: OpenVINO and NNCF through a package that is optional for them, and ONNX Runtime
# unless this environment variable is set.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

_HOME = {  # public name -> where it is
    # types
    "Sample": "nucleate.types:Sample",
    "Instances": "nucleate.types:Instances",
    "Frame": "nucleate.types:Frame",
    "ModelCard": "nucleate.cards:ModelCard",
    "NucleateError": "nucleate.errors:NucleateError",
    # use
    "segment": "nucleate.inference.segment:segment",
    "segment_files": "nucleate.slides.segment_files:segment_files",
    "load_model": "nucleate.inference.loading:load_model",
    "list_models": "nucleate.models.card:bundled_models",
    "read": "nucleate.results.save:read",
    "read_image": "nucleate.readers.images:read_image",
    "read_labels": "nucleate.annotations.label_images:read_labels",
    "open_nuclei": "nucleate.results.parquet:open_nuclei",
    "list_entries": "nucleate.datasets.loading:list_entries",
    # measure
    "evaluate": "nucleate.evaluation.evaluate:evaluate",
    "score_labels": "nucleate.evaluation.score:score_labels",
    # learn
    "load_recipe": "nucleate.config:load_recipe",
    "train": "nucleate.training.trainer:train_recipe",
}

__all__ = ["__version__", *_HOME]

if TYPE_CHECKING:
    from nucleate.annotations.label_images import read_labels
    from nucleate.cards import ModelCard
    from nucleate.config import load_recipe
    from nucleate.datasets.loading import list_entries
    from nucleate.errors import NucleateError
    from nucleate.evaluation.evaluate import evaluate
    from nucleate.evaluation.score import score_labels
    from nucleate.inference.loading import load_model
    from nucleate.inference.segment import segment
    from nucleate.models.card import bundled_models as list_models
    from nucleate.readers.images import read_image
    from nucleate.results.parquet import open_nuclei
    from nucleate.results.save import read
    from nucleate.slides.segment_files import segment_files
    from nucleate.training.trainer import train_recipe as train
    from nucleate.types import Frame, Instances, Sample


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOME:
        raise AttributeError(f"module 'nucleate' has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)

"""Nuclei as napari layers: labels with every measurement, and outlines as polygons."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nucleate.errors import InputError
from nucleate.geometry.outlines import paint
from nucleate.geometry.palette import OUTLINE_RGB, web_colour
from nucleate.models.card import EXAMPLE
from nucleate.readers.images import read_image
from nucleate.results.parquet import open_nuclei
from nucleate.types import Instances

LayerData = tuple[Any, dict[str, Any], str]  # napari's LayerDataTuple: data, options, layer type
MOST_OUTLINES = 20_000  # napari draws up to this many polygons without a long delay
MOST_PIXELS = 1 << 29  # size limit of a label image in memory: 2 GiB


def label_layer(nuclei: Instances, name: str) -> LayerData:
    """Return the nuclei as a labels layer, in micrometres, with their features.

    Args:
        nuclei: nuclei in pixels of the image.
        name: name of the image.

    Raises:
        InputError: the image is too large for a label image in memory.
    """
    frame = nuclei.frame
    if frame.width * frame.height > MOST_PIXELS:
        raise InputError(
            f"{name}: {frame.width} × {frame.height} pixels are too many for labels in memory. "
            "Open it with nucleate view."
        )
    drawn = paint(nuclei, (frame.height, frame.width))
    return drawn, {"name": f"{name} nuclei", **_common(nuclei)}, "labels"


def outline_layer(nuclei: Instances, name: str) -> LayerData:
    """Return the nuclei as a shapes layer of polygons, in micrometres, with their features.

    Raises:
        InputError: there are more than napari draws without a long delay.
    """
    if len(nuclei) > MOST_OUTLINES:
        raise InputError(
            f"{name}: {len(nuclei)} outlines are too many for napari ({MOST_OUTLINES} at most). "
            "Add the labels only."
        )
    # napari uses (row, column), with the centre of the first pixel at 0
    polygons = [nuclei.outline(row)[:, ::-1] - 0.5 for row in range(len(nuclei))]
    more = {
        "name": f"{name} outlines",
        "shape_type": "polygon",
        "face_color": "transparent",
        "edge_color": web_colour(OUTLINE_RGB),
        "edge_width": 1.0,
    }
    return polygons, {**more, **_common(nuclei)}, "shapes"


def reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """Return the reader function for results, None for other files (npe2 protocol)."""
    paths = [path] if isinstance(path, str) else path
    return read_result if all(each.endswith(".nuclei.parquet") for each in paths) else None


def read_result(path: str | list[str]) -> list[LayerData]:
    """Return a labels layer for each .nuclei.parquet.

    Raises:
        InputError: a file is missing, damaged, or too large.
    """
    layers = []
    for each in [path] if isinstance(path, str) else path:
        name = Path(each).name.removesuffix(".nuclei.parquet")
        layers.append(label_layer(open_nuclei(Path(each)).read(), name))
    return layers


def example() -> list[LayerData]:
    """Return the bundled image as an image layer, in micrometres."""
    image, mpp = read_image(EXAMPLE)
    return [(image, {"name": "CMU-1", "rgb": True, **_scale(mpp)}, "image")]


def _common(nuclei: Instances) -> dict[str, Any]:
    features = {"index": nuclei.ids, "score": nuclei.scores, **nuclei.features}
    if len(nuclei.class_names) > 1:
        features["class"] = np.array(nuclei.class_names)[nuclei.classes]
    return {"features": features, **_scale(nuclei.frame.mpp)}


def _scale(mpp: float | None) -> dict[str, Any]:
    return {} if mpp is None else {"scale": (mpp, mpp), "units": ("um", "um")}

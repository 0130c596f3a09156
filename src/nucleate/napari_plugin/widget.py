"""The widget "Find nuclei": segments an image layer without blocking napari."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from nucleate.errors import InputError, NucleateError, optional
from nucleate.models.card import DEFAULT_MODEL, bundled_models
from nucleate.napari_plugin.layers import LayerData, label_layer, outline_layer
from nucleate.resolution import HIGHEST_MPP, no_mpp, resolve_mpp
from nucleate.types import UInt8

Image = Any  # napari.layers.Image, which has no types
Draw = Literal["labels", "outlines", "both"]


def find_nuclei_widget() -> Any:  # noqa: ANN401
    """Create the widget (called by napari)."""
    magicgui: Any = optional("magicgui", "napari")
    threading: Any = optional("napari.qt.threading", "napari")
    qt: Any = optional("qtpy.QtCore", "napari")
    layers: Any = optional("napari.layers", "napari")
    types: Any = optional("napari.types", "napari")

    def find(image: Any, mpp: float, model: str, draw: Draw) -> Any:  # noqa: ANN401
        worker = threading.create_worker(
            find_nuclei, image, mpp, model, draw,
            _start_thread=False, _ignore_errors=True, _connect={"errored": _tell},
        )  # fmt: skip
        qt.QTimer.singleShot(0, worker.start)  # after napari has connected to the worker
        return worker

    find.__annotations__ = {
        "image": layers.Image,
        "mpp": float,
        "model": str,
        "draw": Draw,
        "return": threading.FunctionWorker[list[types.LayerDataTuple]],
    }
    return magicgui.magicgui(
        find,
        call_button="Find nuclei",
        mpp={
            "label": "µm per pixel",
            "min": 0.0,
            "max": HIGHEST_MPP,
            "step": 0.05,
            "value": 0.0,
            "tooltip": "0.25 for a 40x scan, 0.5 for 20x; 0: the scale of the layer",
        },
        model={"choices": list(bundled_models()), "value": DEFAULT_MODEL},
        draw={"value": "labels"},
    )


def _tell(error: Exception) -> None:
    """Show the message of an expected error; leave other errors to napari."""
    notifications: Any = optional("napari.utils.notifications", "napari")
    if not isinstance(error, NucleateError):
        raise error
    notifications.show_error(str(error))


def find_nuclei(
    image: Image,
    mpp: float = 0.0,
    model: str = DEFAULT_MODEL,
    draw: Draw = "labels",
) -> list[LayerData]:
    """Find the nuclei of an image layer.

    Args:
        image: an RGB layer; the finest level of a pyramid is used.
        mpp: micrometres per pixel of a layer whose scale is in pixels; 0 uses the scale of the
            layer, if that is in micrometres.
        model: name of a bundled model, or a model folder.
        draw: labels, outlines, or both.

    Returns:
        Layers as napari's LayerDataTuple: data, options, layer type.

    Raises:
        InputError: not an 8-bit RGB layer, or its resolution is unknown or differs from `mpp`.
        ModelError: there is no such model.
    """
    from nucleate.inference.segment import segment

    resolution = resolve_mpp(image.name, _layer_mpp(image), mpp or None)
    if resolution is None:
        why = ": its scale is in pixels"
        raise no_mpp(image.name, why, "Set µm per pixel", owner="the layer")
    nuclei = segment(_pixels(image), model, resolution)
    makers = {
        "labels": [label_layer],
        "outlines": [outline_layer],
        "both": [label_layer, outline_layer],
    }
    return [make(nuclei, image.name) for make in makers[draw]]


def _layer_mpp(image: Image) -> float | None:
    """Return micrometres per pixel of a layer; None if its scale has no unit of length."""
    import pint

    unit = image.units[-1]
    try:
        return float((1 * unit).to("micrometer").magnitude * image.scale[-1])
    except pint.DimensionalityError:
        return None


def _pixels(image: Image) -> UInt8:
    data = image.data[0] if image.multiscale else image.data
    if not image.rgb or data.dtype != np.uint8:
        raise InputError(
            f"{image.name} is not an 8-bit RGB image, and the model needs the colours of H&E. "
            "Open it as RGB."
        )
    return np.asarray(data)[..., :3]

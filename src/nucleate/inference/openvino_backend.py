"""ONNX on the CPU with OpenVINO: the backend of the base install."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from nucleate.cards import ModelCard
from nucleate.errors import ModelError
from nucleate.inference.backends import Precision, check_size
from nucleate.postprocess import needed
from nucleate.readers.limits import check_layer
from nucleate.types import Maps, UInt8


class OpenVinoBackend:
    """ONNX on the CPU. Each thread has its own request; OpenVINO runs requests one at a time.

    In int8 the file defines which layers are computed in integers; the rest runs in bf16 if the
    CPU supports it.
    """

    def __init__(self, path: Path, card: ModelCard, precision: Precision, threads: int) -> None:
        import openvino

        self._compiled = compiled(path, card.align_px, precision, threads)
        self._align_px = card.align_px
        self._own = threading.local()
        there = set().union(*(out.names for out in self._compiled.outputs))
        self._names = [name for name in needed(card.decoder, card.heads) if name in there]
        count = self._compiled.input(0).partial_shape[0]
        self._one_by_one = count.is_static and count.get_length() == 1
        version = openvino.__version__.split("-")[0]
        self.about = f"OpenVINO {version} on CPU, {precision}"

    def __call__(self, batch: UInt8) -> Maps:
        """Return head -> float32 (B, H, W) for uint8 (B, H, W, 3)."""
        check_size(batch, self._align_px)
        if self._one_by_one:
            return _stacked([self._run(image[None]) for image in batch])
        return self._run(batch)

    def _run(self, batch: UInt8) -> Maps:
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        results = self._own.request.infer(batch, share_inputs=True)  # outputs are copies
        return {name: np.asarray(results[name]) for name in self._names}


def compiled(path: Path, align_px: int, precision: Precision, threads: int) -> Any:  # noqa: ANN401
    """Read an ONNX file, check it, and compile it for the CPU.

    Raises:
        ModelError: OpenVINO cannot load it, or one of its layers needs too much memory.
    """
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": "f32" if precision == "f32" else "bf16",
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # two processes would pin their threads to the same cores
        **({"INFERENCE_NUM_THREADS": threads} if threads else {}),
    }
    try:
        core = openvino.Core()
        network = core.read_model(path)
        _check_layers(path, network, align_px)
        return core.compile_model(network, "CPU", settings)
    except RuntimeError as error:
        raise ModelError(
            f"{path}: OpenVINO cannot load the model ({str(error).splitlines()[0]}). "
            "Run 'nucleate doctor', and fetch the model again."
        ) from error


def _check_layers(path: Path, network: Any, align_px: int) -> None:  # noqa: ANN401
    """Raise a `ModelError` for a layer that needs far more memory than a tile of 256 pixels."""
    edge = 256 + -256 % align_px
    small = network.clone()
    try:
        small.reshape([1, edge, edge, 3])
    except RuntimeError:
        small = network  # it takes another shape: check only its static dimensions
    for layer in small.get_ops():
        if layer.get_type_name() == "Constant":  # its values are in the file
            continue
        for out in layer.outputs():
            shape = out.partial_shape
            if shape.rank.is_static:
                known = [d.get_length() if d.is_static else 1 for d in shape]
                check_layer(path, layer.get_friendly_name(), known)


def _stacked(found: list[Maps]) -> Maps:
    """Stack the outputs of single images into one batch, padded with 0 to the longest."""
    stacked = {}
    for name in found[0]:
        most = max(one[name].shape[1] for one in found)
        stacked[name] = np.concatenate(
            [
                np.pad(m, [(0, 0), (0, most - m.shape[1])] + [(0, 0)] * (m.ndim - 2))
                for m in (one[name] for one in found)
            ]
        )
    return stacked

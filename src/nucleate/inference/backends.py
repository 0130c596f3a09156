"""Engines that run a network: OpenVINO on the CPU (base install), PyTorch on CPU or GPU."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from nucleate.checkpoint import (
    WEIGHTS,
    trusted_file,
)
from nucleate.errors import InputError, ModelError, optional
from nucleate.postprocess import needed
from nucleate.types import EncoderCard, Maps, ModelCard, UInt8, detects, output_names

if TYPE_CHECKING:
    from nucleate.models.network import Network

Precision = Literal["f32", "bf16", "f16", "int8"]


class Backend(Protocol):
    """Runs a network on a batch of pictures."""

    about: str
    """Engine, version, device and precision, for people and for summary.json."""

    def __call__(self, batch: UInt8) -> Maps:
        """Return head -> float32 (B, H, W) in 0..1 for uint8 (B, H, W, 3).

        Of a detector: name -> float32 (B, n, …), see `nucleate.types.DETECTED`. Any number of
        threads may call at the same time.

        Raises:
            InputError: H or W is no multiple of the network's stride, see `check_size`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Model:
    """A network that is ready to run, and what its card says of it."""

    card: ModelCard
    backend: Backend


def check_size(batch: UInt8, align_px: int) -> None:
    """Check the height and width of a batch; every engine does before it runs.

    Args:
        batch: images, uint8 (B, H, W, 3).
        align_px: stride of the network: what H and W are multiples of, in pixels.

    Raises:
        InputError: they are not.

    Example:
        >>> check_size(np.zeros((1, 32, 48, 3), np.uint8), 16)
    """
    height, width = batch.shape[1:3]
    if height % align_px or width % align_px:
        raise InputError(
            f"The network takes images whose height and width are multiples of {align_px} pixels, "
            f"not {height} × {width}. Crop or pad them, or call segment(), which takes any size."
        )


class OpenVinoBackend:
    """ONNX on the CPU. Each thread has a request of its own; the engine does one after the other.

    In int8 the file says what is computed in integers; the rest is bf16, as far as the CPU has it.
    """

    def __init__(self, path: Path, card: ModelCard, precision: Precision, threads: int) -> None:
        import openvino

        settings = {
            "INFERENCE_PRECISION_HINT": "f32" if precision == "f32" else "bf16",
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # two processes would pin themselves to the same cores
            **({"INFERENCE_NUM_THREADS": threads} if threads else {}),
        }
        try:
            core = openvino.Core()
            self._compiled = core.compile_model(core.read_model(path), "CPU", settings)
        except RuntimeError as error:
            raise ModelError(
                f"{path}: OpenVINO cannot load the model ({str(error).splitlines()[0]}). "
                "Run 'nucleate doctor', and fetch the model again."
            ) from error
        self._align_px, self._detects = card.align_px, detects(card.heads)
        self._own = threading.local()
        there = set().union(*(out.names for out in self._compiled.outputs))
        # a head that is only learned from is not in the file
        self._names = [name for name in output_names(card.heads) if name in there]
        version = openvino.__version__.split("-")[0]
        self.about = f"OpenVINO {version} on CPU, {precision}"

    def __call__(self, batch: UInt8) -> Maps:
        """Return head -> float32 (B, H, W) for uint8 (B, H, W, 3)."""
        check_size(batch, self._align_px)
        if self._detects:  # finds another number in each picture
            return _stacked([self._run(picture[None]) for picture in batch])
        return self._run(batch)

    def _run(self, batch: UInt8) -> Maps:
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        results = self._own.request.infer(batch, share_inputs=True)  # outputs are copies
        return {name: np.asarray(results[name]) for name in self._names}


def _stacked(found: list[Maps]) -> Maps:
    """Return detections of single pictures as one batch, filled up with scores of 0."""
    most = max(len(picture["scores"][0]) for picture in found)
    return {
        name: np.concatenate(
            [
                np.pad(m, [(0, 0), (0, most - m.shape[1])] + [(0, 0)] * (m.ndim - 2))
                for m in (picture[name] for picture in found)
            ]
        )
        for name in found[0]
    }


class TorchBackend:
    """A PyTorch network on CPU or GPU.

    f32 is f32: on a GPU, PyTorch would round the inputs of convolutions to 10 bits (TF32).

    Args:
        network: with its weights, on the device.
        device: "cpu" or "cuda".
        precision: of the convolutions; the weights stay f32.
        maps: which maps to return; None for all.
    """

    def __init__(
        self,
        network: Network,
        device: str,
        precision: Precision,
        maps: Sequence[str] | None = None,
    ) -> None:
        torch: Any = optional("torch", "train")
        self._torch, self._device = torch, device
        self._half = {"bf16": torch.bfloat16, "f16": torch.float16}.get(precision)
        self._maps = maps
        self._network = network.eval()
        name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
        self.about = f"PyTorch {torch.__version__} on {name}, {precision}"

    @classmethod
    def load(
        cls, folder: Path, card: ModelCard, device: str, precision: Precision, threads: int
    ) -> TorchBackend:
        """Build the network of a card and fill in its weights."""
        torch: Any = optional("torch", "train")
        from nucleate.models import build

        if device == "cuda" and not torch.cuda.is_available():
            raise ModelError("PyTorch finds no CUDA device here. Use --device cpu.")
        if threads:
            torch.set_num_threads(threads)
        network = build(card.family, card.heads, card.arguments)
        try:
            network.load_state_dict(read_weights(folder, card))
        except RuntimeError as error:
            raise ModelError(
                f"{folder}: the weights do not fit the network of the card. Fetch the model again."
            ) from error
        network.to(torch.device(device)).to(memory_format=torch.channels_last)
        maps = None if detects(card.heads) else needed(card.decoder, card.heads)
        return cls(network, device, precision, maps)

    def __call__(self, batch: UInt8) -> Maps:
        """Return head -> float32 (B, H, W) for uint8 (B, H, W, 3)."""
        check_size(batch, self._network.align_px)
        torch = self._torch
        with (
            torch.inference_mode(),
            torch.autocast(self._device, self._half, enabled=self._half is not None),
            torch.backends.cudnn.flags(allow_tf32=False),
        ):
            pictures = torch.from_numpy(np.require(batch, requirements="W")).to(self._device)
            maps = self._network.maps(pictures.permute(0, 3, 1, 2))
        wanted = maps if self._maps is None else {head: maps[head] for head in self._maps}
        return {head: m.cpu().numpy() for head, m in wanted.items()}


def read_weights(
    folder: Path, card: ModelCard | EncoderCard, name: str = WEIGHTS
) -> dict[str, Any]:
    """Return name -> tensor of the weights of a model or encoder on the CPU; halves become floats.

    Raises:
        ModelError: there are none, or they are not those of the card.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    torch: Any = optional("torch", "train")
    path = trusted_file(folder, card, name)
    try:
        arrays = load_file(path)
    except SafetensorError as error:
        raise ModelError(
            f"{path}: no safetensors file ({error}). Fetch the model again."
        ) from error
    return {
        key: torch.from_numpy(value.astype(np.float32) if value.dtype == np.float16 else value)
        for key, value in arrays.items()
    }

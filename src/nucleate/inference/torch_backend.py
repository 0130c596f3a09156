"""Run a network on CPU or GPU with PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nucleate.cards import EncoderCard, ModelCard
from nucleate.errors import ModelError, optional
from nucleate.inference.backends import Precision, check_size
from nucleate.models.card import WEIGHTS, trusted_file
from nucleate.postprocess import needed
from nucleate.types import Maps, UInt8

if TYPE_CHECKING:
    from nucleate.models.network import Network


class TorchBackend:
    """A PyTorch network on CPU or GPU.

    f32 disables TF32, with which a GPU would round the inputs of convolutions to 10 bits.

    Args:
        network: network with loaded weights, on the device.
        device: "cpu" or "cuda".
        precision: precision of the convolutions; the weights stay f32.
        maps: names of the maps to return; None for all.
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
        """Build the network of a card and load its weights."""
        torch: Any = optional("torch", "train")
        from nucleate.models.families import build

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
        return cls(network, device, precision, needed(card.decoder, card.heads))

    def __call__(self, batch: UInt8) -> Maps:
        """Return head -> float32 (B, H, W) for uint8 (B, H, W, 3)."""
        check_size(batch, self._network.align_px)
        torch = self._torch
        with (
            torch.inference_mode(),
            torch.autocast(self._device, self._half, enabled=self._half is not None),
            torch.backends.cudnn.flags(allow_tf32=False),
        ):
            images = torch.from_numpy(np.require(batch, requirements="W")).to(self._device)
            maps = self._network.maps(images.permute(0, 3, 1, 2))
        wanted = maps if self._maps is None else {head: maps[head] for head in self._maps}
        return {head: m.cpu().numpy() for head, m in wanted.items()}


def read_weights(
    folder: Path, card: ModelCard | EncoderCard, name: str = WEIGHTS
) -> dict[str, Any]:
    """Load the weights of a model or encoder as name -> CPU tensor; float16 becomes float32.

    Raises:
        ModelError: the file is missing, invalid, or does not match the card.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    torch: Any = optional("torch", "train")
    path = trusted_file(folder, card, name)
    try:
        arrays = load_file(path)
    except SafetensorError as error:
        raise ModelError(
            f"{path}: not a safetensors file ({error}). Fetch the model again."
        ) from error
    return {
        key: torch.from_numpy(value.astype(np.float32) if value.dtype == np.float16 else value)
        for key, value in arrays.items()
    }

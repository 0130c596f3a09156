"""A trained network on disk: as safetensors, and as ONNX: bytes in, maps in 0..1 out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.numpy import save
from torch import Tensor, nn

from nucleate.io.files import atomic


class Deploy(nn.Module):
    """Wrap a network: uint8 (B, H, W, 3) -> one float32 (B, H, W) in 0..1 per head."""

    def __init__(self, network: nn.Module, heads: list[str]) -> None:
        super().__init__()
        self.network, self.heads = network, heads

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the maps in the order of `heads`; H and W are multiples of `align_px`."""
        maps = self.network(image.permute(0, 3, 1, 2))
        return tuple(torch.sigmoid(maps[head].float()) for head in self.heads)


def write_weights(path: Path, arrays: Mapping[str, Tensor]) -> None:
    """Write name -> array as safetensors."""
    with atomic(path) as temporary:
        whole = {k: v.detach().cpu().contiguous().numpy() for k, v in arrays.items()}
        temporary.write_bytes(save(whole))  # their save_file makes files that only the owner reads


def export_onnx(network: nn.Module, heads: list[str], align_px: int, path: Path) -> None:
    """Write a network as ONNX with free batch size, height and width.

    Args:
        network: in evaluation mode, on the CPU, float32.
        heads: names and order of the outputs.
        align_px: what height and width will be multiples of.
        path: file to write; weights are inside.

    Raises:
        OutputError: the file cannot be written.
    """
    import onnx

    edge = max(2 * align_px, 64)
    edge += -edge % align_px
    example = torch.zeros(1, edge, edge, 3, dtype=torch.uint8)
    free = {0: "batch", 1: "height", 2: "width"}
    with atomic(path) as temporary:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer warns of every constant that it folds
            torch.onnx.export(
                Deploy(network, heads).eval(),
                (example,),
                str(temporary),
                input_names=["image"],
                output_names=heads,
                dynamic_axes={"image": free, **dict.fromkeys(heads, free)},
                opset_version=17,
                dynamo=False,
            )
        model = onnx.load(str(temporary))
        onnx.checker.check_model(model, full_check=True)

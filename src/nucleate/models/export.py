"""A trained network on disk: as safetensors, and as ONNX: bytes in, maps in 0..1 out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.numpy import save
from torch import Tensor, nn

from nucleate.io.files import atomic
from nucleate.models.network import Network
from nucleate.types import detects, output_names


class Deploy(nn.Module):
    """Wrap a network: uint8 (B, H, W, 3) -> one float32 array per output, as a backend gives it."""

    def __init__(self, network: Network, heads: list[str]) -> None:
        super().__init__()
        self.network, self.names = network, output_names(heads)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs in the order of `names`; H and W are multiples of `align_px`."""
        maps = self.network.maps(image.permute(0, 3, 1, 2))
        return tuple(maps[name] for name in self.names)


def write_weights(path: Path, arrays: Mapping[str, Tensor]) -> None:
    """Write name -> array as safetensors."""
    with atomic(path) as temporary:
        whole = {k: v.detach().cpu().contiguous().numpy() for k, v in arrays.items()}
        temporary.write_bytes(save(whole))  # their save_file makes files that only the owner reads


def export_onnx(network: Network, heads: list[str], align_px: int, path: Path) -> None:
    """Write a network as ONNX with free height and width, and free batch size where it draws maps.

    A detector takes one picture at a time: as many nuclei as it finds come out.

    Args:
        network: in evaluation mode, on the CPU, float32.
        heads: of the network.
        align_px: what height and width will be multiples of.
        path: file to write; weights are inside.

    Raises:
        OutputError: the file cannot be written.
    """
    import onnx

    edge = max(2 * align_px, 64)
    edge += -edge % align_px
    chance = torch.Generator().manual_seed(0)  # a detector is traced along what it finds
    example = torch.randint(0, 256, (1, edge, edge, 3), dtype=torch.uint8, generator=chance)
    deployed = Deploy(network, heads).eval()
    detector = detects(heads)
    free = {1: "height", 2: "width"} if detector else {0: "batch", 1: "height", 2: "width"}
    out = {1: "nuclei"} if detector else free
    with atomic(path) as temporary:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer warns of every constant that it folds
            torch.onnx.export(
                deployed,
                (example,),
                str(temporary),
                input_names=["image"],
                output_names=deployed.names,
                dynamic_axes={"image": free, **dict.fromkeys(deployed.names, out)},
                opset_version=17,
                dynamo=False,
            )
        model = onnx.load(str(temporary))
        onnx.checker.check_model(model, full_check=True)

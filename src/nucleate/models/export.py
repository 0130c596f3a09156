"""Export a trained network as safetensors and as ONNX (bytes in, maps in 0..1 out).

Weights of convolutions and matrices are stored in 16 bits, half the size; engines compute in the
requested precision. `round_weights` runs first, so that all engines and files have identical
numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save
from torch import Tensor, nn

from nucleate.files import atomic
from nucleate.models.card import OPSET
from nucleate.models.network import Network


class Deploy(nn.Module):
    """Wrap a network: uint8 (B, H, W, 3) -> one float32 array per output, as in a backend."""

    def __init__(self, network: Network, names: list[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs in the order of `names`; H and W are multiples of `align_px`."""
        maps = self.network.maps(image.permute(0, 3, 1, 2))
        return tuple(maps[name] for name in self.names)


def round_weights(network: nn.Module) -> None:
    """Round the weights to 16 bits; biases, norms and statistics are unchanged.

    So are arrays with a number beyond 65,504.
    """
    with torch.no_grad():
        for weights in network.parameters():
            if weights.ndim > 1 and torch.isfinite(weights.half()).all():
                weights.copy_(weights.half().float())


def write_weights(path: Path, arrays: Mapping[str, Tensor]) -> None:
    """Write name -> array as safetensors, in 16 bits where that is lossless."""
    with atomic(path) as temporary:
        whole = {k: _short(v.detach().cpu().contiguous().numpy()) for k, v in arrays.items()}
        temporary.write_bytes(save(whole))  # save_file makes files that only the owner can read


def _short(array: NDArray[Any]) -> NDArray[Any]:
    """Return a float32 array of at least two dimensions as float16 if that is lossless."""
    if array.dtype != np.float32 or array.ndim < 2:
        return array
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if np.array_equal(half, array) else array


def export_onnx(
    network: Network, names: list[str], align_px: int, path: Path, fold: bool = False
) -> None:
    """Write a network as ONNX with the dynamic axes of `free_axes`, such as height and width.

    Args:
        network: network in evaluation mode, on the CPU, float32.
        names: names of the outputs to write, see `nucleate.postprocess.needed`.
        align_px: height and width will be multiples of this.
        path: file to write; it contains the weights, in 16 bits where that is lossless.
        fold: fold norms into the preceding convolutions, as quantising needs; this changes the
            weights, which stay in 32 bits. Engines fold on their own when they load.

    Raises:
        OutputError: the file cannot be written.
    """
    import onnx
    from torch.onnx import TrainingMode

    edge = max(2 * align_px, 64)
    edge += -edge % align_px
    chance = torch.Generator().manual_seed(0)  # tracing follows what is found in the example
    example = torch.randint(0, 256, (1, edge, edge, 3), dtype=torch.uint8, generator=chance)
    deployed = Deploy(network, names).eval()
    with atomic(path) as temporary:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer warns about every constant it folds
            torch.onnx.export(
                deployed,
                (example,),
                str(temporary),
                input_names=["image"],
                output_names=names,
                dynamic_axes=network.free_axes(names),
                opset_version=OPSET,
                dynamo=False,
                training=TrainingMode.EVAL if fold else TrainingMode.PRESERVE,
            )
        model = onnx.load(str(temporary))
        if not fold:
            _shorten(model)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, str(temporary))


def _shorten(model: Any) -> None:  # noqa: ANN401
    """Store weights of an ONNX model in 16 bits where that is lossless, with casts to float32."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for weights in model.graph.initializer:
        whole = numpy_helper.to_array(weights)
        half = _short(whole)
        if half is whole:
            continue
        name = weights.name
        weights.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)

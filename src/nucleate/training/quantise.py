"""Quantise the network of a finished run to 8 bits, if its accuracy on held-out images suffices.

Weights and activations are quantised to int8 after training. Ranges are estimated on training
crops, without the rarest values, which would coarsen all others; held-out images are used only for
the decision. The first convolution stays in float: quantising it ruins the accuracy, and float
costs little there. After the bias correction per layer, the remaining bias is removed: the mean of
each map over the crops is set to that of the float network.

References:
    Jacob et al. 2018, doi:10.1109/CVPR.2018.00286 (integer arithmetic); Nagel et al. 2019,
    doi:10.1109/ICCV.2019.00141 (bias correction), both as implemented in NNCF.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nucleate.cards import ModelCard
from nucleate.config import load_recipe
from nucleate.datasets.loading import collect
from nucleate.datasets.splits import read_split
from nucleate.errors import ConfigError, TrainingError, optional
from nucleate.evaluation.evaluate import evaluate_model
from nucleate.files import atomic, sha256
from nucleate.inference.backends import Model, Precision
from nucleate.inference.openvino_backend import OpenVinoBackend
from nucleate.inference.torch_backend import read_weights
from nucleate.models.card import INT8, ONNX, read_card, trusted_file, write_card
from nucleate.models.export import export_onnx
from nucleate.models.families import build
from nucleate.postprocess import needed, require_maps
from nucleate.stain.fitting import restain
from nucleate.stain.normalise import Normaliser
from nucleate.training.crops import CropDataset
from nucleate.training.run_folder import RunFolder
from nucleate.types import Float32, UInt8

CROPS = 128  # crops for estimating ranges; more make no visible difference
_TIMED_PX = 1024


@dataclass(frozen=True, slots=True)
class Measured:
    """Accuracy and speed of a precision on the held-out images.

    Attributes:
        precision: f32, bf16 or int8.
        aji: mean AJI over images.
        pq: mean PQ over images.
        seconds: time of the network alone on 1024 × 1024 pixels with one thread.
    """

    precision: str
    aji: float
    pq: float
    seconds: float


def quantise(path: Path, changes: list[str] | None, most: float) -> tuple[list[Measured], bool]:
    """Write `model.int8.onnx` into the model of a finished run, if it is accurate enough.

    Args:
        path: folder of the run.
        changes: changes of its recipe, such as `data.root=…` if the data have moved.
        most: maximum loss of AJI on the held-out images, 0..1; 0.003 is 0.3 points.

    Returns:
        The measurements of f32, bf16 and int8, and whether int8 was kept.

    Raises:
        ModelError: the network does not return maps.
        ConfigError: the data differ from those of the run.
        TrainingError: the run has no model yet.
    """
    run = RunFolder(path)
    if not run.is_finished():
        raise TrainingError(f"{path} is not a finished run. Finish training, or check the path.")
    card = read_card(run.model)
    require_maps(card.decoder, path, "quantised", "Use bf16 instead.")
    recipe = load_recipe(path / "recipe.yaml", changes)
    data = collect(recipe.data, Path())
    if data.split.digest != read_split(path / "split.json").digest:
        raise ConfigError(
            f"{path}: the data differ from those of the run. Set their folder with --set "
            "data.root=…"
        )
    stain = None if card.stain is None else Normaliser.from_dict(card.stain, f"{path}: stain")
    crops = CropDataset(restain(data.read("train", recipe.data.mpp), stain, run.say), recipe)
    held_out = [data.entries[name] for name in data.split.parts["validation"]]
    full = trusted_file(run.model, card, ONNX)
    network = build(card.family, card.heads, card.arguments).eval()
    network.load_state_dict(read_weights(run.model, card))
    with tempfile.TemporaryDirectory() as folder:
        folded, small = Path(folder) / ONNX, Path(folder) / INT8
        export_onnx(network, needed(card.decoder, card.heads), card.align_px, folded, fold=True)
        seen = [_aligned(crops[i].image.numpy(), card.align_px) for i in range(CROPS)]
        small.write_bytes(_in_integers(folded, seen))
        _level(small, card, folded, seen)
        found = [
            _measure(full, card, "f32", held_out),
            _measure(full, card, "bf16", held_out),
            _measure(small, card, "int8", held_out),
        ]
        kept = found[0].aji - found[2].aji <= most
        if kept:
            with atomic(run.model / INT8) as temporary:
                temporary.write_bytes(small.read_bytes())
    scores = {m.precision: {"aji": m.aji, "pq": m.pq} for m in found}
    files = {name: digest for name, digest in card.files.items() if name != INT8}
    if kept:
        files[INT8] = sha256(run.model / INT8)
    write_card(
        run.model, replace(card, files=files, metrics={**card.metrics, "precisions": scores})
    )
    return found, kept


def _aligned(image: UInt8, align_px: int) -> UInt8:
    """Pad an image to the next multiples of `align_px`, mirrored beyond its edges.

    Example:
        >>> _aligned(np.zeros((30, 33, 3), np.uint8), 16).shape
        (32, 48, 3)
    """
    height, width = image.shape[:2]
    return np.pad(image, ((0, -height % align_px), (0, -width % align_px), (0, 0)), "symmetric")


def _in_integers(path: Path, crops: list[UInt8]) -> bytes:
    """Return an ONNX file with quantise and dequantise nodes around convolutions."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # warns without a GPU
    onnx: Any = optional("onnx", "train")
    nncf: Any = optional("nncf", "train")
    estimators: Any = optional("nncf.quantization.range_estimator", "train")
    nncf.set_log_level(logging.ERROR)
    model = onnx.load(str(path))
    first = next(node.name for node in model.graph.node if node.op_type == "Conv")
    with contextlib.redirect_stdout(sys.stderr):  # progress bars do not belong on stdout
        made = nncf.quantize(
            model,
            nncf.Dataset([{"image": crop[None]} for crop in crops]),
            subset_size=len(crops),
            ignored_scope=nncf.IgnoredScope(names=[first]),
            fast_bias_correction=False,  # layer by layer on data: slower but better
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=estimators.RangeEstimatorParametersSet.MEAN_QUANTILE
            ),
        )
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def _level(path: Path, card: ModelCard, full: Path, crops: list[UInt8]) -> None:
    """Shift the bias of each map's last convolution, to match the float network's mean over crops.

    A convolution that computes several maps is unchanged.
    """
    onnx: Any = optional("onnx", "train")
    model = onnx.load(str(path))
    made_by = {name: node for node in model.graph.node for name in node.output}
    last = {out.name: _last_convolution(made_by, out.name) for out in model.graph.output}
    numbers = {array.name: array for array in model.graph.initializer}
    drawn: list[dict[str, Any]] = []
    for file in (full, path):
        backend = OpenVinoBackend(file, card, "f32", threads=0)
        parts = [backend(crop[None]) for crop in crops]
        drawn.append({head: np.stack([part[head] for part in parts]) for head in parts[0]})
    for head, node in last.items():
        alone = sum(node is other for other in last.values()) == 1
        if node is None or not alone or len(node.input) < 3 or node.input[2] not in numbers:
            continue
        bias = numbers[node.input[2]]
        values = onnx.numpy_helper.to_array(bias)
        shift = _shift(drawn[0][head], drawn[1][head])
        bias.CopyFrom(onnx.numpy_helper.from_array(values + values.dtype.type(shift), bias.name))
    path.write_bytes(bytes(model.SerializeToString()))


def _last_convolution(made_by: dict[str, Any], name: str) -> Any:  # noqa: ANN401
    """Return the last convolution before a tensor, None if there is none."""
    while name in made_by:
        node = made_by[name]
        if node.op_type == "Conv":
            return node
        name = node.input[0] if node.input else ""
    return None


def _shift(wanted: Float32, given: Float32) -> float:
    """Return the shift of the logits of `given` for which its mean equals that of `wanted`.

    Example:
        >>> half = np.full(4, 0.5, np.float32)
        >>> round(_shift(np.full(4, 0.731059, np.float32), half), 4)
        1.0
    """
    sure = np.clip(given.astype(np.float64), 1e-6, 1 - 1e-6)
    logits = np.log(sure / (1 - sure))
    low, high = -4.0, 4.0
    for _ in range(30):
        middle = (low + high) / 2
        less = (1 / (1 + np.exp(-logits - middle))).mean() < wanted.mean()
        low, high = (middle, high) if less else (low, middle)
    return (low + high) / 2


def _measure(path: Path, card: ModelCard, precision: Precision, held_out: list[Any]) -> Measured:
    backend = OpenVinoBackend(path, card, precision, threads=0)
    means = evaluate_model(Model(card, backend), held_out).means()
    alone = OpenVinoBackend(path, card, precision, threads=1)
    edge = _TIMED_PX + -_TIMED_PX % card.align_px
    image = np.random.default_rng(0).integers(0, 256, (1, edge, edge, 3), np.uint8)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        alone(image)
        seconds.append(time.perf_counter() - started)
    return Measured(precision, means["aji"]["mean"], means["pq"]["mean"], min(seconds))

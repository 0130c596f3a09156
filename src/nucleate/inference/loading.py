"""Load a model by name or folder, on a suitable engine and device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from nucleate.errors import ConfigError, ModelError, nearest, optional, pick
from nucleate.inference.backends import Model, Precision
from nucleate.inference.ensembles import ensemble
from nucleate.inference.openvino_backend import OpenVinoBackend
from nucleate.inference.torch_backend import TorchBackend
from nucleate.models.card import (
    DEFAULT_MODEL,
    INT8,
    ONNX,
    find_model,
    fold_models,
    read_card,
    trusted_file,
)
from nucleate.postprocess import complete_thresholds, missing_head

Device = Literal["auto", "cpu", "cuda"]
Engine = Literal["auto", "openvino", "torch"]
Sensitivity = Literal["low", "normal", "high"]
_WORDS = {
    "device": list(get_args(Device)),
    "backend": list(get_args(Engine)),
    "precision": ["auto", *get_args(Precision)],
}


def load_model(
    name: str | Path = DEFAULT_MODEL,
    device: Device = "auto",
    backend: Engine = "auto",
    precision: Precision | Literal["auto"] = "auto",
    threads: int = 0,
) -> Model:
    """Load a bundled model by name, or any model folder by path.

    Args:
        name: bundled name, model folder, run folder, or cross-validation folder (loads the
            ensemble of its folds).
        device: auto selects CUDA if PyTorch finds a device, else the CPU.
        backend: auto selects OpenVINO on the CPU and PyTorch on a GPU.
        precision: auto selects int8 if the model has it and runs on OpenVINO, else f32; f32 gives
            the same result everywhere; bf16 is faster if the CPU supports it; f16 is for GPUs.
        threads: number of CPU threads; 0 uses all cores.

    Raises:
        ConfigError: `name` is neither a name nor a path; an unknown device, backend or precision.
        ModelError: no such model, a damaged file, or an engine that cannot run here.
    """
    _check_words(name, device=device, backend=backend, precision=precision)
    folds = fold_models(name)
    if folds:
        each = [load_model(fold, device, backend, precision, threads) for fold in folds]
        return ensemble(each, Path(name).name)
    folder = find_model(name)
    card = read_card(folder)
    complete_thresholds(card.decoder, card.thresholds)
    missing = missing_head(card.decoder, card.heads)
    if missing is not None:
        raise ModelError(f"{folder}: the decoder {card.decoder!r} needs the head {missing!r}.")
    if device == "auto":
        device = "cuda" if backend != "openvino" and cuda_count() else "cpu"
    if device == "cuda" and backend == "openvino":
        raise ModelError("OpenVINO runs on the CPU here. Use --backend torch for --device cuda.")
    if backend == "torch" or (backend == "auto" and device == "cuda"):
        if precision == "int8":
            raise ModelError("int8 runs on OpenVINO only. Use --backend openvino --device cpu.")
        if precision == "f16" and device == "cpu":
            raise ModelError("f16 is for GPUs. Use --precision bf16 or f32 on the CPU.")
        chosen: Precision = "f32" if precision == "auto" else precision
        return Model(card, TorchBackend.load(folder, card, device, chosen, threads))
    if precision == "f16":
        raise ModelError("f16 is for GPUs. Use --precision bf16, int8 or f32 on the CPU.")
    if precision == "auto":
        precision = "int8" if INT8 in card.files else "f32"
    if precision == "int8" and INT8 not in card.files:
        raise ModelError(
            f"{folder}: the model has no {INT8}. Make it with nucleate quantise, or use bf16."
        )
    file = trusted_file(folder, card, INT8 if precision == "int8" else ONNX)
    return Model(card, OpenVinoBackend(file, card, precision, threads))


def _check_words(name: object, **chosen: str) -> None:
    """Raise a `ConfigError` unless `name` is a name or path and each option is known."""
    if not isinstance(name, str | Path):
        raise ConfigError(
            f"model: {type(name).__name__} is not a model. Pass a name, a folder or a loaded "
            "model, and pass other arguments by keyword, such as mpp=0.25."
        )
    for what, word in chosen.items():
        if word not in _WORDS[what]:
            raise ConfigError(f"There is no {what} {word!r}. {nearest(str(word), _WORDS[what])}")


def at_sensitivity(model: Model, sensitivity: Sensitivity) -> Model:
    """Return a model that finds fewer false nuclei, or more pale nuclei.

    Args:
        model: a loaded model.
        sensitivity: low prefers precision, high prefers recall; normal returns the model unchanged.

    Raises:
        ConfigError: an unknown sensitivity, or one that was not measured for this model.

    Example:
        >>> at_sensitivity(load_model("mtl-small", device="cpu"), "normal").card.name
        'mtl-small'
    """
    pick(dict.fromkeys(get_args(Sensitivity)), sensitivity, "sensitivity")
    if sensitivity == "normal":
        return model
    card, chosen = model.card, model.card.sensitivity.get(sensitivity)
    if chosen is None:
        raise ConfigError(
            f"{card.name}: no thresholds were measured for {sensitivity} sensitivity. Omit it, or "
            "pass thresholds."
        )
    return with_thresholds(model, chosen)


def with_thresholds(model: Model, thresholds: dict[str, float]) -> Model:
    """Return a model with some thresholds replaced; others are those of its card.

    Raises:
        ConfigError: an unknown threshold, or an invalid value.

    Example:
        >>> model = load_model("mtl-small", device="cpu")
        >>> with_thresholds(model, {"ink": 1}).card.thresholds["ink"]
        1
    """
    if not isinstance(thresholds, dict):
        raise ConfigError("thresholds must be a dict, such as {'foreground': 0.4}.")
    card = model.card
    chosen = complete_thresholds(card.decoder, {**card.thresholds, **thresholds})
    return Model(replace(card, thresholds=chosen), model.backend)


def ready_model(
    model: Model | str | Path | None,
    device: Device,
    precision: Precision | Literal["auto"],
    threads: int,
) -> Model:
    """Return a loaded model unchanged, or load one by name or folder.

    Raises:
        ConfigError: device, precision or threads are given for a model that is already loaded.
        ModelError: the model cannot be loaded.
    """
    if not isinstance(model, Model):
        name = DEFAULT_MODEL if model is None else model
        return load_model(name, device, "auto", precision, threads)
    if (device, precision, threads) != ("auto", "auto", 0):
        raise ConfigError(
            f"Model {model.card.name!r} is already loaded. Pass device, precision and threads to "
            "load_model."
        )
    return model


def cuda_count() -> int:
    """Return the number of CUDA devices; fast if there is no CUDA driver or no PyTorch."""
    import ctypes
    import importlib.util
    import sys

    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(library)
    except OSError:
        return 0
    if importlib.util.find_spec("torch") is None:
        return 0
    return int(optional("torch", "train").cuda.device_count())

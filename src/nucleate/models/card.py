"""Model folders: card.json, model.onnx, model.safetensors, optional model.int8.onnx. No pickles."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from nucleate.cards import EncoderCard, ModelCard
from nucleate.errors import ModelError, nearest
from nucleate.files import digest_of, read_text, sha256, write_text
from nucleate.models.fingerprints import is_fingerprints
from nucleate.resolution import is_plausible
from nucleate.stain.normalise import Normaliser

BUNDLED = Path(__file__).parents[1] / "weights"
EXAMPLE = Path(__file__).parents[1] / "example" / "skin.tif"  # the bundled image
OPSET = 17  # ONNX opset
DEFAULT_MODEL = "mtl-small"
OPEN_MODEL = "mtl-open"  # trained on data that permit commercial use alone
CROSSVAL = "crossval.json"  # in the folder of a finished cross-validation
CARD, ONNX, WEIGHTS = "card.json", "model.onnx", "model.safetensors"
INT8 = "model.int8.onnx"  # quantised network, if quantising costs next to no accuracy
ENCODER_CARD, ENCODER = "encoder.json", "encoder.safetensors"  # written by pretraining


def bundled_models() -> list[str]:
    """Return the names of the models in the package."""
    return sorted(card.parent.name for card in BUNDLED.glob(f"*/{CARD}"))


def find_model(name: str | Path) -> Path:
    """Return the folder of a bundled model, by name, or of any model, by path.

    Args:
        name: name of a bundled model, a folder with a card, or a run folder of `nucleate train`.

    Raises:
        ModelError: there is no such model.
    """
    path = Path(name)
    for folder in (path, path / "model", BUNDLED / str(name)):
        if (folder / CARD).is_file():
            return folder
    if find_encoder(path) is not None:
        raise ModelError(
            f"{path} is a pretrained encoder, which cannot segment nuclei. Train a model from it "
            f"first: nucleate train … --set init.from={path}"
        )
    if path.exists():
        raise ModelError(f"{path} contains no {CARD}. Pass the folder 'model' of a finished run.")
    raise ModelError(f"There is no model {str(name)!r}. {nearest(str(name), bundled_models())}")


def fold_models(name: str | Path) -> list[Path]:
    """Return the models of a finished cross-validation; empty for any other folder.

    Raises:
        ModelError: a fold has no model.
    """
    path = Path(name)
    if not (path / CROSSVAL).is_file():
        return []
    return [find_model(path / split.stem) for split in sorted((path / "splits").glob("*.json"))]


def find_encoder(name: str | Path) -> Path | None:
    """Return the encoder folder, given itself or its run folder; None if there is none."""
    path = Path(name)
    folders = (path, path / "encoder")
    return next((folder for folder in folders if (folder / ENCODER_CARD).is_file()), None)


def read_encoder_card(folder: Path) -> EncoderCard:
    """Read the card of a pretrained encoder.

    Raises:
        ModelError: not a card, or a card of another version.
    """
    content = _read_json(folder / ENCODER_CARD)
    known = {entry.name for entry in fields(EncoderCard)}
    if not isinstance(content, dict) or not known - {"notes"} <= content.keys() <= known:
        raise ModelError(
            f"{folder / ENCODER_CARD}: not an encoder card of this version of nucleate. Install "
            "the version that wrote it, or pretrain again."
        )
    card = EncoderCard(**content)
    good = {
        "arguments": isinstance(card.arguments, dict),
        "files": isinstance(card.files, dict) and ENCODER in card.files,
        "mpp": is_plausible(card.mpp),
        "recipe": isinstance(card.recipe, dict) and isinstance(card.recipe.get("pretext"), dict),
        "metrics": isinstance(card.metrics, dict),
        "training_data": _names_data(card.training_data),
    }
    wrong = next((name for name, fine in good.items() if not fine), None)
    if wrong is not None:
        raise ModelError(f"{folder / ENCODER_CARD}: {wrong!r} is invalid. Pretrain again.")
    return card


def _names_data(entries: object) -> bool:
    """Return whether the entries of a card on its training data are valid."""
    return isinstance(entries, list) and all(
        isinstance(e, dict) and _names_groups(e) for e in entries
    )


def _names_groups(entry: dict[str, Any]) -> bool:
    """Return whether an entry lists patients and fingerprints in a valid form."""
    groups = entry.get("groups", {"train": [], "validation": []})
    prints = entry.get("fingerprints", {})
    if not isinstance(groups, dict) or not {"train", "validation"} <= groups.keys():
        return False
    return (
        isinstance(prints, dict)
        and all(isinstance(names, list) for names in (*groups.values(), *prints.values()))
        and all(isinstance(name, str) for names in groups.values() for name in names)
        and all(is_fingerprints(text) for texts in prints.values() for text in texts)
    )


def _read_json(path: Path) -> Any:  # noqa: ANN401
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        raise ModelError(f"{path}: not valid JSON ({error}). Download the model again.") from error


def read_card(folder: Path) -> ModelCard:
    """Read the card of a model folder.

    Raises:
        ModelError: not a card, or a card of another version.
        InputError: its stain normaliser is invalid.
    """
    path = folder / CARD
    content = _read_json(path)
    known = {field.name for field in fields(ModelCard)}
    needed = {f.name for f in fields(ModelCard) if f.default is f.default_factory is MISSING}
    if not isinstance(content, dict) or content.keys() - known or needed - content.keys():
        raise ModelError(
            f"{path}: not a model card of this version of nucleate. Install the version that wrote "
            "it, or download the model again."
        )
    card = ModelCard(**content)
    wrong = next((name for name, good in _demands(card).items() if not good), None)
    if wrong is not None:
        raise ModelError(f"{path}: {wrong!r} of the card is invalid. Download the model again.")
    if card.stain is not None:
        Normaliser.from_dict(card.stain, f"{path}: stain")
    return card


def _demands(card: ModelCard) -> dict[str, bool]:
    """Return, for each field of a card that the engine relies on, whether it is valid."""

    def whole(edge: int, least: int, most: int) -> bool:
        return isinstance(edge, int) and least <= edge <= most

    return {
        "mpp": is_plausible(card.mpp),
        "align_px": whole(card.align_px, 1, 4096),
        "halo_px": whole(card.halo_px, 0, 1 << 16),
        "tile_px": whole(card.tile_px, 64, 1 << 14),
        "heads": isinstance(card.heads, list) and all(isinstance(h, str) for h in card.heads),
        "arguments": isinstance(card.arguments, dict),
        "thresholds": isinstance(card.thresholds, dict),
        "sensitivity": isinstance(card.sensitivity, dict)
        and all(isinstance(values, dict) for values in card.sensitivity.values()),
        "files": isinstance(card.files, dict),
        "training_data": _names_data(card.training_data),
    }


def weights_digest(card: ModelCard) -> str:
    """Return the SHA-256 of a model's weights; for an ensemble, a digest over all networks."""
    networks = {name: digest for name, digest in card.files.items() if name.endswith(ONNX)}
    if len(networks) == 1:
        return next(iter(networks.values()))
    return digest_of(networks)


def write_card(folder: Path, card: ModelCard | EncoderCard) -> None:
    """Write the card into the folder of a model or encoder."""
    name = CARD if isinstance(card, ModelCard) else ENCODER_CARD
    write_text(folder / name, json.dumps(asdict(card), indent=1, ensure_ascii=False) + "\n")


def trusted_file(folder: Path, card: ModelCard | EncoderCard, name: str) -> Path:
    """Return the path of a model's file after checking its hash against the card.

    Raises:
        ModelError: the model has no such file, or its hash does not match the card.
    """
    path = folder / name
    if name not in card.files or not path.is_file():
        raise ModelError(f"{folder}: the model has no {name}. Export it again.")
    if sha256(path) != card.files[name]:
        raise ModelError(
            f"{path}: the SHA-256 does not match the card: the file is damaged or was replaced. "
            "Download the model again."
        )
    return path

"""Export of a model to the BioImage Model Zoo, for ImageJ, Fiji, ilastik and others.

Those programs run the network and show its maps. Separating nuclei in the maps is the work of the
decoder, which the package's README.md describes.

References:
    Ouyang et al. 2022, doi:10.1101/2022.06.07.495102; bioimage.io format 0.5.
"""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from nucleate._version import __version__
from nucleate.cards import ModelCard
from nucleate.config import Recipe
from nucleate.errors import ConfigError, ModelError
from nucleate.files import atomic
from nucleate.geometry.draw import draw_outlines
from nucleate.inference.loading import load_model
from nucleate.inference.segment import segment
from nucleate.models.card import (
    BUNDLED,
    CARD,
    EXAMPLE,
    ONNX,
    OPSET,
    find_model,
    read_card,
    trusted_file,
)
from nucleate.postprocess import require_maps
from nucleate.readers.opening import open_source
from nucleate.readers.reader import Reader
from nucleate.types import UInt8

_FORMAT = "0.5.3"
_EXAMPLE_AT = (95, 170)  # µm from the corner of the example: a place with tissue
_EDGE_PX = 512
_BUNDLED_AUTHORS = ("the nucleate authors",)


@dataclass(frozen=True, slots=True)
class Origin:
    """Authors, citations and licence of a model.

    Attributes:
        authors: names; omit for bundled models.
        cite: references with a DOI or an address, in addition to those on the card.
        licence: SPDX expression, if the card states none.
    """

    authors: tuple[str, ...] = ()
    cite: tuple[str, ...] = ()
    licence: str | None = None


def write_package(model: str | Path, out: Path, origin: Origin | None = None) -> list[str]:
    """Write a model as a bioimage.io package (zip).

    Args:
        model: bundled name, model folder, or run folder.
        out: file to write.
        origin: what the model's card does not state.

    Returns:
        The names of the files inside.

    Raises:
        ModelError: no such model, a model without maps, or an ensemble.
        ConfigError: authors, references or licence are unknown, or contradict the card.
        OutputError: the file cannot be written.
    """
    folder = find_model(model)
    card = read_card(folder)
    other = "Name a model with heads such as foreground and distance."
    require_maps(card.decoder, card.name, "packaged for bioimage.io", other)
    if ONNX not in card.files:
        raise ModelError(f"{card.name}: bioimage.io accepts one ONNX network. Name its folder.")
    origin = _complete(card, origin or Origin(), bundled=folder.parent == BUNDLED)
    image = _example(card)
    ready = load_model(folder, device="cpu", backend="openvino", precision="f32")
    maps = ready.backend(image[None])
    files = {
        ONNX: trusted_file(folder, card, ONNX).read_bytes(),
        CARD: (folder / CARD).read_bytes(),
        "image.npy": _npy(image[None]),
        "image.png": _png(image),
        **{f"{head}.npy": _npy(drawn.astype(np.float32)) for head, drawn in maps.items()},
        **{
            f"{head}.png": _png(np.rint(255 * drawn[0]).astype(np.uint8))
            for head, drawn in maps.items()
        },
        "cover.png": _png(draw_outlines(image, segment(image, ready, card.mpp))),
        "README.md": _readme(card, origin).encode(),
    }
    described = _describe(card, list(maps), origin)
    files["bioimageio.yaml"] = yaml.safe_dump(
        described, sort_keys=False, allow_unicode=True
    ).encode()
    with atomic(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as package:
        for name, data in files.items():
            package.writestr(name, data)
    return sorted(files)


def _complete(card: ModelCard, given: Origin, bundled: bool) -> Origin:
    """Complete authors, citations (given ones first, then the card's) and licence.

    Raises:
        ConfigError: one of them is unknown, or contradicts the card.
    """
    if bundled and given.authors:
        raise ConfigError(
            f"{card.name}: a bundled model already states its authors. Omit --author."
        )
    authors = _BUNDLED_AUTHORS if bundled else tuple(filter(None, map(str.strip, given.authors)))
    if not authors:
        raise ConfigError(f"{card.name}: its card names no authors. Add them with --author.")
    stated = card.licence != Recipe.model_fields["licence"].default
    if stated and given.licence not in (None, card.licence):
        raise ConfigError(
            f"{card.name}: its licence is {card.licence}, not {given.licence}. Omit --licence."
        )
    licence = card.licence if stated else given.licence
    if not licence:
        raise ConfigError(f"{card.name}: its card states no licence. State it with --licence.")
    lost = next((text for text in given.cite if not _address(text)), None)
    if lost is not None:
        raise ConfigError(
            f"{lost}: names neither a DOI nor an address. Add 'doi:10.…' or 'https://…' to --cite."
        )
    named = [entry for entry in card.training_data if entry.get("name")]
    known = [str(e["citation"]) for e in named if _address(str(e.get("citation") or ""))]
    if not given.cite and (len(known) < len(named) or not known):
        which = ", ".join(dict.fromkeys(e["name"] for e in named if e.get("citation") not in known))
        raise ConfigError(
            f"{card.name}: there is no citation for {which or 'it'}. Add a reference with a DOI or "
            "a web address: --cite."
        )
    return Origin(authors, tuple(dict.fromkeys((*given.cite, *known))), licence)


def _describe(card: ModelCard, heads: list[str], origin: Origin) -> dict[str, Any]:
    """Return the package's description (rdf.yaml), as the format requires it."""
    step = card.align_px
    least = {"min": -(-2 * card.halo_px // step) * step + step, "step": step}
    image: dict[str, Any] = {
        "id": "image",
        "description": "H&E-stained tissue, RGB, bytes",
        "axes": [
            {"type": "batch"},
            *(_space(axis, card, dict(least)) for axis in "yx"),
            {"type": "channel", "id": "channel", "channel_names": ["red", "green", "blue"]},
        ],
        "test_tensor": {"source": "image.npy"},
        "sample_tensor": {"source": "image.png"},
        "data": {"type": "uint8", "range": [0, 255]},
        "preprocessing": [],
    }
    outputs = [
        {
            "id": head,
            "description": f"{head} of nuclei, 0 to 1",
            "axes": [
                {"type": "batch"},
                *(_space(a, card, {"tensor_id": "image", "axis_id": a}, True) for a in "yx"),
            ],
            "test_tensor": {"source": f"{head}.npy"},
            "sample_tensor": {"source": f"{head}.png"},
            "data": {"type": "float32", "range": [0.0, 1.0]},
            "postprocessing": [],
        }
        for head in heads
    ]
    return {
        "format_version": _FORMAT,
        "type": "model",
        "name": f"nucleate {card.name}",
        "description": "Nuclei in H&E-stained tissue: maps for foreground and splitting, at "
        f"{card.mpp:g} micrometres per pixel.",
        "authors": [{"name": name} for name in origin.authors],
        "cite": [{"text": text, **_address(text)} for text in origin.cite],
        "license": origin.licence,
        "version": card.version,
        "tags": ["nuclei", "histology", "h-and-e", "instance-segmentation", "2d", "onnx"],
        "documentation": "README.md",
        "covers": ["cover.png"],
        "attachments": [{"source": CARD}],
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": {"nucleate": {"version": __version__, "decoder": card.decoder,
                                "thresholds": card.thresholds, "halo_px": card.halo_px}},
        "inputs": [image],
        "outputs": outputs,
        "weights": {
            "onnx": {"source": ONNX, "sha256": card.files[ONNX], "opset_version": OPSET}
        },
    }  # fmt: skip


def _space(
    axis: str, card: ModelCard, size: dict[str, Any], with_halo: bool = False
) -> dict[str, Any]:
    halo = {"halo": card.halo_px} if with_halo else {}
    return {
        "type": "space",
        "id": axis,
        "unit": "micrometer",
        "scale": card.mpp,
        "size": size,
        **halo,
    }


def _address(text: str) -> dict[str, str]:
    """Return the DOI of a reference, else its address, else nothing.

    Example:
        >>> _address("Naylor et al. 2019, doi:10.1109/TMI.2018.2865709")
        {'doi': '10.1109/TMI.2018.2865709'}
    """
    doi = re.search(r"(?:doi:\s*|doi\.org/)(10\.[^\s;,]+)", text, re.IGNORECASE)
    if doi:
        return {"doi": doi.group(1).rstrip(".")}
    url = re.search(r"https?://[^\s;,]+", text)
    return {"url": url.group().rstrip(".")} if url else {}


def _readme(card: ModelCard, origin: Origin) -> str:
    sets = {  # the last entry wins for a set that was read in two ways
        entry["name"]: f"- {entry['name']}: {_stated(entry, 'licence', 'licence unknown')}. "
        f"{_stated(entry, 'citation', '')}".rstrip()
        for entry in card.training_data
        if "name" in entry
    }
    data = "\n".join(sets.values())
    values = ", ".join(f"{name} {value:g}" for name, value in card.thresholds.items())
    stain = (
        "\nThe stain of images is normalised first (nucleate does that; other programs do not).\n"
        if card.stain
        else ""
    )
    return f"""# {card.name}

Maps of nuclei in H&E-stained tissue, {card.mpp:g} micrometres per pixel. Resample images to that.
{stain}
Input: RGB bytes. The decoder `{card.decoder}` ({values}) turns the maps into nuclei: `pip install
nucleate`, then `nucleate segment Image -o out/`, does everything, for tiles and slides.

## Validation

{_validation(card)} Check the results on your own images before you rely on the model.

## Training data

{data}

The weights are {origin.licence}. Authors: {", ".join(origin.authors)}. {card.notes}
"""


def _stated(entry: dict[str, Any], key: str, otherwise: str) -> str:
    """Return a field of a data set, or `otherwise` if it is empty or the placeholder "yours"."""
    text = str(entry.get(key) or "")
    return otherwise if text in ("", "yours") else text


def _validation(card: ModelCard) -> str:
    """Return the scores on validation images, and what was selected on the same images."""
    scores = card.metrics.get("validation", {})
    known = ", ".join(f"{k.upper()} {scores[k]:.3f}" for k in ("aji", "pq") if k in scores)
    if not known:
        return "No scores are stated."
    # by default, a recipe selects both
    checkpoint = card.recipe.get("train", {}).get("keep", "best") == "best"
    thresholds = card.recipe.get("decode", {}).get("tune", True)
    chosen = " and ".join(["the checkpoint"] * checkpoint + ["the thresholds"] * thresholds)
    said = f"{known}, on images of patients that the model was not trained on."
    if not chosen:
        return said
    return f"{said} These images were used to choose {chosen}, so the scores are too high."


def _example(card: ModelCard) -> UInt8:
    """Return tissue at the model's resolution."""
    source = open_source(EXAMPLE)
    slide = Reader(source, float(source.mpp or card.mpp))
    x, y = (round(place / card.mpp) for place in _EXAMPLE_AT)
    return slide.read((x, y, x + _EDGE_PX, y + _EDGE_PX), card.mpp)


def _npy(array: Any) -> bytes:  # noqa: ANN401
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _png(image: UInt8) -> bytes:
    return bytes(cv2.imencode(".png", image[..., ::-1] if image.ndim == 3 else image)[1])

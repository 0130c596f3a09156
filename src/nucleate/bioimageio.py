"""A model as a package of the BioImage Model Zoo: its network for ImageJ, Fiji, ilastik and others.

Those programs run the network and get its maps; finding single nuclei in the maps is the decoder's
work, which is described in the package's README.md.

References:
    Ouyang et al. 2022, doi:10.1101/2022.06.07.495102; the format 0.5 of bioimage.io.
"""

from __future__ import annotations

import io
import re
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from nucleate import __version__
from nucleate.checkpoint import CARD, EXAMPLE, ONNX, OPSET, find_model, read_card, trusted_file
from nucleate.errors import ModelError
from nucleate.inference.engine import segment
from nucleate.inference.load import load_model
from nucleate.io.exports import draw_outlines
from nucleate.io.files import atomic
from nucleate.io.grids import Slide
from nucleate.io.slides import open_source
from nucleate.types import INSTANCES, ModelCard, UInt8

_FORMAT = "0.5.3"
_EXAMPLE_AT = (170, 40)  # µm from the corner of the example: where tissue is
_EDGE_PX = 512


def write_package(model: str | Path, out: Path) -> list[str]:
    """Write a model as a bioimage.io package (zip).

    Args:
        model: bundled name, model folder, or run folder.
        out: file to write.

    Returns:
        The names of the files inside.

    Raises:
        ModelError: no such model, a detector (its outputs are no maps), or an ensemble.
        OutputError: the file cannot be written.
    """
    folder = find_model(model)
    card = read_card(folder)
    if card.heads == [INSTANCES] or ONNX not in card.files:
        raise ModelError(
            f"{card.name}: bioimage.io takes networks that draw maps, as ONNX. Name a model with "
            "heads such as foreground and distance."
        )
    picture = _example(card)
    ready = load_model(folder, device="cpu", backend="openvino", precision="f32")
    maps = ready.backend(picture[None])
    files = {
        ONNX: trusted_file(folder, card, ONNX).read_bytes(),
        CARD: (folder / CARD).read_bytes(),
        "image.npy": _npy(picture[None]),
        "image.png": _png(picture),
        **{f"{head}.npy": _npy(drawn.astype(np.float32)) for head, drawn in maps.items()},
        **{
            f"{head}.png": _png(np.rint(255 * drawn[0]).astype(np.uint8))
            for head, drawn in maps.items()
        },
        "cover.png": _png(draw_outlines(picture, segment(picture, ready, card.mpp))),
        "README.md": _readme(card).encode(),
    }
    described = _describe(card, list(maps))
    files["bioimageio.yaml"] = yaml.safe_dump(
        described, sort_keys=False, allow_unicode=True
    ).encode()
    with atomic(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as package:
        for name, data in files.items():
            package.writestr(name, data)
    return sorted(files)


def _describe(card: ModelCard, heads: list[str]) -> dict[str, Any]:
    """Return the package's description, as the format asks for it."""
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
        "authors": [{"name": "the nucleate authors"}],
        "cite": _cite(card),
        "license": card.licence,
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


def _cite(card: ModelCard) -> list[dict[str, str]]:
    """Return what the training data are to be cited as, once each."""
    said = dict.fromkeys(str(e["citation"]) for e in card.training_data if e.get("citation"))
    entries = []
    for text in said or ["nucleate"]:
        doi = re.search(r"doi:(10\.[^\s;,]+)", text)
        where = (
            {"doi": doi.group(1).rstrip(".")}
            if doi
            else {"url": "https://bioimage.io/"}  # the format asks for one of both
        )
        entries.append({"text": text, **where})
    return entries


def _readme(card: ModelCard) -> str:
    data = "\n".join(
        f"- {entry['name']}: {entry.get('licence', 'licence unknown')}. {entry.get('citation', '')}"
        for entry in card.training_data
        if "name" in entry
    )
    values = ", ".join(f"{name} {value:g}" for name, value in card.thresholds.items())
    scores = card.metrics.get("validation", {})
    known = ", ".join(f"{k.upper()} {scores[k]:.3f}" for k in ("aji", "pq") if k in scores)
    stain = (
        "\nThe stain of pictures is normalised first (nucleate does that; other programs do not).\n"
        if card.stain
        else ""
    )
    return f"""# {card.name}

Maps of nuclei in H&E-stained tissue, {card.mpp:g} micrometres per pixel. Resample pictures to that.
{stain}
Input: RGB bytes. The maps become nuclei by the decoder `{card.decoder}` ({values}): `pip install
nucleate`, then `nucleate segment PICTURE -o out/`, does everything, tiles and slides included.

## Validation

Held-out patients: {known or "not stated"}. Run the model on your own pictures, and look, before you
rely on it.

## Training data

{data}

The weights are {card.licence}, as these data ask for. {card.notes}
"""


def _example(card: ModelCard) -> UInt8:
    """Return tissue at the model's resolution."""
    source = open_source(EXAMPLE)
    slide = Slide(source, float(source.mpp or card.mpp))
    x, y = (round(place / card.mpp) for place in _EXAMPLE_AT)
    return slide.read((x, y, x + _EDGE_PX, y + _EDGE_PX), card.mpp)


def _npy(array: Any) -> bytes:  # noqa: ANN401
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _png(image: UInt8) -> bytes:
    return bytes(cv2.imencode(".png", image[..., ::-1] if image.ndim == 3 else image)[1])

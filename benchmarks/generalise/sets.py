"""The five data sets of the judge: where they are, packed small, and read back.

They are packed (`pack.py`) so that they travel to a machine with a GPU; the judge reads nothing
else, so that a fold is the same wherever it runs.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nucleate.config import DataConfig, SetConfig
from nucleate.datasets.base import Entry
from nucleate.datasets.folder import FORMAT, MANIFEST
from nucleate.datasets.loading import Collection, at_mpp, list_entries, list_sets
from nucleate.datasets.splits import Split
from nucleate.types import Sample, UInt8

ROOT = Path(__file__).parents[2]
PACKED = ROOT / ".gpu" / "generalise"
MPP = 0.25
LEAST_PX = 128  # crops whose shorter side is below are neither trained nor tested on


@dataclass(frozen=True, slots=True)
class Part:
    """One published part of a data set, as `nucleate` reads it."""

    reader: str
    path: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set of the judge.

    Attributes:
        title: for people.
        parts: that count as one set.
    """

    title: str
    parts: tuple[Part, ...]


SETS = {
    "monuseg": DataSet(
        "MoNuSeg",
        (
            Part("monuseg", "MoNuSeg/MoNuSeg 2018 Training Data.zip"),
            Part("monuseg", "MoNuSeg/extra7.zip"),
        ),
    ),
    "tnbc": DataSet("TNBC", (Part("folder", "TNBC", {"mpp": 0.25, "group": "^([0-9]+)_"}),)),
    "cryonuseg": DataSet("CryoNuSeg", (Part("cryonuseg", "CryoNuSeg"),)),
    "monusac": DataSet(
        "MoNuSAC61", (Part("folder", "MoNuSAC61", {"mpp": 0.25, "channels": "bgr"}),)
    ),
    "consep": DataSet("CoNSeP", (Part("consep", "CoNSeP/Train"),)),
}


def published(name: str, data: Path) -> list[Sample]:
    """Return the samples of a set from its published files, each at its own resolution.

    Official test images and crops below `LEAST_PX` are left out.
    """
    found = []
    for part in SETS[name].parts:
        for entry in list_entries(part.reader, data / part.path, part.options):
            if entry.test_only:
                continue
            sample = entry.read()
            if min(sample.image.shape[:2]) >= LEAST_PX:
                found.append(sample)
    return found


def write_set(samples: list[Sample], path: Path, quality: int) -> None:
    """Write samples as a zip file that the reader `folder` reads: WebP images, packed labels."""
    facts: dict[str, Any] = {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for sample in samples:
            if sample.labels is None:
                raise SystemExit(f"{sample.name}: has no labels. Copy the data set again.")
            archive.writestr(f"images/{sample.name}.webp", webp(sample.image, quality))
            packed = io.BytesIO()
            np.save(packed, sample.labels.astype(np.uint16))
            archive.writestr(f"labels/{sample.name}.npy", packed.getvalue(), zipfile.ZIP_LZMA)
            if sample.ignore is not None and sample.ignore.any():
                mask = cv2.imencode(".png", sample.ignore.astype(np.uint8) * 255)[1].tobytes()
                archive.writestr(f"ignore/{sample.name}.png", mask)
            facts[sample.name] = {"group": sample.group, "mpp": sample.mpp}
        archive.writestr(MANIFEST, json.dumps({"format": FORMAT, "images": facts}))


def webp(image: UInt8, quality: int) -> bytes:
    """Return an image as WebP: smaller than JPEG at the same error."""
    from PIL import Image

    packed = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(packed, "WEBP", quality=quality, method=5)
    return packed.getvalue()


def set_config(name: str, **more: Any) -> SetConfig:
    """Return what a recipe states of a packed set."""
    return SetConfig(name="folder", path=f"{name}.zip", title=SETS[name].title, **more)


def read_training(data: DataConfig, packed: Path) -> list[Sample]:
    """Return the samples of all sets of a recipe, at its resolution: nobody is held out."""
    entries, _, sources = list_sets(data.sets, packed)
    names = tuple(entries)
    split = Split({"train": names}, {name: entry.group for name, entry in entries.items()})
    return Collection(entries, split, sources, tuple(data.sets)).read("train", data.mpp)


def read_test(name: str, packed: Path) -> list[Sample]:
    """Return the samples of a set as the judge scores them: at 0.25 um/px."""
    entries: list[Entry] = list_entries("folder", packed / f"{name}.zip")
    return [at_mpp(entry.read(), MPP) for entry in entries]


def digest(packed: Path) -> str:
    """Return the first digits of a hash of all packed sets, to tell results apart."""
    found = hashlib.sha256()
    for path in sorted(packed.glob("*.zip")):
        found.update(path.read_bytes())
    return found.hexdigest()[:12]

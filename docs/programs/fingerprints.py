"""Put fingerprints of their training images into the bundled models' cards, and measure them.

python docs/programs/fingerprints.py DATA [OTHER …]

DATA is the folder that the cards' recipes start from. OTHER are files and folders of images that no
bundled model has seen: none of them may count as a copy. Prints how many changed copies are found.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from nucleate.config import DataConfig
from nucleate.datasets.loading import collect
from nucleate.models.card import BUNDLED, read_card, write_card
from nucleate.models.fingerprints import MOST_BITS, fingerprint, fingerprints, is_copy
from nucleate.readers.images import read_image
from nucleate.slides.find_sources import find_sources


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Return an image after JPEG."""
    coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(coded, cv2.IMREAD_COLOR)


def scaled(image: np.ndarray, factor: float) -> np.ndarray:
    """Return an image of another size."""
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=way)


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "renamed": lambda image: image,
    "JPEG 90": lambda image: jpeg(image, 90),
    "JPEG 75": lambda image: jpeg(image, 75),
    "JPEG 50": lambda image: jpeg(image, 50),
    "half the size": lambda image: scaled(image, 0.5),
    "twice the size": lambda image: scaled(image, 2),
    "half the size, JPEG 50": lambda image: jpeg(scaled(image, 0.5), 50),
    "a quadrant, JPEG 75": lambda image: jpeg(
        np.ascontiguousarray(image[: image.shape[0] // 2, : image.shape[1] // 2]), 75
    ),
}


def main(root: Path, others: list[str]) -> None:
    """Write the cards, and print what was measured."""
    images: dict[str, np.ndarray] = {}
    for folder in sorted(BUNDLED.iterdir()):
        if not folder.is_dir():
            continue
        card = read_card(folder)
        data = collect(DataConfig.model_validate(card.recipe["data"]), root)
        *before, own = card.training_data
        if own["split_sha256"] != data.split.digest:
            raise SystemExit(f"{folder.name}: DATA gives another split than its card.")
        parts = {part: data.split.parts[part] for part in ("train", "validation")}
        names = [name for named in parts.values() for name in named]
        images |= {name: data.entries[name].read().image for name in names if name not in images}
        prints = {
            part: sorted({fingerprints(images[name]) for name in named} - {""})
            for part, named in parts.items()
        }
        write_card(folder, replace(card, training_data=[*before, {**own, "fingerprints": prints}]))
        print(f"{folder.name}: {len(names)} images")
    known = [fingerprints(image) for image in images.values()]
    for name, change in COPIES.items():
        found = sum(is_copy(change(image), known) for image in images.values())
        print(f"{name}: {found} of {len(images)} found")
    strange = {str(path): read_image(path)[0] for path in find_sources(others)} if others else {}
    print(f"{sum(is_copy(i, known) for i in strange.values())} of {len(strange)} others found")
    seen, new = bits(known), bits([fingerprint(i) for i in strange.values()])
    apart = np.bitwise_count(seen[:, None] ^ new[None])
    print(f"nearest of them: {apart.min(initial=64)} bits; a copy is up to {MOST_BITS}")
    alone = bits([fingerprint(image) for image in images.values()])
    apart = np.bitwise_count(alone[:, None] ^ alone[None])[np.triu_indices(len(alone), 1)]
    print(f"nearest two training images: {apart.min()} bits")


def bits(texts: list[str]) -> np.ndarray:
    """Return fingerprints as integers."""
    return np.frombuffer(bytes.fromhex("".join(texts)), ">u8").astype(np.uint64)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

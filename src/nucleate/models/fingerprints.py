"""Perceptual hashes that recognise a model's training images after renaming or re-encoding.

A fingerprint is 16 hexadecimal digits: the signs of the 63 lowest frequencies of the image's
brightness. JPEG at quality 50, half or twice the size and a mild change of brightness flip a few
of them; half of them differ between unrelated images. A card stores one fingerprint of each image
and of each quadrant, so that an image cut into four is recognised too. Other crops, rotations and
mirror images are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nucleate.cards import EncoderCard, ModelCard
from nucleate.types import UInt8

MOST_BITS = 6  # copies of one image differ in at most this many bits
_EDGE, _LOWEST = 32, 8  # edges of the reduced image and of the block of frequencies
_LEAST_SD = 3.0  # grey levels; below this an image is blank and its signs are noise


def fingerprint(image: UInt8) -> str:
    """Return the fingerprint of an image, empty if it is blank.

    Args:
        image: uint8 (H, W, 3).

    Example:
        >>> ramp = np.repeat(np.arange(64, dtype=np.uint8)[None, :, None], 3, 2).repeat(64, 0)
        >>> fingerprint(ramp), fingerprint(ramp) == fingerprint(ramp[::2, ::2])
        ('0000000000000000', True)
        >>> fingerprint(np.zeros((9, 9, 3), np.uint8))
        ''
    """
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(grey, (_EDGE, _EDGE), interpolation=cv2.INTER_AREA)
    if small.std() < _LEAST_SD:
        return ""
    signs = cv2.dct(small)[:_LOWEST, :_LOWEST].ravel() > 0
    signs[0] = False  # the mean brightness
    return np.packbits(signs).tobytes().hex()


def fingerprints(image: UInt8) -> str:
    """Return the joined fingerprints of an image and its four quadrants, without blank ones."""
    height, width = image.shape[0] // 2, image.shape[1] // 2
    parts = [image]
    if min(height, width) >= _EDGE:
        rows, columns = (slice(height), slice(height, None)), (slice(width), slice(width, None))
        parts += [image[y, x] for y in rows for x in columns]
    return "".join(fingerprint(part) for part in parts)


def is_fingerprints(text: object) -> bool:
    """Return whether a value of a card has the form that `fingerprints` returns.

    Example:
        >>> is_fingerprints("0123456789abcdef"), is_fingerprints("0123")
        (True, False)
    """
    return isinstance(text, str) and re.fullmatch(r"(?:[0-9a-f]{16})*", text) is not None


def is_copy(image: UInt8, known: Iterable[str]) -> bool:
    """Return whether an image is a copy of a known image or of a quadrant of one.

    Args:
        image: uint8 (H, W, 3).
        known: results of `fingerprints`.
    """
    mine, theirs = fingerprint(image), "".join(known)
    if not mine or not theirs:
        return False
    apart = np.bitwise_count(_integers(theirs) ^ _integers(mine))
    return bool(apart.min() <= MOST_BITS)


def seen_as(
    card: ModelCard | EncoderCard, group: str | None, image: UInt8 | None, own_names: bool = True
) -> str | None:
    """Return how a model has used an image before, or None.

    Args:
        card: model card.
        group: patient or slide of the image; None if unknown.
        image: uint8 (H, W, 3); None if not available.
        own_names: whether `group` is named as in a recipe; if not, only TCGA patients, whose names
            are the same everywhere, are looked up.

    Returns:
        "trained on" or "chosen on" (for the checkpoint or the thresholds), and the evidence:
        "its patient" or "its pixels".
    """
    if group is not None and not own_names and not group.startswith("TCGA-"):
        group = None
    for part, how in (("train", "trained on"), ("validation", "chosen on")):
        if group is not None and group in _listed(card, "groups", part):
            return f"{how}: its patient"
        if image is not None and is_copy(image, _listed(card, "fingerprints", part)):
            return f"{how}: its pixels"
    return None


def looked_at(card: ModelCard | EncoderCard) -> list[str]:
    """Return the fingerprints of all images that a model was trained on."""
    return _listed(card, "fingerprints", "train")


def _listed(card: ModelCard | EncoderCard, key: str, part: str) -> list[str]:
    found: list[dict[str, Any]] = [entry.get(key, {}) for entry in card.training_data]
    return [value for lists in found for value in lists.get(part, ())]


def _integers(digits: str) -> NDArray[np.uint64]:
    return np.frombuffer(bytes.fromhex(digits), ">u8").astype(np.uint64)

"""Crop → crop with artefacts: ink, dust, folds, blur, red cells, bubbles, keratin, glass.

Artefacts are rare in annotated images and common on slides. Each is one function that draws on an
image and states which pixels are hidden or vague; `with_artefacts` chooses them and updates the
labels. To add an artefact, write its function and add a row to `ARTEFACTS`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nucleate.artefacts.drawing import Drawn
from nucleate.artefacts.glass import blur, bubble, dust, ink, plain, seam
from nucleate.artefacts.tissue import fold, keratin, pale, red_cells
from nucleate.geometry.labels import compact
from nucleate.types import Bool, Int32, UInt8

_LOST = 0.5  # hidden share of a nucleus above which the rest is ignored


def with_artefacts(
    image: UInt8, labels: Int32, ignore: Bool, rng: np.random.Generator, px_per_um: float = 4.0
) -> tuple[UInt8, Int32, Bool]:
    """Draw one or two artefacts on a crop, as background.

    Hidden pixels of a nucleus become background. If more than half of a nucleus is hidden, the
    rest is ignored.

    Args:
        image: uint8 (H, W, 3), RGB.
        labels: int32 (H, W), 0 is background.
        ignore: bool (H, W), True where pixels are ignored.
        rng: source of all randomness.
        px_per_um: pixels per micrometre.

    Returns:
        Image, labels and ignored areas, of the same shapes.
    """
    names, chances = list(ARTEFACTS), np.array([chance for _, chance in ARTEFACTS.values()])
    count = 1 + int(rng.random() < 0.3)
    for number in rng.choice(len(names), count, replace=False, p=chances / chances.sum()):
        drawn = ARTEFACTS[names[number]][0](image, rng, px_per_um)
        image = drawn.image
        labels, ignore = settled(labels, ignore | drawn.vague, drawn.hidden)
    return image, labels, ignore


def settled(labels: Int32, ignore: Bool, hidden: Bool) -> tuple[Int32, Bool]:
    """Remove hidden pixels from the labels, and ignore the rest of mostly hidden nuclei.

    Args:
        labels: int32 (H, W), 0 is background.
        ignore: bool (H, W).
        hidden: bool (H, W), where the tissue is covered.

    Example:
        >>> labels, nothing = np.array([[1, 1, 1, 2, 2, 2]], np.int32), np.zeros((1, 6), bool)
        >>> hidden = np.array([[0, 0, 1, 1, 1, 0]], bool)
        >>> [part.astype(int).tolist() for part in settled(labels, nothing, hidden)]
        [[[1, 1, 0, 0, 0, 2]], [[0, 0, 0, 0, 0, 1]]]
    """
    if not hidden.any():
        return labels, ignore
    numbers, old = compact(labels)
    total = np.bincount(numbers.ravel(), minlength=len(old) + 1)
    lost = np.bincount(numbers[hidden], minlength=len(old) + 1)
    rest = lost > _LOST * total
    rest[0] = False
    left = np.where(hidden, 0, labels).astype(np.int32)
    return left, (ignore & ~hidden) | (rest[numbers] & (left > 0))


Artefact = Callable[[UInt8, np.random.Generator, float], Drawn]
# name -> drawing function, and its relative frequency
ARTEFACTS: dict[str, tuple[Artefact, float]] = {
    "ink": (ink, 0.20),
    "keratin": (keratin, 0.16),
    "red_cells": (red_cells, 0.16),
    "dust": (dust, 0.12),
    "fold": (fold, 0.09),
    "blur": (blur, 0.09),
    "bubble": (bubble, 0.06),
    "pale": (pale, 0.05),
    "seam": (seam, 0.04),
    "plain": (plain, 0.03),
}

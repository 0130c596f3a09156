"""Drawing of an artefact: pixels that it hides, and pixels where the truth is unclear."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nucleate.types import Bool, Float32, Float64, UInt8

SURELY, HARDLY = 0.65, 0.35  # a nucleus is hidden from this opacity, and visible below this one


class Drawn(NamedTuple):
    """An image with an artefact.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        hidden: bool (H, W), where the artefact hides the tissue.
        vague: bool (H, W), where nuclei cannot be judged.
    """

    image: UInt8
    hidden: Bool
    vague: Bool


def finished(out: Float32, opacity: Float32, rng: np.random.Generator) -> Drawn:
    """Add camera grain where an artefact was drawn, and compute what it hides."""
    grain = rng.standard_normal(out.shape[:2], np.float32) * np.float32(rng.uniform(0.5, 3))
    grainy = out + (grain * np.clip(opacity, 0, 1))[..., None]
    hidden = opacity > SURELY
    return Drawn(as_bytes(grainy), hidden, (opacity > HARDLY) & ~hidden)


def as_bytes(values: Float32) -> UInt8:
    """Round values and clip them to 0..255."""
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def blend(below: Float32, above: Float32, alpha: Float32 | Float64) -> Float32:
    """Blend `above` (…, 3) over `below` (H, W, 3) with an opacity (H, W)."""
    return np.asarray(below + (above - below) * alpha[..., None].astype(np.float32), np.float32)

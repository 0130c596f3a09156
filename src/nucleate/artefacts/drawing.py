"""An artefact drawn on an image: what covers what, and where nobody can tell."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nucleate.types import Bool, Float32, Float64, UInt8

SURELY, HARDLY = 0.65, 0.35  # opacity from which a nucleus is hidden, and below which it is seen


class Drawn(NamedTuple):
    """What an artefact made of an image.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        hidden: bool (H, W), where it covers what was there.
        vague: bool (H, W), where nobody can tell what is there.
    """

    image: UInt8
    hidden: Bool
    vague: Bool


def finished(out: Float32, opacity: Float32, rng: np.random.Generator) -> Drawn:
    """Return a drawn image with the grain of a camera where it was drawn on, and what it hides."""
    grain = rng.standard_normal(out.shape[:2], np.float32) * np.float32(rng.uniform(0.5, 3))
    grainy = out + (grain * np.clip(opacity, 0, 1))[..., None]
    hidden = opacity > SURELY
    return Drawn(as_bytes(grainy), hidden, (opacity > HARDLY) & ~hidden)


def as_bytes(values: Float32) -> UInt8:
    """Return values rounded to 0..255."""
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def blend(below: Float32, above: Float32, alpha: Float32 | Float64) -> Float32:
    """Return `above` (…, 3) over `below` (H, W, 3) at an opacity (H, W)."""
    return np.asarray(below + (above - below) * alpha[..., None].astype(np.float32), np.float32)

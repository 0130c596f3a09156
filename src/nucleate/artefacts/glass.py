"""Artefacts of the slide and its scan: ink, dust, bubbles, blur, tile seams, empty crops."""

from __future__ import annotations

import cv2
import numpy as np

from nucleate.artefacts.drawing import Drawn, as_bytes, blend, finished
from nucleate.artefacts.shapes import (
    blob,
    field,
    spots,
    stroke,
)
from nucleate.types import UInt8

_SEEN_BLUR_UM = 0.8  # largest standard deviation of a blur at which nuclei are still outlined


def ink(image: UInt8, rng: np.random.Generator, px_per_um: float) -> Drawn:
    """Draw pen ink: a stroke, some spots, or ink all over the image.

    Ink absorbs light: thin ink tints the tissue, thick ink hides it. It is on the cover glass, out
    of focus, so its rim is mostly soft.
    """
    size = image.shape[:2]
    kind = rng.choice(3, p=(0.6, 0.22, 0.18))
    if kind == 0:
        cover = np.zeros(size, np.float32)
        for _ in range(int(rng.integers(1, 3))):
            width = px_per_um * np.exp(rng.uniform(np.log(2.5), np.log(30)))
            cover = np.maximum(cover, stroke(size, width, rng))
    elif kind == 1:
        cover = spots(size, int(rng.integers(3, 25)), (px_per_um * 0.8, px_per_um * 6), rng)
    else:
        cover = np.ones(size, np.float32)
    soft = px_per_um * rng.choice((0.2, 0.6, 1.5), p=(0.4, 0.4, 0.2))
    cover = cv2.GaussianBlur(cover, (0, 0), soft)
    rim = np.clip(4 * cover * (1 - cover), 0, 1)  # ink is denser at its rim
    streaks = 1 + 0.18 * field(size, (40.0, 5.0), rng) + 0.1 * field(size, (3.0, 3.0), rng)
    amount = cover * streaks * (1 + rng.uniform(0, 0.35) * rim)
    opacity = rng.uniform(0.25, 1.0) if rng.random() < 0.5 else rng.uniform(0.85, 1.0)
    colour = np.array(_INKS[int(rng.integers(len(_INKS)))], np.float32)
    colour = np.clip(colour * rng.uniform(0.75, 1.25) + rng.normal(0, 10, 3), 3, 252)
    density = -np.log(colour / 255).astype(np.float32)
    tinted = image * np.exp(-amount[..., None] * density * (0.3 + opacity))
    pure = 255 * np.exp(-amount[..., None] * density)
    body = np.clip(opacity * amount, 0, 1)
    out = blend(tinted, pure, np.clip(1.6 * (body - 0.4), 0, 1))
    weak = float(density.max()) < 0.8  # nuclei show through yellow ink
    opaque = body * (0.7 if weak else 1.0)
    return finished(out, opaque, rng)


_INKS = (
    (35, 60, 150), (24, 24, 30), (20, 105, 75), (185, 30, 50),
    (85, 35, 120), (110, 62, 35), (232, 212, 70), (228, 125, 40),
)  # fmt: skip


def dust(image: UInt8, rng: np.random.Generator, px_per_um: float) -> Drawn:
    """Draw dust, a fibre, or grains of pigment."""
    size = image.shape[:2]
    kind = int(rng.integers(3))
    if kind == 0:  # a fibre, with a bright seam where it refracts light
        width = px_per_um * rng.uniform(0.4, 3.0)
        cover = stroke(size, width, rng, wobble=0.5)
        core = cv2.GaussianBlur(cover, (0, 0), max(0.5, width / 4))
        seam = np.clip(cv2.GaussianBlur(cover, (0, 0), width) - core, 0, 1)
        colour = rng.choice(((70, 55, 50), (60, 80, 140), (150, 135, 120), (160, 50, 70)))
        lit = blend(image.astype(np.float32), np.full(3, 250, np.float32), 0.9 * seam)
    elif kind == 1:
        cover = spots(size, int(rng.integers(4, 40)), (px_per_um * 0.4, px_per_um * 3), rng, 0.5)
        core = cv2.GaussianBlur(cover, (0, 0), px_per_um * rng.uniform(0.1, 0.7))
        colour = rng.choice(((25, 22, 22), (80, 60, 45), (60, 60, 75)))
        lit = image.astype(np.float32)
    else:  # heaps of grains, brown like melanin and iron, or black like soot
        heaps = spots(size, int(rng.integers(1, 7)), (px_per_um * 3, px_per_um * 11), rng, 0.4)
        grain = field(size, (0.35 * px_per_um, 0.35 * px_per_um), rng)
        core = heaps * np.clip(2.0 * (grain + rng.uniform(-0.6, 0.5)), 0, 1)
        colour = rng.choice(((95, 58, 28), (140, 95, 35), (35, 28, 25)))
        lit = image.astype(np.float32)
    opacity = rng.uniform(0.6, 1.0)
    tint = np.clip(np.asarray(colour, np.float32) + rng.normal(0, 8, 3), 0, 255)
    out = blend(lit, tint.astype(np.float32), opacity * core)
    return finished(out, opacity * core, rng)


def blur(image: UInt8, rng: np.random.Generator, px_per_um: float) -> Drawn:
    """Defocus a patch or the whole image; strongly blurred pixels are vague."""
    size = image.shape[:2]
    sd = px_per_um * rng.uniform(0.5, 1.5)
    patch = np.ones(size, np.float32) if rng.random() < 0.3 else blob(size, rng)
    patch = cv2.GaussianBlur(patch, (0, 0), 3 * px_per_um)
    soft = cv2.GaussianBlur(image, (0, 0), sd).astype(np.float32)
    out = blend(image.astype(np.float32), soft, patch)
    strong = sd > _SEEN_BLUR_UM * px_per_um
    return Drawn(as_bytes(out), np.zeros(size, bool), (patch > 0.5) & strong)


def bubble(image: UInt8, rng: np.random.Generator, px_per_um: float) -> Drawn:
    """Draw an air bubble below the glass: a dark double ring, paler inside."""
    size = image.shape[:2]
    out = image.astype(np.float32)
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    opaque = np.zeros(size, np.float32)
    for _ in range(int(rng.integers(1, 4))):
        radius = px_per_um * np.exp(rng.uniform(np.log(5), np.log(70)))
        centre = rng.uniform(-0.3, 1.3, 2) * size[::-1]
        far = np.hypot(x - np.float32(centre[0]), y - np.float32(centre[1])) - np.float32(radius)
        far = far + np.float32(0.03 * radius) * field(size, (60.0, 60.0), rng)
        width = px_per_um * rng.uniform(0.4, 2.2) * (0.5 + min(radius / 120, 1.0))
        inside = np.clip(0.5 - far / width, 0, 1)
        out = (
            out + (np.float32(246) - out) * (np.float32(rng.uniform(0.1, 0.7)) * inside)[..., None]
        )
        dark = np.exp(-((far / width) ** 2)) * np.float32(rng.uniform(0.6, 0.95))
        inner = np.exp(-(((far + 3.2 * width) / (0.7 * width)) ** 2)) * np.float32(
            rng.uniform(0.2, 0.7)
        )
        bright = np.exp(-(((far + 1.7 * width) / (0.6 * width)) ** 2)) * np.float32(0.7)
        shade = np.array(rng.choice(((45, 40, 50), (70, 60, 75), (20, 18, 22))), np.float32)
        out = blend(blend(out, np.full(3, 250, np.float32), bright), shade, np.maximum(dark, inner))
        opaque = np.maximum(opaque, np.maximum(np.maximum(dark, inner), bright))
    return finished(out, opaque, rng)


def seam(image: UInt8, rng: np.random.Generator, px_per_um: float) -> Drawn:
    """Draw tiles that differ in brightness and tint, with or without a line between them."""
    size = image.shape[:2]
    out = image.astype(np.float32)
    for axis in (0, 1) if rng.random() < 0.3 else (int(rng.integers(2)),):
        at = int(rng.integers(size[axis] // 8, 7 * size[axis] // 8))
        tile = (slice(at, None), slice(None))[:: 1 if axis == 0 else -1]
        gain = 1 + rng.normal(0, 0.07) + rng.normal(0, 0.02, 3)
        out[tile] = out[tile] * gain.astype(np.float32)
        if rng.random() < 0.4:
            line = (slice(at, at + int(rng.integers(1, 4))), slice(None))[:: 1 if axis == 0 else -1]
            out[line] = out[line] * np.float32(rng.uniform(0.6, 1.3))
    nothing = np.zeros(size, bool)
    return Drawn(as_bytes(out), nothing, nothing)


def plain(image: UInt8, rng: np.random.Generator, px_per_um: float) -> Drawn:
    """Return an empty crop: white, grey, black or one colour, with or without noise."""
    level = rng.choice(
        (rng.uniform(225, 255), rng.uniform(60, 225), rng.uniform(0, 40)), p=(0.5, 0.3, 0.2)
    )
    colour = np.clip(level + rng.normal(0, 6 if rng.random() < 0.7 else 40, 3), 0, 255)
    out = np.broadcast_to(colour.astype(np.float32), image.shape)
    out = out * (1 + rng.uniform(0, 0.06) * field(image.shape[:2], (80.0, 80.0), rng))[..., None]
    if rng.random() < 0.6:
        sd = rng.uniform(1, 8) if rng.random() < 0.7 else rng.uniform(8, 50)
        grain = rng.standard_normal(image.shape, np.float32) * np.float32(sd)
        out = out + cv2.GaussianBlur(grain, (0, 0), 0.3 + rng.uniform(0, 1.5))
    everywhere = np.ones(image.shape[:2], bool)
    return Drawn(as_bytes(out), everywhere, ~everywhere)

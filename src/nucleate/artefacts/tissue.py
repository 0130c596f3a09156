"""Artefacts of the tissue: folds, red blood cells, keratin, pale areas."""

from __future__ import annotations

import cv2
import numpy as np

from nucleate.artefacts.drawing import HARDLY, Drawn, as_bytes, blend, finished
from nucleate.artefacts.shapes import (
    bent,
    blob,
    cells,
    field,
    looked_up,
    packed_centres,
    stroke,
)
from nucleate.types import Float32, UInt8


def fold(image: UInt8, rng: np.random.Generator, px_per_um: float) -> Drawn:
    """Draw a fold, a strip of double tissue in which nuclei cannot be judged."""
    size = image.shape[:2]
    width = px_per_um * rng.uniform(6, 26)
    strip = stroke(size, width, rng, wobble=0.35)
    soft = cv2.GaussianBlur(strip, (0, 0), px_per_um * rng.uniform(0.15, 0.6))
    turned = np.ascontiguousarray(image[:, ::-1] if rng.random() < 0.5 else image[::-1])
    above = np.roll(turned, tuple(rng.integers(-30, 31, 2)), (0, 1))
    above = cv2.GaussianBlur(above, (0, 0), px_per_um * rng.uniform(0.2, 0.7))
    twice = image.astype(np.float32) * (above.astype(np.float32) / 255) ** rng.uniform(0.7, 1.2)
    # the edges of a fold are denser
    seam = np.clip(cv2.GaussianBlur(strip, (0, 0), px_per_um * 1.2), 0, 1)
    twice *= 1 - 0.35 * (4 * seam * (1 - seam))[..., None] * rng.uniform(0.3, 1)
    out = blend(image.astype(np.float32), twice, soft)
    return Drawn(as_bytes(out), np.zeros(size, bool), soft > HARDLY)


def red_cells(image: UInt8, rng: np.random.Generator, px_per_um: float) -> Drawn:
    """Draw red blood cells, single or packed: discs of 5 to 8 um."""
    size = image.shape[:2]
    radius = px_per_um * rng.uniform(2.5, 4.0)
    packed = rng.random() < 0.55
    region = (blob(size, rng) if rng.random() < 0.7 else np.ones(size, np.float32)) > 0.5
    out = image.astype(np.float32)
    cover = np.zeros(size, np.float32)
    if packed:  # plasma, or nothing, between packed cells
        plasma = np.array((238, 212, 222), np.float32) + rng.normal(0, 8, 3).astype(np.float32)
        cover = cv2.GaussianBlur(region.astype(np.float32), (0, 0), radius / 3)
        out = blend(out, np.clip(plasma, 0, 255).astype(np.float32), 0.92 * cover)
        centres = packed_centres(size, radius * rng.uniform(1.65, 2.1), rng)
        centres = [c for c in centres if region[int(c[1]) % size[0], int(c[0]) % size[1]]]
    else:
        centres = [tuple(rng.uniform(0, size[::-1])) for _ in range(int(rng.integers(4, 30)))]
    colour = np.array((214, 108, 112), np.float32) * rng.uniform(0.8, 1.12)
    colour += rng.uniform(-1, 1) * np.array((8, 14, -14), np.float32)  # orange to deep pink
    paleness = rng.uniform(0.0, 0.5)
    for centre in centres:
        own = np.clip(colour * rng.uniform(0.92, 1.07) + rng.normal(0, 4, 3), 20, 250)
        pale = np.clip(paleness + rng.normal(0, 0.1), 0, 0.7)
        shape = (
            radius * rng.uniform(0.85, 1.12),
            rng.uniform(0.55, 1.0) ** 0.5,
            rng.uniform(0, np.pi),
        )
        _red_cell(out, cover, centre, shape, own.astype(np.float32), float(pale), rng)
    return finished(out, cover, rng)


def _red_cell(
    out: Float32,
    cover: Float32,
    centre: tuple[float, ...],
    shape: tuple[float, float, float],
    colour: Float32,
    pale: float,
    rng: np.random.Generator,
) -> None:
    """Draw one cell on `out` (H, W, 3), and its opacity on `cover` (H, W).

    Args:
        out: changed in place.
        cover: changed in place.
        centre: x and y, in pixels.
        shape: radius in pixels, share of the short axis, and angle.
        colour: float32 (3,).
        pale: how much paler the centre is.
        rng: source of randomness, for the dents.
    """
    radius, flat, angle = shape
    reach = int(radius * 1.35) + 2
    x0, y0 = max(0, int(centre[0]) - reach), max(0, int(centre[1]) - reach)
    window = out[y0 : int(centre[1]) + reach, x0 : int(centre[0]) + reach]
    if min(window.shape[:2]) < 1:
        return
    y, x = np.mgrid[: window.shape[0], : window.shape[1]].astype(np.float32)
    x, y = x + np.float32(x0 - centre[0]), y + np.float32(y0 - centre[1])
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = cosine * x + sine * y, (cosine * y - sine * x) / np.float32(flat)
    around = np.arctan2(across, along)
    dents = sum(
        rng.normal(0, 0.06 / k) * np.cos(k * around + np.float32(rng.uniform(0, 6.3)))
        for k in (2, 3, 4)
    )
    far = np.hypot(along, across) / np.float32(radius) * (1 + dents)
    alpha = np.clip((1 - far) * np.float32(radius / 1.6) + 0.5, 0, 1) * np.float32(
        rng.uniform(0.86, 1)
    )
    middle = np.exp(-((far / 0.5) ** 2)) * np.float32(pale)
    rim = np.float32(0.12) * np.exp(-(((far - 0.93) / 0.09) ** 2))
    light = np.float32(255)
    own = colour + (light - colour) * middle[..., None] - colour * rim[..., None]
    window += (own - window) * alpha[..., None]
    at = cover[y0 : int(centre[1]) + reach, x0 : int(centre[0]) + reach]
    np.maximum(at, alpha, out=at)


def keratin(image: UInt8, rng: np.random.Generator, px_per_um: float) -> Drawn:
    """Draw sheets of keratin: wavy pink lamellae with flat, purplish streaks.

    Lamellae are noise that is coarse along them and fine across, bent by a smooth field. Streaks
    mark former nuclei, or sheets pressed together by the knife.
    """
    size = image.shape[:2]
    along, across = bent(size, rng, px_per_um)
    thick = px_per_um * np.exp(rng.uniform(np.log(0.5), np.log(2.5)))
    layers = [
        weight
        * looked_up(field((512, 256), (60.0 / k, 1.6), rng), along / (4 * k), across / (thick * k))
        for k, weight in ((1.0, 0.6), (2.5, 0.7), (6.0, 0.5))
    ]
    sheets = np.asarray(np.sum(layers, 0), np.float32)
    sheets = sheets / max(float(np.std(sheets)), 1e-3)
    pale, pink, deep = (
        np.clip(np.array(c, np.float32) + rng.normal(0, 9, 3).astype(np.float32), 0, 255)
        for c in ((247, 222, 232), (228, 150, 188), (186, 88, 146))
    )
    level = np.clip(0.5 + 0.24 * sheets + rng.uniform(-0.15, 0.2), 0, 1)[..., None]
    out = np.where(
        level < 0.5, pale + (pink - pale) * 2 * level, pink + (deep - pink) * (2 * level - 1)
    )
    split = np.clip((-sheets - rng.uniform(1.0, 2.2)) * 3, 0, 1)  # gaps between sheets
    out = blend(out, np.array((244, 240, 244), np.float32), 0.9 * split)
    # streaks follow the sheets: some cells of a grid in their coordinates
    long, high = px_per_um * rng.uniform(6, 14), px_per_um * rng.uniform(0.4, 1.0)
    streaks = cells(along / long, across / (2.5 * high), rng.uniform(0.03, 0.28), rng)
    dark = np.array((128, 74, 136), np.float32) + rng.normal(0, 12, 3).astype(np.float32)
    out = blend(
        out, np.clip(dark, 0, 255).astype(np.float32), np.float32(rng.uniform(0.25, 0.8)) * streaks
    )
    out = out * (1 + 0.03 * field(size, (2.0, 2.0), rng))[..., None]
    region = np.ones(size, np.float32) if rng.random() < 0.45 else blob(size, rng)
    cover = cv2.GaussianBlur(region, (0, 0), px_per_um * rng.uniform(0.2, 1.0))
    return finished(blend(image.astype(np.float32), out, cover), cover, rng)


def pale(image: UInt8, rng: np.random.Generator, px_per_um: float) -> Drawn:
    """Draw a flat pale area: mucin with strands, fat, or bare glass."""
    size = image.shape[:2]
    region = cv2.GaussianBlur(blob(size, rng), (0, 0), px_per_um * rng.uniform(0.2, 1.5))
    colour = np.array(rng.choice(((236, 233, 238), (214, 212, 232), (226, 214, 226))), np.float32)
    colour = np.clip(colour + rng.normal(0, 6, 3), 0, 255).astype(np.float32)
    out = np.broadcast_to(colour, image.shape).astype(np.float32)
    out = out * (1 + 0.025 * field(size, (50.0, 50.0), rng))[..., None]
    if rng.random() < 0.5:  # strands of mucin
        along, across = bent(size, rng, px_per_um)
        strands = np.exp(
            -(looked_up(field((512, 256), (30.0, 3.0), rng), along / 5, across / 3) ** 2) * 40
        )
        out = out - np.array((22, 20, 8), np.float32) * strands[..., None]
    return finished(blend(image.astype(np.float32), out, region), region, rng)

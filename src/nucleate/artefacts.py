"""Crop → crop with what is no nucleus: ink, dust, folds, blur, red cells, bubbles, keratin, glass.

Annotated images contain few of these, slides many. Each artefact is one function that draws on an
image and states which pixels it hides and where nobody can tell; `with_artefacts` chooses and
settles the labels. Adding an artefact: write its function, add a row to `ARTEFACTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from nucleate.geometry.labels import compact
from nucleate.types import Bool, Float32, Float64, Int32, UInt8

_SURELY, _HARDLY = 0.65, 0.35  # opacity from which a nucleus is hidden, and below which it is seen
_LOST = 0.5  # share of a nucleus that may be hidden before what is left counts for nobody
_SEEN_BLUR_UM = 0.8  # standard deviation of a blur through which a nucleus is still outlined


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


def with_artefacts(
    image: UInt8, labels: Int32, ignore: Bool, rng: np.random.Generator, px_per_um: float = 4.0
) -> tuple[UInt8, Int32, Bool]:
    """Return a crop with one or two artefacts, none of which is a nucleus.

    Pixels of a nucleus that are hidden become background. What is left of a nucleus that loses
    more than half of its pixels is ignored.

    Args:
        image: uint8 (H, W, 3), RGB.
        labels: int32 (H, W), 0 is background.
        ignore: bool (H, W), True where nothing counts.
        rng: the only source of chance.
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
    """Return labels without hidden pixels, and ignored areas with the rests of hidden nuclei.

    Args:
        labels: int32 (H, W), 0 is background.
        ignore: bool (H, W).
        hidden: bool (H, W), where something covers the tissue.

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


def ink(image: UInt8, rng: np.random.Generator, px_per_um: float) -> Drawn:
    """Return the image under a pen: a stroke, some spots, or ink all over it.

    Ink absorbs, so that thin ink tints the tissue; thick ink hides it. It is on the cover glass,
    above the focus, so that its rim is mostly soft.
    """
    size = image.shape[:2]
    kind = rng.choice(3, p=(0.6, 0.22, 0.18))
    if kind == 0:
        cover = np.zeros(size, np.float32)
        for _ in range(int(rng.integers(1, 3))):
            width = px_per_um * np.exp(rng.uniform(np.log(2.5), np.log(30)))
            cover = np.maximum(cover, _stroke(size, width, rng))
    elif kind == 1:
        cover = _spots(size, int(rng.integers(3, 25)), (px_per_um * 0.8, px_per_um * 6), rng)
    else:
        cover = np.ones(size, np.float32)
    soft = px_per_um * rng.choice((0.2, 0.6, 1.5), p=(0.4, 0.4, 0.2))
    cover = cv2.GaussianBlur(cover, (0, 0), soft)
    rim = np.clip(4 * cover * (1 - cover), 0, 1)  # ink gathers at its rim
    streaks = 1 + 0.18 * _field(size, (40.0, 5.0), rng) + 0.1 * _field(size, (3.0, 3.0), rng)
    amount = cover * streaks * (1 + rng.uniform(0, 0.35) * rim)
    opacity = rng.uniform(0.25, 1.0) if rng.random() < 0.5 else rng.uniform(0.85, 1.0)
    colour = np.array(_INKS[int(rng.integers(len(_INKS)))], np.float32)
    colour = np.clip(colour * rng.uniform(0.75, 1.25) + rng.normal(0, 10, 3), 3, 252)
    density = -np.log(colour / 255).astype(np.float32)
    tinted = image * np.exp(-amount[..., None] * density * (0.3 + opacity))
    pure = 255 * np.exp(-amount[..., None] * density)
    body = np.clip(opacity * amount, 0, 1)
    out = _blend(tinted, pure, np.clip(1.6 * (body - 0.4), 0, 1))
    weak = float(density.max()) < 0.8  # yellow lets nuclei through
    opaque = body * (0.7 if weak else 1.0)
    return _finished(out, opaque, rng)


_INKS = (
    (35, 60, 150), (24, 24, 30), (20, 105, 75), (185, 30, 50),
    (85, 35, 120), (110, 62, 35), (232, 212, 70), (228, 125, 40),
)  # fmt: skip


def dust(image: UInt8, rng: np.random.Generator, px_per_um: float) -> Drawn:
    """Return the image with dust, a fibre, or grains of pigment on it."""
    size = image.shape[:2]
    kind = int(rng.integers(3))
    if kind == 0:  # a fibre, with a bright seam where it bends the light
        width = px_per_um * rng.uniform(0.4, 3.0)
        cover = _stroke(size, width, rng, wobble=0.5)
        core = cv2.GaussianBlur(cover, (0, 0), max(0.5, width / 4))
        seam = np.clip(cv2.GaussianBlur(cover, (0, 0), width) - core, 0, 1)
        colour = rng.choice(((70, 55, 50), (60, 80, 140), (150, 135, 120), (160, 50, 70)))
        lit = _blend(image.astype(np.float32), np.full(3, 250, np.float32), 0.9 * seam)
    elif kind == 1:
        cover = _spots(size, int(rng.integers(4, 40)), (px_per_um * 0.4, px_per_um * 3), rng, 0.5)
        core = cv2.GaussianBlur(cover, (0, 0), px_per_um * rng.uniform(0.1, 0.7))
        colour = rng.choice(((25, 22, 22), (80, 60, 45), (60, 60, 75)))
        lit = image.astype(np.float32)
    else:  # grains in heaps, brown as melanin and iron are, or black as soot is
        heaps = _spots(size, int(rng.integers(1, 7)), (px_per_um * 3, px_per_um * 11), rng, 0.4)
        grain = _field(size, (0.35 * px_per_um, 0.35 * px_per_um), rng)
        core = heaps * np.clip(2.0 * (grain + rng.uniform(-0.6, 0.5)), 0, 1)
        colour = rng.choice(((95, 58, 28), (140, 95, 35), (35, 28, 25)))
        lit = image.astype(np.float32)
    opacity = rng.uniform(0.6, 1.0)
    tint = np.clip(np.asarray(colour, np.float32) + rng.normal(0, 8, 3), 0, 255)
    out = _blend(lit, tint.astype(np.float32), opacity * core)
    return _finished(out, opacity * core, rng)


def fold(image: UInt8, rng: np.random.Generator, px_per_um: float) -> Drawn:
    """Return the image with a strip where the tissue lies twice: nobody can tell nuclei."""
    size = image.shape[:2]
    width = px_per_um * rng.uniform(6, 26)
    strip = _stroke(size, width, rng, wobble=0.35)
    soft = cv2.GaussianBlur(strip, (0, 0), px_per_um * rng.uniform(0.15, 0.6))
    turned = np.ascontiguousarray(image[:, ::-1] if rng.random() < 0.5 else image[::-1])
    above = np.roll(turned, tuple(rng.integers(-30, 31, 2)), (0, 1))
    above = cv2.GaussianBlur(above, (0, 0), px_per_um * rng.uniform(0.2, 0.7))
    twice = image.astype(np.float32) * (above.astype(np.float32) / 255) ** rng.uniform(0.7, 1.2)
    # seams, where the tissue turns, are denser yet
    seam = np.clip(cv2.GaussianBlur(strip, (0, 0), px_per_um * 1.2), 0, 1)
    twice *= 1 - 0.35 * (4 * seam * (1 - seam))[..., None] * rng.uniform(0.3, 1)
    out = _blend(image.astype(np.float32), twice, soft)
    return Drawn(_bytes(out), np.zeros(size, bool), soft > _HARDLY)


def blur(image: UInt8, rng: np.random.Generator, px_per_um: float) -> Drawn:
    """Return the image out of focus, in a patch or all over; where it is strong nobody can tell."""
    size = image.shape[:2]
    sd = px_per_um * rng.uniform(0.5, 1.5)
    patch = np.ones(size, np.float32) if rng.random() < 0.3 else _blob(size, rng)
    patch = cv2.GaussianBlur(patch, (0, 0), 3 * px_per_um)
    soft = cv2.GaussianBlur(image, (0, 0), sd).astype(np.float32)
    out = _blend(image.astype(np.float32), soft, patch)
    strong = sd > _SEEN_BLUR_UM * px_per_um
    return Drawn(_bytes(out), np.zeros(size, bool), (patch > 0.5) & strong)


def red_cells(image: UInt8, rng: np.random.Generator, px_per_um: float) -> Drawn:
    """Return the image with red blood cells, singly or packed: discs of 5 to 8 um, no nuclei."""
    size = image.shape[:2]
    radius = px_per_um * rng.uniform(2.5, 4.0)
    packed = rng.random() < 0.55
    region = (_blob(size, rng) if rng.random() < 0.7 else np.ones(size, np.float32)) > 0.5
    out = image.astype(np.float32)
    cover = np.zeros(size, np.float32)
    if packed:  # between packed cells is plasma, or nothing
        plasma = np.array((238, 212, 222), np.float32) + rng.normal(0, 8, 3).astype(np.float32)
        cover = cv2.GaussianBlur(region.astype(np.float32), (0, 0), radius / 3)
        out = _blend(out, np.clip(plasma, 0, 255).astype(np.float32), 0.92 * cover)
        centres = _packed(size, radius * rng.uniform(1.65, 2.1), rng)
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
    return _finished(out, cover, rng)


def _red_cell(
    out: Float32,
    cover: Float32,
    centre: tuple[float, ...],
    shape: tuple[float, float, float],
    colour: Float32,
    pale: float,
    rng: np.random.Generator,
) -> None:
    """Draw one cell on `out` (H, W, 3) and its opacity on `cover` (H, W).

    Args:
        out: changed.
        cover: changed.
        centre: x and y, in pixels.
        shape: radius in pixels, share of the short axis, and angle.
        colour: float32 (3,).
        pale: how much lighter the middle is.
        rng: of the dents.
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


def bubble(image: UInt8, rng: np.random.Generator, px_per_um: float) -> Drawn:
    """Return the image with air below the glass: a dark double ring, and paler inside."""
    size = image.shape[:2]
    out = image.astype(np.float32)
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    opaque = np.zeros(size, np.float32)
    for _ in range(int(rng.integers(1, 4))):
        radius = px_per_um * np.exp(rng.uniform(np.log(5), np.log(70)))
        centre = rng.uniform(-0.3, 1.3, 2) * size[::-1]
        far = np.hypot(x - np.float32(centre[0]), y - np.float32(centre[1])) - np.float32(radius)
        far = far + np.float32(0.03 * radius) * _field(size, (60.0, 60.0), rng)
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
        out = _blend(
            _blend(out, np.full(3, 250, np.float32), bright), shade, np.maximum(dark, inner)
        )
        opaque = np.maximum(opaque, np.maximum(np.maximum(dark, inner), bright))
    return _finished(out, opaque, rng)


def keratin(image: UInt8, rng: np.random.Generator, px_per_um: float) -> Drawn:
    """Return the image under sheets of keratin: wavy pink lamellae with flat, purplish streaks.

    Lamellae are noise that is long along them and short across, bent by a smooth field. Streaks
    are where nuclei once were, or where the knife pressed the sheets together.
    """
    size = image.shape[:2]
    along, across = _bent(size, rng, px_per_um)
    thick = px_per_um * np.exp(rng.uniform(np.log(0.5), np.log(2.5)))
    layers = [
        weight
        * _looked_up(
            _field((512, 256), (60.0 / k, 1.6), rng), along / (4 * k), across / (thick * k)
        )
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
    split = np.clip((-sheets - rng.uniform(1.0, 2.2)) * 3, 0, 1)  # the sheets part
    out = _blend(out, np.array((244, 240, 244), np.float32), 0.9 * split)
    # streaks are in the sheets: cells of a grid in their coordinates, some of them filled
    long, high = px_per_um * rng.uniform(6, 14), px_per_um * rng.uniform(0.4, 1.0)
    streaks = _cells(along / long, across / (2.5 * high), rng.uniform(0.03, 0.28), rng)
    dark = np.array((128, 74, 136), np.float32) + rng.normal(0, 12, 3).astype(np.float32)
    out = _blend(
        out, np.clip(dark, 0, 255).astype(np.float32), np.float32(rng.uniform(0.25, 0.8)) * streaks
    )
    out = out * (1 + 0.03 * _field(size, (2.0, 2.0), rng))[..., None]
    region = np.ones(size, np.float32) if rng.random() < 0.45 else _blob(size, rng)
    cover = cv2.GaussianBlur(region, (0, 0), px_per_um * rng.uniform(0.2, 1.0))
    return _finished(_blend(image.astype(np.float32), out, cover), cover, rng)


def pale(image: UInt8, rng: np.random.Generator, px_per_um: float) -> Drawn:
    """Return the image with a flat pale area: mucin with strands, fat, or bare glass."""
    size = image.shape[:2]
    region = cv2.GaussianBlur(_blob(size, rng), (0, 0), px_per_um * rng.uniform(0.2, 1.5))
    colour = np.array(rng.choice(((236, 233, 238), (214, 212, 232), (226, 214, 226))), np.float32)
    colour = np.clip(colour + rng.normal(0, 6, 3), 0, 255).astype(np.float32)
    out = np.broadcast_to(colour, image.shape).astype(np.float32)
    out = out * (1 + 0.025 * _field(size, (50.0, 50.0), rng))[..., None]
    if rng.random() < 0.5:  # strands of mucin
        along, across = _bent(size, rng, px_per_um)
        strands = np.exp(
            -(_looked_up(_field((512, 256), (30.0, 3.0), rng), along / 5, across / 3) ** 2) * 40
        )
        out = out - np.array((22, 20, 8), np.float32) * strands[..., None]
    return _finished(_blend(image.astype(np.float32), out, region), region, rng)


def seam(image: UInt8, rng: np.random.Generator, px_per_um: float) -> Drawn:
    """Return the image with tiles of another brightness and tint, and perhaps a line between."""
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
    return Drawn(_bytes(out), nothing, nothing)


def plain(image: UInt8, rng: np.random.Generator, px_per_um: float) -> Drawn:
    """Return nothing at all: white, grey, black or one colour, with or without noise."""
    level = rng.choice(
        (rng.uniform(225, 255), rng.uniform(60, 225), rng.uniform(0, 40)), p=(0.5, 0.3, 0.2)
    )
    colour = np.clip(level + rng.normal(0, 6 if rng.random() < 0.7 else 40, 3), 0, 255)
    out = np.broadcast_to(colour.astype(np.float32), image.shape)
    out = out * (1 + rng.uniform(0, 0.06) * _field(image.shape[:2], (80.0, 80.0), rng))[..., None]
    if rng.random() < 0.6:
        sd = rng.uniform(1, 8) if rng.random() < 0.7 else rng.uniform(8, 50)
        grain = rng.standard_normal(image.shape, np.float32) * np.float32(sd)
        out = out + cv2.GaussianBlur(grain, (0, 0), 0.3 + rng.uniform(0, 1.5))
    everywhere = np.ones(image.shape[:2], bool)
    return Drawn(_bytes(out), everywhere, ~everywhere)


Artefact = Callable[[UInt8, np.random.Generator, float], Drawn]

# name -> how it is drawn, and how often among the others
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


def _finished(out: Float32, opacity: Float32, rng: np.random.Generator) -> Drawn:
    """Return a drawn image with the grain of a camera where it was drawn on, and what it hides."""
    grain = rng.standard_normal(out.shape[:2], np.float32) * np.float32(rng.uniform(0.5, 3))
    grainy = out + (grain * np.clip(opacity, 0, 1))[..., None]
    hidden = opacity > _SURELY
    return Drawn(_bytes(grainy), hidden, (opacity > _HARDLY) & ~hidden)


def _bytes(values: Float32) -> UInt8:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def _blend(below: Float32, above: Float32, alpha: Float32 | Float64) -> Float32:
    """Return `above` (…, 3) over `below` (H, W, 3) at an opacity (H, W)."""
    return np.asarray(below + (above - below) * alpha[..., None].astype(np.float32), np.float32)


def _field(size: Sequence[int], grain_px: tuple[float, float], rng: np.random.Generator) -> Float32:
    """Return smooth noise (H, W) of about mean 0 and deviation 0.7, of a grain (across x, y)."""
    nodes = [
        max(4, int(np.ceil(edge / grain)) + 3)
        for edge, grain in zip(size[::-1], grain_px, strict=True)
    ]
    coarse = rng.standard_normal((nodes[1], nodes[0]), np.float32)
    fine = cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(fine, np.float32)


def _blob(size: tuple[int, int], rng: np.random.Generator) -> Float32:
    """Return 1 in one or some ragged areas that cover a fifth to four fifths, 0 elsewhere."""
    grain = rng.uniform(0.3, 0.8) * max(size)
    field = _field(size, (grain, grain), rng) + 0.15 * _field(size, (grain / 6, grain / 6), rng)
    inside = field > np.quantile(field[::4, ::4], rng.uniform(0.2, 0.8))
    return np.asarray(inside, np.float32)


def _stroke(
    size: tuple[int, int], width: float, rng: np.random.Generator, wobble: float = 0.2
) -> Float32:
    """Return 1 on a bent line through the crop, 0 elsewhere.

    Args:
        size: (height, width) in pixels.
        width: of the line, in pixels; it varies by a third.
        rng: of its course.
        wobble: how strongly it bends, in radians per step of an eighth of the crop.
    """
    step = max(size) / 16
    heading = rng.uniform(0, 2 * np.pi)
    turn = rng.normal(0, wobble / 4)
    middle = rng.uniform(0.15, 0.85, 2) * size[::-1]
    courses = []
    for sign in (1.0, -1.0):
        at, angle, course = middle, heading, [middle]
        for _ in range(30):
            angle = angle + turn + rng.normal(0, wobble / 2)
            at = at + sign * step * np.array((np.cos(angle), np.sin(angle)))
            course.append(at)
        courses.append(course)
    points = np.array(courses[1][:0:-1] + courses[0], np.float32)
    many = cv2.resize(points, (2, 8 * len(points)), interpolation=cv2.INTER_LINEAR)
    many = cv2.GaussianBlur(many, (1, 17), 0, sigmaY=5.0)
    widths = width * (1 + 0.3 * _field((len(many), 4), (4.0, 40.0), rng)[:, 0])
    out = np.zeros(size, np.uint8)
    for (xa, ya), (xb, yb), wide in zip(many[:-1] * 8, many[1:] * 8, widths[1:], strict=True):
        begin, end = (int(xa), int(ya)), (int(xb), int(yb))
        cv2.line(out, begin, end, 255, max(1, round(wide)), cv2.LINE_AA, 3)
    return out.astype(np.float32) / np.float32(255)


def _spots(
    size: tuple[int, int],
    count: int,
    radii: tuple[float, float],
    rng: np.random.Generator,
    ragged: float = 0.25,
) -> Float32:
    """Return 1 on uneven spots, 0 elsewhere; radii are drawn between two, in pixels."""
    out = np.zeros(size, np.uint8)
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    crowd = rng.uniform(0.1, 0.9, 2)
    spread = rng.choice((0.12, 0.5))
    for _ in range(count):
        radius = np.exp(rng.uniform(*np.log(radii)))
        waves = sum(
            rng.normal(0, ragged / k) * np.cos(k * angles + rng.uniform(0, 6.3))
            for k in (1, 2, 3, 4)
        )
        reach = radius * np.clip(1 + waves, 0.2, 2)
        centre = (crowd + rng.normal(0, spread, 2)) * size[::-1]
        outline = centre + reach[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
        cv2.fillPoly(out, [np.rint(outline * 8).astype(np.int32)], 255, cv2.LINE_AA, 3)
    return out.astype(np.float32) / np.float32(255)


def _packed(
    size: tuple[int, int], pitch: float, rng: np.random.Generator
) -> list[tuple[float, ...]]:
    """Return the centres (x, y) of a hexagonal lattice over a crop, each a little off its place."""
    rows = np.arange(-pitch, size[0] + pitch, pitch * 0.87)
    centres = [
        (x + (i % 2) * pitch / 2, y)
        for i, y in enumerate(rows)
        for x in np.arange(-pitch, size[1] + pitch, pitch)
    ]
    off = rng.normal(0, pitch * 0.17, (len(centres), 2))
    kept = rng.random(len(centres)) < rng.uniform(0.75, 1.0)
    return [
        (x + dx, y + dy)
        for (x, y), (dx, dy), keep in zip(centres, off, kept, strict=True)
        if keep and 0 <= x + dx < size[1] + pitch and 0 <= y + dy < size[0] + pitch
    ]


def _bent(
    size: tuple[int, int], rng: np.random.Generator, px_per_um: float
) -> tuple[Float32, Float32]:
    """Return coordinates (H, W) along and across wavy sheets, in pixels."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = cosine * x + sine * y, cosine * y - sine * x
    for grain_um, height in ((60.0, rng.uniform(4, 20)), (16.0, rng.uniform(0.5, 4))):
        grain = grain_um * px_per_um / 2
        across = across + np.float32(height * px_per_um / 4) * _field(size, (grain, grain), rng)
    return along, across + np.float32(0.15) * along


def _looked_up(texture: Float32, x: Float32 | Float64, y: Float32 | Float64) -> Float32:
    """Return a texture at positions (H, W); it is mirrored beyond its edges."""
    columns, rows = (
        np.asarray(at, np.float32) + np.float32(shift) for at, shift in ((x, 40), (y, 80))
    )
    return cv2.remap(  # type: ignore[no-any-return]
        texture, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )


def _cells(along: Float32, across: Float32, share: float, rng: np.random.Generator) -> Float32:
    """Return soft, flat spots in some cells of a grid: 1 in their middles, 0 outside.

    Args:
        along: position (H, W) in cells.
        across: position (H, W) in cells.
        share: of the cells that contain a spot.
        rng: of which do, and where in its cell the spot lies.
    """
    row = np.floor(across).astype(np.int64)
    shift = rng.random(257).astype(np.float32)
    along = along + shift[row % 257]  # rows are not in step
    column = np.floor(along).astype(np.int64)
    held = rng.random((257, 263)) < share
    width = rng.uniform(0.35, 1.0, (257, 263)).astype(np.float32)
    cell = row % 257, column % 263
    x, y = 2 * (along - column) - 1, 2 * (across - row) - 1
    far = np.hypot(x / width[cell], y / (0.55 + 0.4 * width[cell]))
    return np.asarray(held[cell] * np.clip(2.2 * (1 - far), 0, 1), np.float32)

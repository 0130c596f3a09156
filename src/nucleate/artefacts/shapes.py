"""Shapes and textures of artefacts: noise, areas, strokes, spots, sheets."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from nucleate.types import Float32, Float64


def field(size: Sequence[int], grain_px: tuple[float, float], rng: np.random.Generator) -> Float32:
    """Return smooth noise (H, W): mean about 0, deviation about 0.7, given grain (across x, y)."""
    nodes = [
        max(4, int(np.ceil(edge / grain)) + 3)
        for edge, grain in zip(size[::-1], grain_px, strict=True)
    ]
    coarse = rng.standard_normal((nodes[1], nodes[0]), np.float32)
    fine = cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(fine, np.float32)


def blob(size: tuple[int, int], rng: np.random.Generator) -> Float32:
    """Return 1 in one or several ragged areas that cover 20 to 80 % of the image, 0 elsewhere."""
    grain = rng.uniform(0.3, 0.8) * max(size)
    noise = field(size, (grain, grain), rng) + 0.15 * field(size, (grain / 6, grain / 6), rng)
    inside = noise > np.quantile(noise[::4, ::4], rng.uniform(0.2, 0.8))
    return np.asarray(inside, np.float32)


def stroke(
    size: tuple[int, int], width: float, rng: np.random.Generator, wobble: float = 0.2
) -> Float32:
    """Return 1 on a bent line through the crop, 0 elsewhere.

    Args:
        size: (height, width) in pixels.
        width: width of the line, in pixels; it varies by a third.
        rng: source of randomness.
        wobble: bending, in radians per step of an eighth of the crop.
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
    widths = width * (1 + 0.3 * field((len(many), 4), (4.0, 40.0), rng)[:, 0])
    out = np.zeros(size, np.uint8)
    for (xa, ya), (xb, yb), wide in zip(many[:-1] * 8, many[1:] * 8, widths[1:], strict=True):
        begin, end = (int(xa), int(ya)), (int(xb), int(yb))
        cv2.line(out, begin, end, 255, max(1, round(wide)), cv2.LINE_AA, 3)
    return out.astype(np.float32) / np.float32(255)


def spots(
    size: tuple[int, int],
    count: int,
    radii: tuple[float, float],
    rng: np.random.Generator,
    ragged: float = 0.25,
) -> Float32:
    """Return 1 on uneven spots, 0 elsewhere; radii are drawn from a range, in pixels."""
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


def packed_centres(
    size: tuple[int, int], pitch: float, rng: np.random.Generator
) -> list[tuple[float, ...]]:
    """Return the centres (x, y) of a jittered hexagonal lattice over a crop."""
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


def bent(
    size: tuple[int, int], rng: np.random.Generator, px_per_um: float
) -> tuple[Float32, Float32]:
    """Return coordinates (H, W) along and across wavy sheets, in pixels."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = cosine * x + sine * y, cosine * y - sine * x
    for grain_um, height in ((60.0, rng.uniform(4, 20)), (16.0, rng.uniform(0.5, 4))):
        grain = grain_um * px_per_um / 2
        across = across + np.float32(height * px_per_um / 4) * field(size, (grain, grain), rng)
    return along, across + np.float32(0.15) * along


def looked_up(texture: Float32, x: Float32 | Float64, y: Float32 | Float64) -> Float32:
    """Sample a texture at positions (H, W), mirrored beyond its edges."""
    columns, rows = (
        np.asarray(at, np.float32) + np.float32(shift) for at, shift in ((x, 40), (y, 80))
    )
    return cv2.remap(  # type: ignore[no-any-return]
        texture, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )


def cells(along: Float32, across: Float32, share: float, rng: np.random.Generator) -> Float32:
    """Return soft, flat spots in some cells of a grid: 1 at their centres, 0 outside.

    Args:
        along: position (H, W) in cells.
        across: position (H, W) in cells.
        share: share of cells that contain a spot.
        rng: source of randomness.
    """
    row = np.floor(across).astype(np.int64)
    shift = rng.random(257).astype(np.float32)
    along = along + shift[row % 257]  # offset the rows against each other
    column = np.floor(along).astype(np.int64)
    held = rng.random((257, 263)) < share
    width = rng.uniform(0.35, 1.0, (257, 263)).astype(np.float32)
    cell = row % 257, column % 263
    x, y = 2 * (along - column) - 1, 2 * (across - row) - 1
    far = np.hypot(x / width[cell], y / (0.55 + 0.4 * width[cell]))
    return np.asarray(held[cell] * np.clip(2.2 * (1 - far), 0, 1), np.float32)

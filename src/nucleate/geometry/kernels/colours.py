"""Loops over the colours of an image: table lookup and stain mixing."""

from __future__ import annotations

import numpy as np

from nucleate.geometry.kernels.compiled import compiled


@compiled
def look_up(image, table):  # type: ignore[no-untyped-def]
    """Map `image` through a colour table (n, n, n, 3), with interpolation.

    Tetrahedral interpolation, as in colour management: from the lower corner of the cell along red,
    green and blue in the order of their remainders. Greys stay neutral.
    """
    height, width, _ = image.shape
    n = table.shape[0]
    flat = np.rint(table * np.float32(64)).astype(np.int32).reshape(-1)  # integers are faster
    low = np.empty(256, np.uint32)  # unsigned: numba need not handle negative indices
    rest = np.empty(256, np.int32)  # in 1/256 of a step
    for v in range(256):
        at = v * (n - 1) * 256 // 255
        low[v] = np.uint32(min(at >> 8, n - 2))
        rest[v] = at - (np.int64(low[v]) << 8)
    step_r, step_g, step_b = np.uint32(3 * n * n), np.uint32(3 * n), np.uint32(3)
    to_last = step_r + step_g + step_b
    out = np.empty((height, width, 3), np.uint8)
    for y in range(height):
        for x in range(width):
            r, g, b = image[y, x, 0], image[y, x, 1], image[y, x, 2]
            base = low[r] * step_r + low[g] * step_g + low[b] * step_b
            a, c, d = rest[r], rest[g], rest[b]
            greatest, least = max(a, c, d), min(a, c, d)
            middle = a + c + d - greatest - least
            first = step_r if a == greatest else (step_g if c == greatest else step_b)
            without = step_b if d == least else (step_g if c == least else step_r)
            one, two, last = base + first, base + to_last - without, base + to_last
            w0, w1, w2 = 256 - greatest, greatest - middle, middle - least
            for k in range(np.uint32(3)):
                value = (
                    flat[base + k] * w0
                    + flat[one + k] * w1
                    + flat[two + k] * w2
                    + flat[last + k] * least
                )
                out[y, x, k] = (value + 8192) >> 14
    return out


@compiled
def mix(image, density, matrix, offset, light, per_density):  # type: ignore[no-untyped-def]
    """Multiply the optical densities of an RGB image by a matrix, and shift them.

    `density` (256,) is the density of each byte, `matrix` (3, 3) maps old (rows) to new channels,
    `offset` (3,) is per new channel; `light` is the byte of each density, in steps of
    1 / `per_density` from 0.
    """
    height, width, _ = image.shape
    out = np.empty((height, width, 3), np.uint8)
    parts = np.empty((3, 256, 3), np.float32)
    for c in range(3):
        for byte in range(256):
            for k in range(3):
                parts[c, byte, k] = density[byte] * matrix[c, k] * per_density
    last = np.float32(len(light) - 1)
    begin = (offset * per_density + 0.5).astype(np.float32)
    for y in range(height):
        for x in range(width):
            red, green, blue = image[y, x, 0], image[y, x, 1], image[y, x, 2]
            for k in range(3):
                at = begin[k] + parts[0, red, k] + parts[1, green, k] + parts[2, blue, k]
                out[y, x, k] = light[np.int64(min(max(at, np.float32(0)), last))]
    return out

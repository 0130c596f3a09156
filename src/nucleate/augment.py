"""Sample → Sample: one random crop of a picture and its labels, as another lab might show it.

Geometry is one remap (flip, right angle, rotation, shear, zoom, shift and elastic deformation), so
that the picture is interpolated once; colours follow. The strength of each step is in the recipe.
"""

from __future__ import annotations

from functools import cache
from statistics import NormalDist

import cv2
import numpy as np

from nucleate.config import AugmentConfig
from nucleate.stain.deconvolution import restained
from nucleate.types import Bool, Float32, Int32, Sample, UInt8


def random_crop(
    sample: Sample,
    size: int,
    config: AugmentConfig,
    rng: np.random.Generator,
    centre_xy: tuple[float, float] | None = None,
) -> tuple[UInt8, Int32, Bool]:
    """Return an augmented crop of a sample.

    Args:
        sample: with labels.
        size: edge of the crop, in pixels.
        config: strengths.
        rng: the only source of chance: the same state gives the same crop.
        centre_xy: of the crop, in the sample's pixels; None draws one.

    Returns:
        uint8 (size, size, 3), int32 (size, size), and bool (size, size): True where neither the
        loss nor a metric counts (outside of the picture, or ignored by the annotation).
    """
    from nucleate.geometry import kernels as _kernels

    map_x, map_y = _coordinates(sample.image.shape[:2], size, config, rng, centre_xy)
    image = cv2.remap(sample.image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    truth = np.zeros(sample.image.shape[:2], np.int32) if sample.labels is None else sample.labels
    vague = np.zeros((0, 0), np.bool_) if sample.ignore is None else sample.ignore
    labels, ignore = _kernels.nearest(truth, vague, map_x, map_y)
    return colours(image, config, rng), labels, ignore


def _coordinates(
    shape: tuple[int, int],
    size: int,
    config: AugmentConfig,
    rng: np.random.Generator,
    centre_xy: tuple[float, float] | None,
) -> tuple[Float32, Float32]:
    """Return for each pixel of the crop the position in the sample (pixel-index coordinates)."""
    height, width = shape
    scale = np.exp(rng.uniform(*np.log(config.zoom)))
    angle = np.deg2rad(rng.uniform(-1, 1) * config.rotate_degrees) + (
        np.pi / 2 * rng.integers(4) if config.right_angles else 0.0
    )
    mirror = -1.0 if config.flip and rng.random() < 0.5 else 1.0
    reach = size / 2 / scale  # half the crop in the sample's pixels
    centre_x = rng.uniform(min(reach, width / 2), max(width - reach, width / 2))
    centre_y = rng.uniform(min(reach, height / 2), max(height - reach, height / 2))
    if centre_xy is not None:
        centre_x, centre_y = centre_xy
    if config.shift > 0:
        centre_x += rng.uniform(-config.shift, config.shift) * size
        centre_y += rng.uniform(-config.shift, config.shift) * size
    axis = (np.arange(size, dtype=np.float32) - (size - 1) / 2) / np.float32(scale)
    x, y = np.meshgrid(axis * np.float32(mirror), axis)
    if config.shear_degrees > 0:
        x = x + y * np.float32(np.tan(np.deg2rad(rng.uniform(-1, 1) * config.shear_degrees)))
    if config.elastic_px > 0 and rng.random() < config.elastic_chance:
        nodes = max(2, size // config.elastic_grid_px + 1)
        shift = rng.normal(0, config.elastic_px / scale, (2, nodes, nodes)).astype(np.float32)
        x = x + cv2.resize(shift[0], (size, size), interpolation=cv2.INTER_CUBIC)
        y = y + cv2.resize(shift[1], (size, size), interpolation=cv2.INTER_CUBIC)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    map_x = cosine * x - sine * y + np.float32(centre_x - 0.5)
    map_y = sine * x + cosine * y + np.float32(centre_y - 0.5)
    return map_x, map_y


def colours(image: UInt8, config: AugmentConfig, rng: np.random.Generator) -> UInt8:
    """Return the picture as another stainer, lamp, camera and file format would give it.

    Args:
        image: uint8 (H, W, 3), RGB.
        config: strengths; 0 switches a step off.
        rng: the only source of chance.

    Returns:
        uint8 (H, W, 3).
    """
    if config.stain > 0:
        factor = 1 + rng.uniform(-config.stain, config.stain, 3).astype(np.float32)
        shift = rng.uniform(-config.stain, config.stain, 3).astype(np.float32) * 0.1
        image = restained(image, factor, shift)
    if config.multiply > 0:
        gains = 1 + rng.uniform(-config.multiply, config.multiply, 3)
        if rng.random() >= 0.2:
            gains[:] = gains[0]
        image = np.clip(image * gains.astype(np.float32), 0, 255).astype(np.uint8)
    if config.brightness > 0 or config.contrast > 0:
        gain = 1 + rng.uniform(-config.contrast, config.contrast)
        lift = 255 * rng.uniform(-config.brightness, config.brightness)
        table = np.clip((np.arange(256) - 128) * gain + 128 + lift, 0, 255).astype(np.uint8)
        image = cv2.LUT(image, table)
    if rng.random() < config.blur_chance:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, config.blur_px))
    if rng.random() < config.noise_chance:
        image = _noisy(image, rng.uniform(1, config.noise), rng)
    if rng.random() < config.jpeg_chance:
        quality = int(rng.integers(config.jpeg_quality, 96))
        # the encoder takes its three channels as blue, green, red: swap them both ways
        coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        image = np.ascontiguousarray(np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))[..., ::-1])
    return image


def _noisy(image: UInt8, sd: float, rng: np.random.Generator) -> UInt8:
    """Return the image with normal noise of a standard deviation `sd`, in grey levels.

    The noise is taken from 65,536 quantiles of the normal distribution: no logarithm per value.
    """
    table = np.rint(sd * _quantiles()).astype(np.int16)
    noise = table[rng.integers(0, 1 << 16, image.shape, np.uint16)]
    return cv2.add(image, noise, dtype=cv2.CV_8U)  # type: ignore[no-any-return]


@cache
def _quantiles() -> Float32:
    """Return the values of a standard normal distribution at 65,536 even shares."""
    inverse = NormalDist().inv_cdf
    return np.array([inverse((i + 0.5) / (1 << 16)) for i in range(1 << 16)], np.float32)

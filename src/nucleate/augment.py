"""Sample → Sample: a random crop of an image and its labels, varied as between laboratories.

All geometry is one remap (flip, right angle, rotation, shear, zoom, shift and elastic deformation),
so the image is interpolated once. Then follow the colours of another image, artefacts, a coarser
scan, and changes of stain, lamp and camera. The recipe sets the strength of each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from statistics import NormalDist
from typing import NamedTuple

import cv2
import numpy as np

from nucleate.artefacts.table import with_artefacts
from nucleate.config import AugmentConfig
from nucleate.geometry.labels import compact
from nucleate.stain.deconvolution import restained
from nucleate.stain.tissue import sample_pixels, tissue_mask
from nucleate.types import Bool, Float32, Int32, Sample, UInt8

_MPP = 0.25  # assumed for a sample without mpp
_SMALL_PX2 = (80.0, 200.0)  # area of the median nucleus of 20x images, at 0.25 um/px
_LEAST_ZOOM, _SMOOTHED_BELOW = 0.3, 0.7
_COARSER = (1.3, 2.3)
_ENOUGH = 1000  # tissue pixels needed to estimate colours


class Looks(NamedTuple):
    """Colours and nucleus size of an image.

    Attributes:
        mean: float32 (3,), mean colour of the tissue, 8-bit CIELAB.
        sd: float32 (3,), standard deviations of the same, at least 1.
        median_px: area of the median nucleus, in pixels; NaN without nuclei.
    """

    mean: Float32
    sd: Float32
    median_px: float


def random_crop(
    sample: Sample,
    size: int,
    config: AugmentConfig,
    rng: np.random.Generator,
    centre_xy: tuple[float, float] | None = None,
    looks: Looks | None = None,
    others: Sequence[Looks] = (),
) -> tuple[UInt8, Int32, Bool]:
    """Return an augmented crop of a sample.

    Args:
        sample: the sample; its `labels` may be None.
        size: edge of the crop, in pixels.
        config: strengths.
        rng: source of all randomness; the same state gives the same crop.
        centre_xy: centre of the crop, in pixels of the sample; None draws one.
        looks: looks of the sample, None if unknown; needed by `normalise` and `zoom_small`.
        others: looks that `normalise` draws from.

    Returns:
        Image, uint8 (size, size, 3); labels, int32 (size, size); and ignore, bool (size, size):
        True where loss and metrics skip a pixel (outside the image, or ignored by the annotation).
    """
    from nucleate.geometry.kernels import labels as _kernels

    if looks is not None and rng.random() < config.zoom_small:
        config = _zoomed_small(config, looks, sample.mpp, rng)
    map_x, map_y, scale = _coordinates(sample.image.shape[:2], size, config, rng, centre_xy)
    image = _sampled(sample.image, map_x, map_y, scale)
    truth = np.zeros(sample.image.shape[:2], np.int32) if sample.labels is None else sample.labels
    vague = np.zeros((0, 0), np.bool_) if sample.ignore is None else sample.ignore
    labels, ignore = _kernels.nearest(truth, vague, map_x, map_y)
    if looks is not None and others and rng.random() < config.normalise:
        image = recoloured(image, looks, others[int(rng.integers(len(others)))], rng.random())
    if rng.random() < config.artefacts:
        per_um = 1 / (sample.mpp or _MPP)
        image, labels, ignore = with_artefacts(image, labels, ignore, rng, per_um)
    if rng.random() < config.lowres:
        image = _coarser(image, rng.uniform(*_COARSER))
    return colours(image, config, rng), labels, ignore


def looks_of(sample: Sample) -> Looks:
    """Measure the colours of a sample's tissue and the size of its nuclei."""
    pixels = sample_pixels(sample.image)
    stained = pixels[tissue_mask(pixels)]
    stained = stained if len(stained) >= _ENOUGH else pixels
    lab = cv2.cvtColor(np.ascontiguousarray(stained)[None], cv2.COLOR_RGB2LAB)
    mean, sd = (part.reshape(-1) for part in cv2.meanStdDev(lab))
    areas = np.zeros(0) if sample.labels is None else np.bincount(compact(sample.labels)[0].ravel())
    median = float(np.median(areas[1:])) if len(areas) > 1 else float("nan")
    return Looks(mean.astype(np.float32), np.maximum(sd, 1).astype(np.float32), median)


def recoloured(image: UInt8, own: Looks, other: Looks, share: float) -> UInt8:
    """Move the colours of an image towards those of another (Reinhard).

    Args:
        image: uint8 (H, W, 3), RGB.
        own: looks of the whole image.
        other: looks to move towards; contrast changes by at most a factor of 2.
        share: 0 changes nothing, 1 matches `other`.

    Returns:
        uint8 (H, W, 3).
    """
    gain = np.clip(other.sd / own.sd, 0.5, 2.0)
    values = np.arange(256, dtype=np.float32)[:, None]
    there = (values - own.mean) * gain + other.mean
    table = np.clip(np.rint(values + np.float32(share) * (there - values)), 0, 255).astype(np.uint8)
    lab = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2LAB), table[None])
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)  # type: ignore[no-any-return]


def _zoomed_small(
    config: AugmentConfig, looks: Looks, mpp: float | None, rng: np.random.Generator
) -> AugmentConfig:
    """Return `config` with a zoom that makes the median nucleus small; never enlarges."""
    smallest, largest = (area * (_MPP / (mpp or _MPP)) ** 2 for area in _SMALL_PX2)
    wanted = np.exp(rng.uniform(np.log(smallest), np.log(largest)))
    if not looks.median_px > 0:  # no nuclei
        return config
    zoom = float(np.clip(np.sqrt(wanted / looks.median_px), _LEAST_ZOOM, 1.0))
    return config.model_copy(update={"zoom": (zoom, zoom)})


def _sampled(image: UInt8, map_x: Float32, map_y: Float32, scale: float) -> UInt8:
    """Sample an image at positions (h, w); smooth it before strong shrinking, against aliasing."""
    if scale < _SMOOTHED_BELOW:
        low_x, low_y = max(0, int(map_x.min()) - 8), max(0, int(map_y.min()) - 8)
        window = image[low_y : int(map_y.max()) + 8, low_x : int(map_x.max()) + 8]
        image = cv2.GaussianBlur(window, (0, 0), 0.5 * np.sqrt(1 / scale**2 - 1))
        map_x, map_y = map_x - np.float32(low_x), map_y - np.float32(low_y)
    return cv2.remap(  # type: ignore[no-any-return]
        image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )


def _coarser(image: UInt8, times: float) -> UInt8:
    """Simulate a scan whose pixels are `times` as large, at unchanged image size."""
    height, width = image.shape[:2]
    small = max(1, round(width / times)), max(1, round(height / times))
    coarse = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[no-any-return]


def _coordinates(
    shape: tuple[int, int],
    size: int,
    config: AugmentConfig,
    rng: np.random.Generator,
    centre_xy: tuple[float, float] | None,
) -> tuple[Float32, Float32, float]:
    """Return the sample position (pixel indices) of each pixel of the crop, and the zoom."""
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
    return map_x, map_y, float(scale)


def colours(image: UInt8, config: AugmentConfig, rng: np.random.Generator) -> UInt8:
    """Vary an image as another stainer, lamp, camera and file format would.

    Args:
        image: uint8 (H, W, 3), RGB.
        config: strengths; 0 switches a step off.
        rng: source of all randomness.

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
        # OpenCV encodes and decodes BGR
        coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        image = np.ascontiguousarray(np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))[..., ::-1])
    return image


def _noisy(image: UInt8, sd: float, rng: np.random.Generator) -> UInt8:
    """Add Gaussian noise of standard deviation `sd`, in grey levels.

    The noise is drawn from 65,536 quantiles of the normal distribution, which is faster.
    """
    table = np.rint(sd * _quantiles()).astype(np.int16)
    noise = table[rng.integers(0, 1 << 16, image.shape, np.uint16)]
    return cv2.add(image, noise, dtype=cv2.CV_8U)  # type: ignore[no-any-return]


@cache
def _quantiles() -> Float32:
    """Return 65,536 evenly spaced quantiles of the standard normal distribution."""
    inverse = NormalDist().inv_cdf
    return np.array([inverse((i + 0.5) / (1 << 16)) for i in range(1 << 16)], np.float32)

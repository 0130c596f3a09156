"""Stain normalisation: Normaliser (a fitted reference) → Transform (of one image) → pixels.

A normaliser is fitted once, on reference images of the training part. `adapt` evaluates one image
or slide as a whole and returns the transform shared by all its tiles: nothing is normalised per
tile. The transform depends only on the colour, so it is tabulated on a grid of 33³ colours and
interpolated, which makes all methods equally fast to apply.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from nucleate.errors import ConfigError, InputError, pick
from nucleate.files import read_text, write_text
from nucleate.stain import histogram, macenko, reinhard, vahadane
from nucleate.stain.histogram import SPACES
from nucleate.stain.tissue import is_coloured, penned, sample_pixels, stainedness, tissue_mask
from nucleate.types import Float32, Float64, UInt8

_GRID = 33
_MIN_PIXELS = 256  # tissue pixels needed in the sample to estimate an image's stains
_MIN_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Method:
    """A method of measuring the colours of tissue and matching them to a reference."""

    measure: Callable[[UInt8], dict[str, Any] | None]
    convert: Callable[[Float32, dict[str, Any], dict[str, Any]], Float64]
    keys: tuple[str, ...]
    """Keys of the result of `measure`, which a file must contain."""
    plausible: Callable[[dict[str, Any]], bool]
    """Whether the values can be a result of `measure`."""
    fails: str
    """Why `measure` returns None."""


METHODS: dict[str, Method] = {
    "histogram": Method(
        histogram.stain_statistics,
        histogram.convert,
        ("quantiles", "space"),
        histogram.plausible,
        "the tissue is of one colour",
    ),
    "macenko": Method(
        macenko.stain_statistics,
        macenko.convert,
        ("amounts", "stains"),
        macenko.plausible,
        "the tissue does not show two stains",
    ),
    "reinhard": Method(
        reinhard.stain_statistics,
        reinhard.convert,
        ("mean", "sd"),
        reinhard.plausible,
        "the tissue is of one colour",
    ),
    "vahadane": Method(
        vahadane.stain_statistics,
        vahadane.convert,
        ("amounts", "stains"),
        macenko.plausible,
        "the tissue does not show two stains",
    ),
}


@dataclass(frozen=True, slots=True)
class Transform:
    """The stain transform of one image.

    Attributes:
        table: float32 (33, 33, 33, 3), the new colours of a grid of colours, indexed by red, green,
            blue; None for the identity.
        note: why the image is not normalised; empty if it is.
    """

    table: Float32 | None
    note: str = ""

    def apply(self, image: UInt8) -> UInt8:
        """Normalise an image, or any tile of it.

        Args:
            image: uint8 (H, W, 3), RGB.

        Returns:
            uint8 (H, W, 3); `image` itself if the transform is the identity.
        """
        if self.table is None:
            return image
        from nucleate.geometry.kernels import colours as _kernels

        return _kernels.look_up(np.ascontiguousarray(image), self.table)  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Normaliser:
    """A stain normaliser fitted on reference images.

    Attributes:
        method: key of `METHODS`.
        target: statistics of the reference images.
        blend: 0 leaves an image unchanged, 1 matches the reference.
        as_published: whether to treat glass like tissue, both when measuring and when transforming,
            as the published methods do; else glass is not measured and keeps its colour.
        fitted_on: names of the reference images.

    Raises:
        ConfigError: no such method, or a blend out of range.
    """

    method: str
    target: dict[str, Any]
    blend: float = 1.0
    as_published: bool = False
    fitted_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        pick(METHODS, self.method, "stain normaliser")
        if isinstance(self.blend, bool) or not 0 <= self.blend <= 1:
            raise ConfigError(f"blend = {self.blend}: must be between 0 and 1. Change it.")

    def adapt(self, pixels: UInt8) -> Transform:
        """Return the transform of an image or slide.

        An image with too little tissue, a grey image, or an image without two stains is not
        normalised, and the note states why: a wrong normalisation does more harm than none.

        Args:
            pixels: uint8 (..., 3), RGB: the whole image, or a sample of a slide.
        """
        sampled = sample_pixels(pixels) if pixels.ndim == 3 else pixels.reshape(-1, 3)
        tissue = sampled[tissue_mask(sampled)]
        if len(tissue) < max(_MIN_PIXELS, _MIN_SHARE * len(sampled)):
            return Transform(
                None, f"not normalised: {len(tissue)} of {len(sampled)} sampled pixels are tissue"
            )
        if not is_coloured(tissue):
            return Transform(None, "not normalised: the image is grey")
        source = _measure(self.method, sampled if self.as_published else tissue, self.target)
        if source is None:
            return Transform(None, f"not normalised: {METHODS[self.method].fails}")
        changed = METHODS[self.method].convert(_grid(), source, self.target)
        table = _mixed(changed, self.blend, keep_glass=not self.as_published)
        if not np.isfinite(table).all():
            return Transform(None, f"not normalised: {self.method} gives no finite colours")
        return Transform(table)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as stored in a model card."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: object, owner: str) -> Normaliser:
        """Create a normaliser from plain values.

        Raises:
            InputError: a value is missing or invalid; the message starts with `owner`.
        """
        try:
            if not isinstance(content, dict):
                raise TypeError("not a mapping")
            if not isinstance(content["as_published"], bool):
                raise TypeError("as_published must be true or false")
            made = cls(
                method=str(content["method"]),
                target=dict(content["target"]),
                blend=float(content["blend"]),
                as_published=content["as_published"],
                fitted_on=tuple(map(str, content["fitted_on"])),
            )
            method = METHODS[made.method]
            if tuple(sorted(made.target)) != method.keys:
                raise ValueError(f"the target of {made.method} must have the keys {method.keys}")
            if made.target.get("space", "rgb") not in SPACES:
                raise ValueError(f"unknown colour space {made.target['space']!r}")
            if not method.plausible(made.target):
                raise ValueError("its numbers are invalid")
        except (ConfigError, LookupError, TypeError, ValueError, AttributeError,
                OverflowError) as error:  # fmt: skip
            said = str(error).rstrip(".")
            raise InputError(
                f"{owner}: not a fitted stain normaliser ({said}). Make it with: nucleate stain fit"
            ) from error
        return made


def fit(
    images: dict[str, UInt8],
    method: str,
    blend: float = 1.0,
    space: str = "rgb",
    as_published: bool = False,
) -> Normaliser:
    """Fit a normaliser on the pooled tissue of all `images`.

    Args:
        images: name -> uint8 (H, W, 3), RGB.
        method: key of `METHODS`.
        blend: 0 to 1.
        space: colour space of `histogram`: rgb, lab or stains; other methods have their own.
        as_published: see `Normaliser`.

    Raises:
        ConfigError: no such method or space.
        InputError: the images contain too little tissue, or fewer than two stains.
    """
    pick(METHODS, method, "stain normaliser")
    pick(SPACES, space, "colour space")
    if method != "histogram" and space != "rgb":
        raise ConfigError(f"space = {space}: only the method histogram supports spaces. Omit it.")
    sampled = np.concatenate([np.zeros((0, 3), np.uint8), *map(sample_pixels, images.values())])
    tissue = sampled[tissue_mask(sampled)]
    target, why = None, "contains too little stained tissue"
    if len(tissue) >= _MIN_PIXELS and not is_coloured(tissue):
        why = "is grey"
    elif len(tissue) >= _MIN_PIXELS:
        target = _measure(method, sampled if as_published else tissue, {"space": space})
        why = f"cannot be used: {METHODS[method].fails}"
    if target is None:
        raise InputError(
            f"{', '.join(images) or 'no image'}: the reference {why}. Choose another with: "
            "nucleate stain select"
        )
    return Normaliser(method, target, blend, as_published, tuple(images))


def write_normaliser(path: Path, normaliser: Normaliser) -> None:
    """Write a normaliser as JSON."""
    content = {"format": "nucleate-stain-1", **normaliser.to_dict()}
    write_text(path, json.dumps(content, ensure_ascii=False) + "\n")


def read_normaliser(path: Path) -> Normaliser:
    """Read a normaliser written by `write_normaliser`.

    Raises:
        InputError: the file is missing, not JSON, or not a normaliser.
    """
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: not valid JSON ({error}). Run nucleate stain fit again."
        ) from error
    return Normaliser.from_dict(content, str(path))


def _measure(method: str, pixels: UInt8, target: dict[str, Any]) -> dict[str, Any] | None:
    """Measure pixels as the target was measured, in its colour space if the method has several."""
    if method == "histogram":
        return histogram.stain_statistics(pixels, target["space"])
    return METHODS[method].measure(pixels)


def _mixed(changed: Float64, blend: float, keep_glass: bool) -> Float32:
    """Return the table of new colours; glass is unchanged, with a smooth transition to tissue."""
    colours = _grid()
    weight = np.full((len(colours), 1), blend)
    if keep_glass:
        weight = weight * _grid_tissue()
    mixed = colours + weight * (np.clip(changed, 0, 255) - colours)
    return np.ascontiguousarray(mixed.reshape(_GRID, _GRID, _GRID, 3), np.float32)


@cache
def _grid_tissue() -> Float32:
    """Return the degree to which the grid's colours are tissue, (33³, 1), 0..1."""
    colours = _grid()
    density = np.asarray(-np.log(np.maximum(colours, 1) / 255), np.float32)
    return np.asarray(stainedness(density) * (1 - penned(colours)), np.float32)[:, None]


@cache
def _grid() -> Float32:
    """Return the grid's colours (33³, 3), 0 to 255, with blue varying fastest."""
    steps = np.linspace(0, 255, _GRID, dtype=np.float32)
    red, green, blue = np.meshgrid(steps, steps, steps, indexing="ij")
    return np.stack([red, green, blue], -1).reshape(-1, 3)

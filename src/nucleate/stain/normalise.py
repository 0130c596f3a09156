"""Normaliser (what a reference looks like) → Transform (one image's way there) → pixels.

A normaliser is fitted once, on reference images of the training part. `adapt` looks at one
image or slide as a whole and returns the change of colours that all of its tiles share: nothing
is normalised per tile. That change is a function of the colour alone, so it is tabulated on a grid
of 33³ colours and looked up with interpolation, whatever the method costs.
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
_MIN_PIXELS = 256  # of tissue, in the sample: fewer say nothing about an image's stains
_MIN_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Method:
    """One way to describe the colours of tissue, and to bring them to those of another."""

    measure: Callable[[UInt8], dict[str, Any] | None]
    convert: Callable[[Float32, dict[str, Any], dict[str, Any]], Float64]
    keys: tuple[str, ...]
    """What `measure` gives; a file must contain the same."""
    plausible: Callable[[dict[str, Any]], bool]
    """Whether such numbers can have been measured."""
    fails: str
    """What `measure` finds when it finds nothing."""


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
    """The change of colours of one image.

    Attributes:
        table: float32 (33, 33, 33, 3), the new colour of a grid of colours, indexed by red, green,
            blue; None leaves every pixel as it is.
        note: why the image is left as it is; empty when it is changed.
    """

    table: Float32 | None
    note: str = ""

    def apply(self, image: UInt8) -> UInt8:
        """Return an image, or any tile of it, in the new colours.

        Args:
            image: uint8 (H, W, 3), RGB.

        Returns:
            uint8 (H, W, 3); `image` itself when nothing changes.
        """
        if self.table is None:
            return image
        from nucleate.geometry.kernels import colours as _kernels

        return _kernels.look_up(np.ascontiguousarray(image), self.table)  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Normaliser:
    """What the reference looks like, and how far to go there.

    Attributes:
        method: key of `METHODS`.
        target: what the method measured on the reference images.
        blend: 0 leaves an image as it is, 1 takes the reference's colours.
        as_published: take glass for tissue, in the estimate and in the change, as the published
            methods do; else glass keeps its colour and does not count.
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
        """Return the change of colours for the image or slide that pixels were taken from.

        Too little tissue, a grey image, or one without two stains is left as it is, and the
        note reports it: a normaliser that guesses does more harm than none.

        Args:
            pixels: uint8 (..., 3), RGB: the whole image, or a sample of a slide.
        """
        sampled = sample_pixels(pixels) if pixels.ndim == 3 else pixels.reshape(-1, 3)
        tissue = sampled[tissue_mask(sampled)]
        if len(tissue) < max(_MIN_PIXELS, _MIN_SHARE * len(sampled)):
            return Transform(
                None, f"left as it is: {len(tissue)} of {len(sampled)} sampled pixels are tissue"
            )
        if not is_coloured(tissue):
            return Transform(None, "left as it is: the image is grey")
        source = _measure(self.method, sampled if self.as_published else tissue, self.target)
        if source is None:
            return Transform(None, f"left as it is: {METHODS[self.method].fails}")
        changed = METHODS[self.method].convert(_grid(), source, self.target)
        table = _mixed(changed, self.blend, keep_glass=not self.as_published)
        if not np.isfinite(table).all():
            return Transform(None, f"left as it is: {self.method} gives no finite colours")
        return Transform(table)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as a model's card contains them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: object, owner: str) -> Normaliser:
        """Return the normaliser of plain values.

        Raises:
            InputError: something is missing or makes no sense; `owner` is named.
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
    """Return the normaliser whose reference is the tissue of all `images` together.

    Args:
        images: name -> uint8 (H, W, 3), RGB.
        method: key of `METHODS`.
        blend: 0 to 1.
        space: colour space of `histogram`: rgb, lab or stains; other methods have their own.
        as_published: see `Normaliser`.

    Raises:
        ConfigError: no such method or space.
        InputError: the images contain too little tissue, or no two stains.
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
        why = f"is of no use: {METHODS[method].fails}"
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
    """Read a normaliser that `write_normaliser` wrote.

    Raises:
        InputError: missing, not JSON, or not a normaliser.
    """
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: not valid JSON ({error}). Run nucleate stain fit again."
        ) from error
    return Normaliser.from_dict(content, str(path))


def _measure(method: str, pixels: UInt8, target: dict[str, Any]) -> dict[str, Any] | None:
    """Measure pixels as the target was measured: in its colour space, where there is a choice."""
    if method == "histogram":
        return histogram.stain_statistics(pixels, target["space"])
    return METHODS[method].measure(pixels)


def _mixed(changed: Float64, blend: float, keep_glass: bool) -> Float32:
    """Return the table of new colours; glass keeps its own, and the change sets in smoothly."""
    colours = _grid()
    weight = np.full((len(colours), 1), blend)
    if keep_glass:
        weight = weight * _grid_tissue()
    mixed = colours + weight * (np.clip(changed, 0, 255) - colours)
    return np.ascontiguousarray(mixed.reshape(_GRID, _GRID, _GRID, 3), np.float32)


@cache
def _grid_tissue() -> Float32:
    """Return how surely the grid's colours are tissue (33³, 1): neither glass nor pen."""
    colours = _grid()
    density = np.asarray(-np.log(np.maximum(colours, 1) / 255), np.float32)
    return np.asarray(stainedness(density) * (1 - penned(colours)), np.float32)[:, None]


@cache
def _grid() -> Float32:
    """Return the grid's colours (33³, 3), 0 to 255, blue running fastest."""
    steps = np.linspace(0, 255, _GRID, dtype=np.float32)
    red, green, blue = np.meshgrid(steps, steps, steps, indexing="ij")
    return np.stack([red, green, blue], -1).reshape(-1, 3)

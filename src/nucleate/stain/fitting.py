"""Fit the stain normaliser of a recipe; its reference is always a training image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from nucleate.config import StainConfig
from nucleate.errors import ConfigError
from nucleate.stain.normalise import Normaliser, fit, read_normaliser
from nucleate.stain.reference import examine, select
from nucleate.types import Sample, UInt8


def fit_stain(
    config: StainConfig,
    training: Mapping[str, Callable[[], UInt8]],
    held_out: list[str],
    base: Path = Path(),
) -> Normaliser | None:
    """Return the normaliser of a recipe, fitted on training images only.

    Args:
        config: `stain` of the recipe.
        training: name -> function that reads a training image; called one at a time.
        held_out: names of all images not used for training.
        base: base folder of `config.fitted`.

    Returns:
        None if the recipe names no method.

    Raises:
        ConfigError: a given normaliser was fitted on a held-out image.
        InputError: no training image qualifies as the reference.
    """
    if config.method == "none":
        return None
    if config.fitted is not None:
        ready = read_normaliser(base / config.fitted)
        leaked = sorted(set(map(_file, ready.fitted_on)) & set(map(_file, held_out)))
        if leaked:
            raise ConfigError(
                f"stain.fitted: {config.fitted} was fitted on {leaked[0]!r}, a held-out image. Fit "
                "it on training images only, or omit stain.fitted."
            )
        if ready.method != config.method:
            raise ConfigError(
                f"stain.method is {config.method}, but {config.fitted} is fitted for "
                f"{ready.method}. Use the same method for both."
            )
        return ready
    ranking = select((examine(n, read()) for n, read in training.items()), config.references)
    return fit(
        {c.name: training[c.name]() for c in ranking if c.chosen},
        config.method,
        config.blend,
        config.space,
        config.as_published,
    )


def _file(name: str) -> str:
    """Return the file name in an image's name, which is all that `stain fit` stores.

    Example:
        >>> _file("0:Train/train_6")
        'train_6'
    """
    return name.rpartition(":")[2].rpartition("/")[2]


def restained(sample: Sample, normaliser: Normaliser, tell: Callable[[str], None]) -> Sample:
    """Normalise a sample; `tell` is called with the reason if it is left unchanged."""
    transform = normaliser.adapt(sample.image)
    if transform.note:
        tell(f"{sample.name}: {transform.note}")
    return replace(sample, image=transform.apply(sample.image))


def restain(
    samples: list[Sample], normaliser: Normaliser | None, tell: Callable[[str], None]
) -> list[Sample]:
    """Normalise samples; without a normaliser they are returned unchanged."""
    if normaliser is None:
        return samples
    return [restained(sample, normaliser, tell) for sample in samples]

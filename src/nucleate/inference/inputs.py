"""Prepare a source for the engine: resolve its resolution, estimate its stain."""

from __future__ import annotations

import numpy as np

from nucleate.cards import ModelCard
from nucleate.errors import InputError
from nucleate.readers.reader import Reader
from nucleate.readers.source import RegionError, Source, notes_of
from nucleate.resolution import check_mpp, no_mpp, resolve_mpp
from nucleate.stain.normalise import Normaliser, Transform
from nucleate.types import Frame

_WHOLE_PIXELS = 1 << 24  # an image up to this size is read whole to estimate its stain
_MOST_PIXELS = 1 << 38  # half a million squared


def as_reader(
    source: Source, card: ModelCard, mpp: float | None, override_mpp: bool = False
) -> Reader:
    """Return a reader of a source with its resolution, see `resolve_mpp`.

    Raises:
        InputError: neither the file nor the caller states an mpp, or they contradict each other,
            or no microscope has such an mpp, or no scanner makes such a size.
    """
    resolution = resolve_mpp(source.name, source.mpp, mpp, override_mpp)
    if resolution is None:
        why = "".join(f" ({note})" for note in notes_of(source) if "resolution" in note)
        how = "Try segment --suggest-mpp, or add --mpp (in Python mpp=…)"
        raise no_mpp(source.name, why, how)
    if source.width * source.height > _MOST_PIXELS:
        raise InputError(
            f"{source.name}: states {source.width} × {source.height} pixels, more than any scanner "
            "makes. The file is damaged: copy it again."
        )
    return Reader(source, check_mpp(resolution))


def frame_of(reader: Reader) -> Frame:
    """Return the frame of level 0."""
    source = reader.source
    return Frame(source.width, source.height, reader.mpp, source.origin_xy)


def stain_transform(source: Source, card: ModelCard) -> Transform:
    """Return the stain transform of the model, shared by all tiles of a source.

    It is estimated on the whole image, or on 64 windows spread evenly over a slide.
    """
    if card.stain is None:
        return Transform(None)
    normaliser = Normaliser.from_dict(card.stain, f"model {card.name!r}")
    if source.width * source.height <= _WHOLE_PIXELS:
        return normaliser.adapt(source.read(0, 0, source.width, source.height))
    edge = min(256, source.width, source.height)
    lefts = np.linspace(0, source.width - edge, 8).astype(int)
    tops = np.linspace(0, source.height - edge, 8).astype(int)
    windows, damage = [], None
    for y in tops:
        for x in lefts:
            try:
                windows.append(source.read(x, y, x + edge, y + edge)[::4, ::4])
            except RegionError as error:
                damage = error
    if not windows and damage is not None:
        raise damage
    return normaliser.adapt(np.concatenate([window.reshape(-1, 3) for window in windows]))

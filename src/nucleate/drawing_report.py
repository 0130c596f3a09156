"""How an annotation became a label image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DrawingReport:
    """The outcome of outlines, or of layers, when they were drawn into one label image.

    Attributes:
        outlines: that the annotation contains.
        contested_px: pixels that more than one of them claimed; the data set's card states who got
            them.
        hidden: outlines inside of the image without any pixel.
        outside: outlines that are wholly outside of the image.
        no_mask: annotations that have a box or a point, but neither outline nor mask.
        problems: sentences about what changes the numbers, without the name of the image.
        notes: sentences that change no numbers.
    """

    outlines: int
    contested_px: int
    hidden: int
    outside: int = 0
    no_mask: int = 0
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

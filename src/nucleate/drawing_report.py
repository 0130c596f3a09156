"""Report on drawing an annotation into a label image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DrawingReport:
    """Report on drawing outlines, or layers, into one label image.

    Attributes:
        outlines: number of outlines in the annotation.
        contested_px: pixels inside more than one outline; the data set's card states how they are
            assigned.
        hidden: outlines inside the image that got no pixel.
        outside: outlines that are wholly outside the image.
        no_mask: annotations with a box or a point, but neither outline nor mask.
        problems: sentences about problems that affect results, without the name of the image.
        notes: sentences about findings that do not affect results.
    """

    outlines: int
    contested_px: int
    hidden: int
    outside: int = 0
    no_mask: int = 0
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

"""Cleaning of label images: pieces, specks and holes, fixed by rule and counted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, Self

import cv2
import numpy as np

from nucleate.errors import ConfigError
from nucleate.geometry.labels import boxes_areas, compact
from nucleate.types import Bool, Int16, Int32


@dataclass(frozen=True, slots=True)
class CraftOptions:
    """What to fix in label images.

    Attributes:
        pieces: what to do with a label of several 4-connected pieces: `split` it into several
            nuclei, keep its `largest` piece, or `keep` it unchanged.
        min_area_px: drop pieces and labels with fewer pixels; 0 drops none.
        fill_holes: fill background that is enclosed by a label.
    """

    pieces: Literal["split", "largest", "keep"] = "split"
    min_area_px: int = 10
    fill_holes: bool = True

    def __post_init__(self) -> None:
        if self.pieces not in ("split", "largest", "keep"):
            raise ConfigError(f"pieces = {self.pieces!r}: must be split, largest or keep.")
        if self.min_area_px < 0:
            raise ConfigError(f"min_area_px = {self.min_area_px}: must not be negative.")


@dataclass(slots=True)
class CraftReport:
    """Counts of the changes.

    Attributes:
        before: labels before.
        after: labels after.
        in_pieces: labels with several pieces.
        pieces_added: nuclei added by splitting.
        pieces_dropped: pieces dropped in favour of a larger one.
        specks_dropped: labels or pieces dropped as too small.
        holes_filled_px: background pixels that became nucleus.
    """

    before: int = 0
    after: int = 0
    in_pieces: int = 0
    pieces_added: int = 0
    pieces_dropped: int = 0
    specks_dropped: int = 0
    holes_filled_px: int = 0

    def add(self, other: CraftReport) -> Self:
        """Add the counts of another report, and return this one."""
        for name, count in asdict(other).items():
            setattr(self, name, getattr(self, name) + count)
        return self


def craft_labels(
    labels: Int32, classes: Int16 | None = None, options: CraftOptions | None = None
) -> tuple[Int32, Int16 | None, CraftReport]:
    """Fix the labels of one image.

    Holes are filled before anything is dropped; a filled pixel is never taken from another label.

    Args:
        labels: int32 (H, W), 0 background; ids may have gaps.
        classes: int16 (n,) of the labels in ascending order; pieces inherit the class.
        options: what to fix.

    Returns:
        Labels int32 (H, W), 1..n without gaps; their classes; the counts of changes.

    Example:
        >>> fixed, _, report = craft_labels(
        ...     np.array([[5, 5, 0, 5, 5]], np.int32), options=CraftOptions("split", 2))
        >>> fixed.tolist(), report.pieces_added
        ([[1, 1, 0, 2, 2]], 1)
    """
    wanted = options or CraftOptions()
    compacted, old = compact(labels)
    boxes, _ = boxes_areas(compacted, len(old))
    out = np.zeros(labels.shape, np.int32)
    report = CraftReport(before=len(old))
    owners: list[int] = []
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        window = compacted[y0:y1, x0:x1]
        mask = window == i + 1
        if wanted.fill_holes:
            holes = _holes(mask) & (window == 0)
            report.holes_filled_px += int(holes.sum())
            mask |= holes
        for piece in _pieces(mask, wanted, report):
            owners.append(i)
            out[y0:y1, x0:x1][piece] = len(owners)
    report.after = len(owners)
    return out, None if classes is None else classes[np.array(owners, np.int64)], report


def _pieces(mask: Bool, options: CraftOptions, report: CraftReport) -> list[Bool]:
    """Return the pieces of a label that become nuclei; count the others."""
    count, numbered, stats, _ = cv2.connectedComponentsWithStats(
        mask.view(np.uint8), connectivity=4
    )
    areas = stats[1:, cv2.CC_STAT_AREA]
    report.in_pieces += count > 2
    if options.pieces == "keep":
        if areas.sum() < options.min_area_px:
            report.specks_dropped += 1
            return []
        return [mask]
    chosen = range(count - 1)
    if options.pieces == "largest":
        chosen = range(int(areas.argmax()), int(areas.argmax()) + 1)
        report.pieces_dropped += count - 2
    kept = [k for k in chosen if areas[k] >= options.min_area_px]
    report.specks_dropped += len(chosen) - len(kept)
    report.pieces_added += max(0, len(kept) - 1)
    return [numbered == k + 1 for k in kept]


def _holes(mask: Bool) -> Bool:
    """Return enclosed background: pixels not reachable from outside by 4-connected steps."""
    around = np.pad(~mask, 1, constant_values=True).view(np.uint8)
    _, numbered = cv2.connectedComponents(around, connectivity=4)
    outside = numbered == numbered[0, 0]
    return np.asarray((around.view(np.bool_) & ~outside)[1:-1, 1:-1])

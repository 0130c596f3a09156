"""Check a data set: counts, sizes, ids, duplicates, patients in two parts."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from nucleate.curation.clean_labels import CraftOptions, craft_labels
from nucleate.datasets.base import DatasetCard, Entry, sample_doubts
from nucleate.errors import InputError
from nucleate.quality.plausibility import doubts_about_sample
from nucleate.readers.images import ImageNote
from nucleate.types import Bool, Sample, UInt8

_HASH_SIDE = 12
_ALIKE = 14  # largest number of differing bits (of 143) between duplicates
_SPECK_PX = 10
_NAMED = 3  # images named per problem; the JSON file lists all


@dataclass(slots=True)
class CheckReport:
    """Findings of a check.

    Attributes:
        images: number of images listed by the data set.
        nuclei: number of annotated nuclei: outlines if the annotation has outlines, else labels.
        part: published part with these counts; empty if there is none.
        problems: sentences about what should be fixed or known before training.
        notes: sentences about what is merely worth knowing.
        rows: one mapping per readable image.
    """

    images: int = 0
    nuclei: int = 0
    part: str = ""
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)


def check(
    entries: list[Entry], card: DatasetCard, tell: Callable[[int, int], None] = lambda *_: None
) -> CheckReport:
    """Read every image of a data set and report the problems found.

    Args:
        entries: entries of the data set.
        card: published facts about it.
        tell: progress callback (images done, images in total).

    Raises:
        InputError: no image can be read; this is the error of the first.
    """
    checker = Checker(entries, card)
    for done, entry in enumerate(entries):
        checker.read(entry)
        tell(done + 1, len(entries))
    return checker.finish()


class Checker:
    """Reads the images of a data set one by one, and collects problems."""

    def __init__(self, entries: list[Entry], card: DatasetCard) -> None:
        self._entries, self._card = entries, card
        self._hashes: dict[str, Bool] = {}
        self._first_error: InputError | None = None
        self.report = CheckReport(images=len(entries))

    def read(self, entry: Entry) -> Sample | None:
        """Read an image; if it is unreadable, record a problem and return None."""
        try:
            sample, said = _read(entry)
        except InputError as error:
            self._first_error = self._first_error or error
            self.report.problems.append(str(error))
            return None
        self.report.notes += said
        if sample.image[::4, ::4].std() > 2:  # blank images all look alike
            self._hashes[entry.name] = image_hash(sample.image)
        self.report.rows.append(_describe(sample, self.report))
        return sample

    def finish(self) -> CheckReport:
        """Add the findings that need all images, and return the report.

        Raises:
            InputError: no image could be read; this is the error of the first.
        """
        report = self.report
        if self._first_error is not None and not report.rows:
            raise self._first_error
        report.nuclei = sum(row["annotated"] for row in report.rows)
        report.problems += implausible(report.rows)
        _sizes(report, self._card)
        _counts(report, self._card)
        report.problems += [f"{a} and {b} show the same tissue" for a, b in alike(self._hashes)]
        report.problems += _shared(self._entries)
        return report


def implausible(rows: list[dict[str, Any]]) -> list[str]:
    """Return a sentence per reason that images look implausible, naming the images.

    Example:
        >>> implausible([{"name": "a", "doubts": ["is grey"]}, {"name": "b", "doubts": []}])
        ['1 of 2 images: is grey (a)']
    """
    named: dict[str, list[str]] = {}
    for row in rows:
        for reason in row["doubts"]:
            named.setdefault(reason, []).append(row["name"])
    return [
        f"{len(names)} of {len(rows)} images: {reason} ({', '.join(names[:_NAMED])}"
        + (", …)" if len(names) > _NAMED else ")")
        for reason, names in named.items()
    ]


def _read(entry: Entry) -> tuple[Sample, list[str]]:
    """Read an image of a data set; return it with the warnings of its reader."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ImageNote)
        sample = entry.read()
    said = []
    for one in caught:
        if issubclass(one.category, ImageNote):
            said.append(str(one.message))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return sample, said


def image_hash(image: UInt8) -> Bool:
    """Compute 143 bits that survive resizing, recompression and changes of brightness.

    Each bit states whether one of the 12 × 12 lowest frequencies of a 64 × 64 thumbnail (without
    the mean) is above their median.

    References:
        Zauner 2010, Implementation and Benchmarking of Perceptual Image Hash Functions (the DCT
        hash).

    Example:
        >>> image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
        >>> bool((image_hash(image) == image_hash(image // 2)).mean() > 0.9)
        True
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(grey, (64, 64), interpolation=cv2.INTER_AREA)
    lowest = cv2.dct(small)[:_HASH_SIDE, :_HASH_SIDE].reshape(-1)[1:]
    return np.asarray(lowest > np.median(lowest))


def alike(hashes: dict[str, Bool]) -> list[tuple[str, str]]:
    """Return the pairs of names whose image hashes differ in at most 14 bits."""
    names = sorted(hashes)
    if len(names) < 2:
        return []
    bits = np.stack([hashes[name] for name in names]).astype(np.float32)
    found = []
    for i in range(len(names) - 1):  # row by row: a matrix of all pairs may not fit in memory
        differing = np.abs(bits[i + 1 :] - bits[i]).sum(axis=1)
        found += [(names[i], names[i + 1 + j]) for j in np.flatnonzero(differing <= _ALIKE)]
    return found


def reasons_against(sample: Sample) -> list[str]:
    """Return the reasons why an annotated image looks implausible."""
    found = doubts_about_sample(sample.image, sample.labels, sample.mpp)
    return [doubt.reason for doubt in found]


def _describe(sample: Sample, report: CheckReport) -> dict[str, Any]:
    """Return the facts of one image, and add its problems to the report."""
    height, width = sample.image.shape[:2]
    row: dict[str, Any] = {
        "name": sample.name, "group": sample.group, "organ": sample.organ, "height": height,
        "width": width, "mpp": sample.mpp, "annotated": 0, "labels": 0,
        "doubts": reasons_against(sample),
    }  # fmt: skip
    if sample.labels is None:
        report.notes.append(f"{sample.name}: has no labels")
        return row
    options = CraftOptions(min_area_px=_SPECK_PX)
    _, _, crafted = craft_labels(sample.labels, options=options)
    drawn = sample.drawn
    row["labels"] = crafted.before
    row["annotated"] = crafted.before if drawn is None else drawn.outlines
    row["in_pieces"], row["specks"] = crafted.in_pieces, crafted.specks_dropped
    row["contested_px"] = 0 if drawn is None else drawn.contested_px
    row["ignored_share"] = 0.0 if sample.ignore is None else float(sample.ignore.mean())
    if not row["labels"]:
        report.notes.append(f"{sample.name}: has no nuclei")
    if drawn is not None and drawn.hidden:
        why = "are wholly under others, or smaller than a pixel"
        report.notes.append(f"{sample.name}: {drawn.hidden} outlines {why}")
    report.notes += [f"{sample.name}: {note}" for note in (() if drawn is None else drawn.notes)]
    report.problems += [f"{sample.name}: {doubt}" for doubt in sample_doubts(sample)]
    largest = int(sample.labels.max(initial=0))
    if largest > crafted.before:
        report.notes.append(f"{sample.name}: ids run to {largest} for {crafted.before} nuclei")
    if sample.mpp is None:
        report.notes.append(f"{sample.name}: states no resolution (mpp)")
    return row


def _sizes(report: CheckReport, card: DatasetCard) -> None:
    sizes = Counter((row["height"], row["width"]) for row in report.rows)
    wrong = sorted(size for size in sizes if card.size is not None and size != card.size)
    if wrong and card.size is not None:
        report.problems.append(
            f"{sum(sizes[size] for size in wrong)} images are not {card.size[1]} × "
            f"{card.size[0]} pixels but, for example, {wrong[0][1]} × {wrong[0][0]}"
        )
    pieces = sum(row.get("in_pieces", 0) for row in report.rows)
    specks = sum(row.get("specks", 0) for row in report.rows)
    contested = sum(row.get("contested_px", 0) for row in report.rows)
    if pieces:
        report.notes.append(f"{pieces} labels are in several pieces (nucleate prepare splits them)")
    if specks:
        report.notes.append(f"{specks} pieces are smaller than {_SPECK_PX} pixels")
    if contested:
        report.notes.append(
            f"{contested} pixels belong to more than one annotation; {card.overlaps}"
        )


def _counts(report: CheckReport, card: DatasetCard) -> None:
    """Find the published part that matches the counts, or report the published counts."""
    fits = [
        part
        for part, (images, nuclei) in card.parts.items()
        if images == report.images and nuclei in (None, report.nuclei)
    ]
    if fits:
        report.part = fits[0]
    elif card.parts:
        known = "; ".join(
            f"{part}: {images} images" + (f", {nuclei} nuclei" if nuclei else "")
            for part, (images, nuclei) in card.parts.items()
        )
        report.problems.append(
            f"{report.images} images with {report.nuclei} nuclei match no published part ({known})"
        )


def _shared(entries: list[Entry]) -> list[str]:
    """Return a sentence for each group with images in several parts."""
    homes: dict[str, set[str]] = {}
    for entry in entries:
        first = entry.name.split("/")[0].lower() if "/" in entry.name else ""
        part = "test" if entry.test_only or first.startswith("test") else first
        homes.setdefault(entry.group, set()).add(part)
    return [
        f"group {group!r} has images in {' and '.join(sorted(p or 'the rest' for p in parts))}"
        for group, parts in sorted(homes.items())
        if len(parts) > 1
    ]

"""Contact sheets: the ranking of references, and images normalised by each method."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import cv2
import numpy as np

from nucleate.files import write_text
from nucleate.stain.normalise import METHODS, fit
from nucleate.stain.reference import Candidate
from nucleate.types import UInt8

_EDGE, _TEXT, _GAP = 220, 44, 8
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def write_ranking(path: Path, ranking: list[Candidate]) -> None:
    """Write a CSV file with one row per image: rank, measurements, reason of rejection."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ("rank", "name", "chosen", "distance", "tissue", "focus", "clipped", "rejected")
    )
    for rank, c in enumerate(ranking, 1):
        distance = "" if c.rejected else f"{c.distance:.3f}"
        writer.writerow(
            ("" if c.rejected else rank, c.name, c.chosen or "", distance, f"{c.tissue:.4f}",
             f"{c.focus:.2f}", f"{c.clipped:.4f}", c.rejected)
        )  # fmt: skip
    write_text(path, text.getvalue())


def ranking_sheet(images: list[tuple[Candidate, UInt8]]) -> UInt8:
    """Return a sheet of images with their rank or the reason for their rejection."""
    cells = []
    for rank, (c, image) in enumerate(images, 1):
        if c.rejected:
            second, colour = f"rejected: {c.rejected}", (190, 30, 30)
        elif c.chosen:
            second, colour = f"reference {c.chosen}, distance {c.distance:.1f}", (0, 120, 40)
        else:
            second, colour = f"{rank}: distance {c.distance:.1f}", (60, 60, 60)
        cells.append(_cell(image, c.name, second, colour))
    return grid(cells, columns=6)


def preview_sheet(
    images: dict[str, UInt8], reference_name: str, reference: UInt8
) -> tuple[UInt8, list[str]]:
    """Return a sheet with a row per image (original, then each method), and the failures."""
    normalisers = {name: fit({reference_name: reference}, name) for name in METHODS}
    grey = (60, 60, 60)
    cells = [_cell(reference, reference_name, "the reference", (0, 120, 40))]
    cells += [np.full_like(cells[0], 255)] * len(METHODS)
    notes = []
    for name, image in images.items():
        cells.append(_cell(image, name, "original", grey))
        for method, normaliser in normalisers.items():
            transform = normaliser.adapt(image)
            if transform.note:
                notes.append(f"{name}, {method}: {transform.note}")
            second = "not normalised" if transform.note else ""
            cells.append(_cell(transform.apply(image), method, second, grey))
    return grid(cells, columns=1 + len(METHODS)), notes


def grid(cells: list[UInt8], columns: int) -> UInt8:
    """Arrange cells of equal size in rows, on white."""
    height, width = cells[0].shape[:2]
    columns = min(columns, len(cells))
    rows = -(-len(cells) // columns)
    sheet = np.full(
        (rows * (height + _GAP) + _GAP, columns * (width + _GAP) + _GAP, 3), 255, np.uint8
    )
    for i, cell in enumerate(cells):
        y, x = (i // columns) * (height + _GAP) + _GAP, (i % columns) * (width + _GAP) + _GAP
        sheet[y : y + height, x : x + width] = cell
    return sheet


def _cell(image: UInt8, first: str, second: str, colour: tuple[int, int, int]) -> UInt8:
    """Return an image fitted into a square, with two lines of text below."""
    cell = np.full((_EDGE + _TEXT, _EDGE, 3), 255, np.uint8)
    scale = _EDGE / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    cell[: size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    for line, (text, ink) in enumerate(((first, (0, 0, 0)), (second, colour))):
        plain = text.encode("ascii", "replace").decode()  # the font has only ASCII
        shown = plain if len(plain) <= 36 else f"{plain[:33]}..."
        cv2.putText(cell, shown, (0, _EDGE + 16 + 18 * line), _FONT, 0.36, ink, 1, cv2.LINE_AA)
    return cell

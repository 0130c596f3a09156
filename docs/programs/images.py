"""Make the images of the documentation: the demo, and four official test images.

    python docs/programs/images.py MoNuSegTestData.zip

True outlines are yellow where a prediction matches them (IoU above 0.5) and red where none does;
predictions that match nothing are blue. The left half shows the image alone.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nucleate import load_model, segment
from nucleate.datasets.monuseg import entries
from nucleate.evaluation.metrics.matching import overlap
from nucleate.geometry.draw import draw_outlines, enlarge
from nucleate.geometry.labels import boxes_areas, compact, largest_pieces
from nucleate.geometry.outlines import paint, trace
from nucleate.geometry.palette import OUTLINE_RGB
from nucleate.readers.array import ArraySource
from nucleate.readers.images import read_image
from nucleate.types import Frame, Instances

OUT = Path(__file__).parents[1] / "images"
EXAMPLE = Path(__file__).parents[2] / "src/nucleate/example/skin.tif"
SHOWN = ("TCGA-HT-8564", "TCGA-AO-A0J2", "TCGA-2Z-A9J9", "TCGA-A6-6782")
YELLOW, RED, BLUE = (255, 221, 0), (230, 0, 0), (0, 90, 255)


def as_instances(labels: np.ndarray) -> Instances:
    """Return the outlines of a label image."""
    xy, offsets, boxes = trace(labels)
    n = len(boxes)
    frame = Frame(labels.shape[1], labels.shape[0], 0.25)
    return replace(
        Instances.empty(frame), ids=np.arange(1, n + 1), coords_xy=xy, offsets=offsets,
        boxes_xyxy=boxes.astype(np.float32), scores=np.ones(n, np.float32),
        classes=np.zeros(n, np.int16),
    )  # fmt: skip


def demo() -> None:
    """Draw the bundled example, without and with outlines."""
    image, mpp = read_image(EXAMPLE)
    nuclei = segment(image, mpp=mpp)
    big, large = enlarge(image, nuclei, 2)
    save(np.hstack([big, draw_outlines(big, large, OUTLINE_RGB, 2)]), "demo.jpg")


def errors(data: Path) -> None:
    """Draw true and predicted outlines on 500 × 500 pixels of four test images."""
    model = load_model()
    for entry in entries(data):
        if entry.group not in SHOWN:
            continue
        sample = entry.read()
        found = segment(ArraySource(sample.image, sample.mpp, sample.name), model)
        pred = paint(found, sample.image.shape[:2])
        pred, truth = compact(pred)[0], largest_pieces(sample.labels)
        table = overlap(truth, pred)
        good = table.pairs[table.iou > 0.5]
        true, guessed = as_instances(truth), as_instances(largest_pieces(pred))
        hit = np.isin(np.arange(len(true)), good[:, 0])
        false = ~np.isin(np.arange(len(guessed)), good[:, 1])
        big, scaled = enlarge(sample.image, true, 2)
        canvas = draw_outlines(big, scaled.take(hit), YELLOW)
        canvas = draw_outlines(canvas, scaled.take(~hit), RED)
        canvas = draw_outlines(canvas, enlarge(sample.image, guessed, 2)[1].take(false), BLUE)
        top, left = corner(truth)
        window = np.s_[2 * top : 2 * top + 900, 2 * left : 2 * left + 900]
        both = np.hstack([big[window], canvas[window]])
        label = (
            f"{entry.name} ({entry.organ}), x {left}, y {top}: {len(true)} true, "
            f"{len(guessed)} predicted, {len(good)} matched in the whole image"
        )
        save(captioned(both, label), f"test-{entry.group}.jpg")


def corner(labels: np.ndarray) -> tuple[int, int]:
    """Return the corner of the 450 × 450 window with most true nuclei: no cherry is picked."""
    boxes, _ = boxes_areas(labels, int(labels.max()))
    centres = np.zeros(labels.shape, np.float32)
    centres[boxes[:, 1:4:2].mean(1).astype(int), boxes[:, 0:3:2].mean(1).astype(int)] = 1
    sums = cv2.integral(centres)
    counts = sums[450:, 450:] - sums[:-450, 450:] - sums[450:, :-450] + sums[:-450, :-450]
    top, left = np.unravel_index(int(counts.argmax()), counts.shape)
    return int(top), int(left)


def captioned(image: np.ndarray, text: str) -> np.ndarray:
    """Return the image with a line of text below."""
    strip = Image.new("RGB", (image.shape[1], 30), "white")
    ImageDraw.Draw(strip).text((8, 6), text, fill="black", font=ImageFont.load_default(16))
    return np.vstack([image, np.asarray(strip)])


def save(image: np.ndarray, name: str) -> None:
    """Write a JPEG."""
    OUT.mkdir(exist_ok=True)
    Image.fromarray(image).save(OUT / name, quality=85)


if __name__ == "__main__":
    demo()
    if len(sys.argv) > 1:
        errors(Path(sys.argv[1]))

"""Facts about one annotated image (size, colours, nuclei), and a thumbnail."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nucleate.features import nucleus_features
from nucleate.geometry.draw import draw_rings
from nucleate.geometry.labels import largest_pieces
from nucleate.geometry.outlines import trace
from nucleate.geometry.palette import OUTLINE_RGB
from nucleate.stain.deconvolution import to_stains
from nucleate.stain.reference import examine
from nucleate.stain.tissue import tissue_mask
from nucleate.types import Int32, Sample, UInt8

THUMB_PX = 360


def describe_sample(sample: Sample) -> tuple[dict[str, Any], dict[str, NDArray[Any]] | None]:
    """Return the facts of an image, and the features of its nuclei (None without labels)."""
    height, width = sample.image.shape[:2]
    about = examine(sample.name, sample.image)
    mask = tissue_mask(sample.image)
    pixels = sample.image[mask] if mask.any() else np.zeros((0, 3), np.uint8)
    stains = to_stains(pixels[None])[0] if len(pixels) else np.zeros((0, 3), np.float32)
    row: dict[str, Any] = {
        "name": sample.name, "group": sample.group, "organ": sample.organ,
        "species": sample.species, "centre": sample.centre, "width": width, "height": height,
        "mpp": sample.mpp, "tissue": about.tissue, "focus": about.focus, "clipped": about.clipped,
    }  # fmt: skip
    if sample.drawn is not None:
        row |= {"contested_px": sample.drawn.contested_px, "hidden": sample.drawn.hidden}
    for i, name in enumerate(("red", "green", "blue")):
        row[name] = float(pixels[:, i].mean()) if len(pixels) else None
        row[f"{name}_sd"] = float(pixels[:, i].std()) if len(pixels) else None
    for i, name in enumerate(("haematoxylin", "eosin")):
        row[name] = float(stains[:, i].mean()) if len(stains) else None
    names = ("nuclei", "nuclei_per_mm2", "foreground", "area_median_um2", "eccentricity_median")
    row |= dict.fromkeys((*names, "touching"))
    if sample.labels is None:
        return row, None
    labels = largest_pieces(sample.labels)
    xy, offsets, _ = trace(labels)
    nuclei = nucleus_features(labels, sample.image, xy, offsets, sample.mpp or 1.0)
    count = len(offsets) - 1
    row["nuclei"] = len(np.unique(sample.labels[sample.labels > 0]))
    row["foreground"] = float((sample.labels > 0).mean())
    if sample.mpp:
        row["nuclei_per_mm2"] = row["nuclei"] / (width * height * sample.mpp**2 / 1e6)
    if count:
        row["eccentricity_median"] = float(np.median(nuclei["eccentricity"]))
        row["touching"] = float(touching(labels).mean())
        if sample.mpp:
            row["area_median_um2"] = float(np.median(nuclei["area_um2"]))
    return row, nuclei


def touching(labels: Int32) -> NDArray[np.bool_]:
    """Return for each label 1..n whether it touches another label.

    Example:
        >>> touching(np.array([[1, 2, 0, 3]], np.int32)).tolist()
        [True, True, False]
    """
    count = int(labels.max(initial=0))
    hit = np.zeros(count + 1, np.bool_)
    for a, b in ((labels[:, 1:], labels[:, :-1]), (labels[1:], labels[:-1])):
        meets = (a != b) & (a > 0) & (b > 0)
        hit[a[meets]] = True
        hit[b[meets]] = True
    return hit[1:]


def thumbnail(sample: Sample) -> bytes:
    """Return a JPEG thumbnail with the outlines of the labels; ignored areas are hatched."""
    scale = THUMB_PX / max(sample.image.shape[:2])
    size = (
        max(1, round(sample.image.shape[1] * scale)), max(1, round(sample.image.shape[0] * scale)),
    )  # fmt: skip
    image = np.ascontiguousarray(cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA))
    if sample.ignore is not None:
        small = cv2.resize(sample.ignore.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        rows, columns = np.indices(small.shape)
        image[(small > 0) & ((rows + columns) % 6 < 2)] = (90, 90, 90)
    if sample.labels is not None:
        _outline(image, sample.labels)
    coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])[1]
    return bytes(coded)


def _outline(image: UInt8, labels: Int32) -> None:
    """Draw the outlines of labels onto a downscaled image."""
    xy, offsets, _ = trace(largest_pieces(labels))
    scale = np.array([image.shape[1] / labels.shape[1], image.shape[0] / labels.shape[0]])
    smaller = xy * scale
    draw_rings(image, [smaller[a:b] for a, b in pairwise(offsets)], OUTLINE_RGB)

"""TNBC: 50 fields of 11 patients with triple-negative breast cancer."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from nucleate.annotations.label_images import LABEL_IMAGES, read_labels
from nucleate.datasets.base import DatasetCard, Entry, check_size, open_root, pair
from nucleate.files import PathLike
from nucleate.folders import walk
from nucleate.readers.images import IMAGES, read_image
from nucleate.types import Int32, Sample

CARD = DatasetCard(
    title="TNBC (Naylor 2018)",
    contents="50 fields of 512 × 512 pixels at 40x (0.25 um/px) of 11 patients with "
    "triple-negative breast cancer, Institut Curie.",
    licence="CC-BY-4.0",
    citation="Naylor et al. 2019, IEEE TMI 38(2):448-459, doi:10.1109/TMI.2018.2865709; data "
    "doi:10.5281/zenodo.1175282",
    where="Download TNBC_NucleiSegmentation.zip from https://doi.org/10.5281/zenodo.1175282.",
    overlaps="the published label image decides",
    mpp=0.25,
    size=(512, 512),
    organs=("breast",),
    parts={"all": (50, 4_028)},
)

_FOLDERS = re.compile(r"(slide|gt)_(\d+)$", re.IGNORECASE)


def entries(root: Path, mpp: float = 0.25) -> list[Entry]:
    """List the fields, from the published layout or from plain folders.

    Args:
        root: folder or zip file with `Slide_01/01_1.png` and `GT_01/01_1.png`, or with
            `images/01_1.*` and `labels/01_1.*`.
        mpp: micrometres per pixel; all images were taken at 40x and state none.

    Returns:
        One entry per field, sorted by name; the group is the patient, the part before `_`.

    Raises:
        InputError: no images, an image without labels, or the reverse.
    """
    images: dict[str, PathLike] = {}
    labels: dict[str, PathLike] = {}
    for name, file in walk(open_root(root)):
        path = PurePosixPath(name)
        folder = path.parent.name.lower()
        published = _FOLDERS.match(folder)
        kind = published.group(1) if published else folder
        if kind in ("slide", "images") and path.suffix.lower() in IMAGES:
            images[path.stem] = file
        elif kind in ("gt", "labels") and path.suffix.lower() in LABEL_IMAGES:
            labels[path.stem] = file
    return [
        Entry(name, f"TNBC-{name.split('_')[0]}", _reader(name, image, truth, mpp), "breast")
        for name, image, truth in pair(root, images, labels, CARD.where)
    ]


def _reader(name: str, image: PathLike, truth: PathLike, mpp: float) -> Callable[[], Sample]:
    def read() -> Sample:
        pixels, _ = read_image(image)
        labels = separate(read_labels(truth))
        check_size(truth, labels, pixels)
        return Sample(
            image=pixels,
            labels=labels,
            name=name,
            group=f"TNBC-{name.split('_')[0]}",
            mpp=mpp,
            organ="breast",
            species="human",
            centre="Institut Curie",
        )

    return read


def separate(labels: Int32) -> Int32:
    """Split a binary mask into its pieces; return labels of more than one value unchanged.

    The published masks are binary. Annotators left gaps between touching nuclei, so the 4-connected
    pieces are the nuclei.

    Example:
        >>> separate(np.array([[255, 0, 255]], np.int32)).tolist()
        [[1, 0, 2]]
    """
    values = np.unique(labels)
    if len(values[values > 0]) != 1:
        return labels
    return cv2.connectedComponents((labels > 0).astype(np.uint8), connectivity=4)[1]  # type: ignore[no-any-return]

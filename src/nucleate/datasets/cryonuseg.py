"""CryoNuSeg: 30 frozen sections of ten organs, each annotated three times by two people."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from nucleate.annotations.label_images import read_labels
from nucleate.datasets.base import DatasetCard, Entry, check_size, open_root, pair
from nucleate.errors import ConfigError, InputError, nearest
from nucleate.files import PathLike
from nucleate.folders import walk
from nucleate.readers.images import read_image
from nucleate.types import Sample

ANNOTATIONS = {
    "biologist": "Annotator 1 (biologist)",
    "biologist-2": "Annotator 1 (biologist second round of manual marks up)",
    "bioinformatician": "Annotator 2 (bioinformatician)",
}

CARD = DatasetCard(
    title="CryoNuSeg",
    contents="30 frozen sections of 512 × 512 pixels at 40x (0.25 um/px) from TCGA, 3 of each of "
    "10 organs, annotated by a biologist twice and by a bioinformatician once.",
    licence="CC-BY-NC-SA-4.0",
    citation="Mahbod et al. 2021, CryoNuSeg, Computers in Biology and Medicine 132:104349, "
    "doi:10.1016/j.compbiomed.2021.104349",
    where="Download https://www.kaggle.com/datasets/ipateam/segmentation-of-nuclei-in-"
    "cryosectioned-he-images (needs a Kaggle account) and unpack it.",
    overlaps="the published label image decides ('label masks modify')",
    mpp=0.25,
    size=(512, 512),
    organs=(
        "adrenal gland", "larynx", "lymph nodes", "mediastinum", "pancreas", "pleura", "skin",
        "testes", "thymus", "thyroid gland",
    ),
    parts={"biologist": (30, 7_592), "biologist-2": (30, 8_036), "bioinformatician": (30, 8_242)},
)  # fmt: skip

_NAME = re.compile(r"Human_([A-Za-z]+)_(\d+)")


def entries(root: Path, annotation: str = "biologist", mpp: float = 0.25) -> list[Entry]:
    """List the images, with one of the three rounds of annotation.

    Args:
        root: folder or zip file that contains `tissue images/` and the annotators' folders.
        annotation: key of `ANNOTATIONS`.
        mpp: micrometres per pixel; all images were taken at 40x and state none.

    Returns:
        One entry per image, sorted by name; every image is from a different patient.

    Raises:
        ConfigError: no such annotation.
        InputError: no images, an image without labels, or the reverse.
    """
    if annotation not in ANNOTATIONS:
        raise ConfigError(
            f"CryoNuSeg has no annotation {annotation!r}. {nearest(annotation, list(ANNOTATIONS))}"
        )
    images: dict[str, PathLike] = {}
    labels: dict[str, PathLike] = {}
    for name, file in walk(open_root(root)):
        path = PurePosixPath(name)
        if path.suffix.lower() not in (".tif", ".tiff", ".png"):
            continue
        if path.parent.name == "tissue images":
            images[path.stem] = file
        elif path.parent.name == "label masks modify" and ANNOTATIONS[annotation] in path.parts:
            labels[path.stem] = file
    if images and not labels:
        raise InputError(
            f"{root}: contains no folder {ANNOTATIONS[annotation]!r} with 'label masks modify'. "
            "Its binary masks alone merge touching nuclei. Unpack the whole data set."
        )
    return [
        Entry(name, name, _reader(name, image, truth, mpp), organ_of(name))
        for name, image, truth in pair(root, images, labels, CARD.where)
    ]


def organ_of(name: str) -> str | None:
    """Return the organ in an image's name.

    Example:
        >>> organ_of("Human_AdrenalGland_01")
        'adrenal gland'
    """
    found = _NAME.match(name)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", found.group(1)).lower() if found else None


def _reader(name: str, image: PathLike, truth: PathLike, mpp: float) -> Callable[[], Sample]:
    def read() -> Sample:
        pixels, _ = read_image(image)
        labels = read_labels(truth)
        check_size(truth, labels, pixels)
        return Sample(
            image=pixels,
            labels=labels,
            name=name,
            group=name,
            mpp=mpp,
            organ=organ_of(name),
            species="human",
        )

    return read

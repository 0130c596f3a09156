"""MoNuSeg 2018: 30 training and 14 test images of 1000 × 1000 pixels, TIFF + Aperio XML."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nucleate.annotations.aperio_xml import read_aperio_regions
from nucleate.annotations.outline_file import draw_file
from nucleate.datasets.base import DatasetCard, Entry, open_root, pair
from nucleate.datasets.test_sets import is_official_test
from nucleate.files import PathLike
from nucleate.folders import walk
from nucleate.readers.images import read_image
from nucleate.types import Sample

CARD = DatasetCard(
    title="MoNuSeg 2018",
    contents="30 training images (16,959 nuclei in the XML) and 14 test images (6,697 nuclei) of "
    "1000 × 1000 pixels at 40x (0.25 um/px) from TCGA; 7 organs in training, 7 in test. Three of "
    "the training images are at 20x and read as 0.5 um/px (TCGA-HE-7128, -7129, -7130): their "
    "median nuclei have 93, 120 and 121 px², those of the other kidney images 275 to 312.",
    licence="CC-BY-NC-SA-4.0",
    citation="Kumar et al. 2020, A Multi-Organ Nucleus Segmentation Challenge, IEEE TMI, "
    "doi:10.1109/TMI.2019.2947628; Kumar et al. 2017, doi:10.1109/TMI.2017.2677499",
    overlaps="the earlier outline keeps the pixel, as in the official converter",
    mpp=0.25,
    size=(1000, 1000),
    organs=(
        "breast",
        "kidney",
        "liver",
        "prostate",
        "bladder",
        "colon",
        "stomach",
        "lung",
        "brain",
    ),
    parts={"training": (30, 16_959), "test": (14, 6_697), "extra 7": (7, 7_174)},
    where="Register at https://monuseg.grand-challenge.org/Data/ and download the two zip files.",
)
# Organ by patient, as listed in the papers (some TCGA codes name another tissue source).
_ORGANS = {
    "breast": "A7-A13E A7-A13F AR-A1AK AR-A1AS E2-A1B5 E2-A14V AC-A2FO AO-A0J2",
    "kidney": "B0-5711 HE-7128 HE-7129 HE-7130 B0-5710 B0-5698 2Z-A9J9 GL-6846 IZ-8196",
    "liver": "18-5592 38-6178 49-4488 50-5931 21-5784 21-5786",
    "prostate": "G9-6336 G9-6348 G9-6356 G9-6363 CH-5767 G9-6362 EJ-A46H HC-7209",
    "bladder": "DK-A2I6 G2-A2EK CU-A0YN ZF-A9R5",
    "colon": "AY-A8YK NH-A8F7 A6-6782",
    "stomach": "KB-A93J RD-A8N9",
    "lung": "44-2665 69-7764",
    "brain": "FG-A4MU HT-8564",
}
# Taken at 20x, although their XML states 40x: nuclei have half the diameter, and there are three
# to five times as many as in the other kidney images.
AT_20X = frozenset({"TCGA-HE-7128", "TCGA-HE-7129", "TCGA-HE-7130"})
ORGAN_OF = {f"TCGA-{p}": organ for organ, patients in _ORGANS.items() for p in patients.split()}


def entries(root: Path, mpp: float = 0.25) -> list[Entry]:
    """List the images of one part (training or test) in the official layout.

    Args:
        root: folder or zip file with `.tif` and `.xml` of equal stems, at any depth
            (`Tissue Images/` and `Annotations/` in the training part, side by side in the test).
        mpp: micrometres per pixel of the 40x images, whose stated values are unusable; the three
            20x images get twice this value.

    Returns:
        One entry per image, sorted by name; group is the patient (12 characters of the barcode).

    Raises:
        InputError: no images, an image without annotation, or the reverse.
    """
    base = open_root(root)
    images: dict[str, PathLike] = {}
    annotations: dict[str, PathLike] = {}
    for _, file in walk(base):
        kind = file.suffix.lower()
        if kind in (".tif", ".tiff"):
            images[_stem(file)] = file
        elif kind == ".xml":
            annotations[_stem(file)] = file
    return [
        _entry(name, image, annotation, mpp)
        for name, image, annotation in pair(root, images, annotations, CARD.where, (".xml",))
    ]


def _entry(name: str, image: PathLike, annotation: PathLike, mpp: float) -> Entry:
    patient = name[:12]
    organ = ORGAN_OF.get(patient)
    if patient in AT_20X:
        mpp = 2 * mpp
    return Entry(
        name=name,
        group=patient,
        organ=organ,
        test_only=is_official_test(name),
        read=_reader(name, patient, organ, image, annotation, mpp),
    )


def _reader(
    name: str, patient: str, organ: str | None, image: PathLike, annotation: PathLike, mpp: float
) -> Callable[[], Sample]:
    def read() -> Sample:
        pixels, _ = read_image(image)
        file = read_aperio_regions(annotation)
        labels, _, drawn = draw_file(annotation, file, pixels.shape[:2])
        return Sample(
            image=pixels,
            labels=labels,
            name=name,
            group=patient,
            mpp=mpp,
            organ=organ,
            species="human",
            drawn=drawn,
        )

    return read


def _stem(file: PathLike) -> str:
    return file.name[: -len(file.suffix)]

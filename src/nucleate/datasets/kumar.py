"""Kumar: the 30 images that later became MoNuSeg's training images, in HoVer-Net's layout."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from nucleate.datasets import hovernet
from nucleate.datasets.base import DatasetCard, Entry
from nucleate.datasets.monuseg import ORGAN_OF

CARD = DatasetCard(
    title="Kumar",
    contents="30 images of 1000 × 1000 pixels at 40x (0.25 um/px) from TCGA, 7 organs: 16 for "
    "training, 8 for testing on the same organs, 6 on others. They are MoNuSeg's training images: "
    "never count them twice, never test a MoNuSeg model on them.",
    licence="CC-BY-NC-SA-4.0",
    citation="Kumar et al. 2017, IEEE TMI 36(7):1550-1560, doi:10.1109/TMI.2017.2677499",
    where="Download kumar.zip from https://drive.google.com/drive/folders/"
    "1l55cv3DuY-f7-JotDN7N5nbNnjbLWchK (HoVer-Net's data page links it).",
    overlaps="the published label image decides",
    mpp=0.25,
    size=(1000, 1000),
    organs=("breast", "kidney", "liver", "prostate", "bladder", "colon", "stomach"),
    parts={"train": (16, None), "test_same": (8, None), "test_diff": (6, None), "all": (30, None)},
)


def entries(root: Path, mpp: float = 0.25) -> list[Entry]:
    """List the images; the group is the patient, 12 characters of the TCGA barcode.

    Args:
        root: folder or zip file that contains `Images/` and `Labels/`, at any depth.
        mpp: micrometres per pixel; the images state none.

    Raises:
        InputError: no images, an image without labels, or the reverse.
    """

    def describe(name: str) -> tuple[str, str | None]:
        patient = PurePosixPath(name).name[:12]
        return patient, ORGAN_OF.get(patient)

    return hovernet.find(root, CARD, describe, mpp, names=())

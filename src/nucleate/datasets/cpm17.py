"""CPM-17: brain, lung, head and neck, as distributed by HoVer-Net's authors."""

from __future__ import annotations

from pathlib import Path

from nucleate.datasets import hovernet
from nucleate.datasets.base import DatasetCard, Entry

CARD = DatasetCard(
    title="CPM-17",
    contents="64 images (32 training, 32 test) of 500 × 500 to 600 × 600 pixels from TCGA: "
    "glioma, lung and head-and-neck cancer; 7,570 nuclei. 20x images were enlarged to 40x.",
    licence="not stated by the publishers; for research",
    citation="Vu et al. 2019, Frontiers in Bioengineering and Biotechnology 7:53, "
    "doi:10.3389/fbioe.2019.00053",
    where="Download cpm17.zip from https://drive.google.com/drive/folders/"
    "1l55cv3DuY-f7-JotDN7N5nbNnjbLWchK (HoVer-Net's data page links it).",
    overlaps="the published label image decides",
    mpp=0.25,
    parts={"train": (32, None), "test": (32, None), "both": (64, 7_570)},
)


def entries(root: Path, mpp: float = 0.25) -> list[Entry]:
    """List the images; their patients are not published.

    Args:
        root: folder or zip file that contains `Images/` and `Labels/`, at any depth.
        mpp: micrometres per pixel; the images state none.

    Raises:
        InputError: no images, an image without labels, or the reverse.
    """
    return hovernet.find(root, CARD, lambda name: (name, None), mpp, names=())

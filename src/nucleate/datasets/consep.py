"""CoNSeP: colorectal adenocarcinoma, with the type of every nucleus."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from nucleate.datasets import hovernet
from nucleate.datasets.base import DatasetCard, Entry
from nucleate.errors import ConfigError

SEVEN = (
    "other", "inflammatory", "healthy epithelial", "malignant epithelial", "fibroblast", "muscle",
    "endothelial",
)  # fmt: skip
FOUR = ("other", "inflammatory", "epithelial", "spindle-shaped")

CARD = DatasetCard(
    title="CoNSeP",
    contents="41 images (27 training, 14 test) of 1000 × 1000 pixels at 40x (0.25 um/px) of 16 "
    "patients with colorectal adenocarcinoma, 24,319 nuclei of 7 types.",
    licence="for research, with citation; check with the authors before shipping what is derived",
    citation="Graham et al. 2019, HoVer-Net, Medical Image Analysis 58:101563, "
    "doi:10.1016/j.media.2019.101563",
    where="Download consep.zip from https://warwick.ac.uk/fac/cross_fac/tia/data/hovernet/.",
    overlaps="the published label image decides",
    mpp=0.25,
    size=(1000, 1000),
    classes=SEVEN,
    organs=("colon",),
    parts={"Train": (27, None), "Test": (14, None), "both": (41, 24_319)},
)


def entries(root: Path, types: int = 7, mpp: float = 0.25) -> list[Entry]:
    """List the images of one or both parts; the patients are not published.

    Args:
        root: folder or zip file that contains `Images/` and `Labels/`, at any depth.
        types: 7 as published, or 4 with types merged (healthy and malignant epithelial;
            fibroblast, muscle and endothelial), as in HoVer-Net; the files do not state which.
        mpp: micrometres per pixel; the images state none.

    Raises:
        ConfigError: another number of types.
        InputError: no images, an image without labels, or the reverse.
    """
    if types not in (7, 4):
        raise ConfigError(
            f"types = {types}: CoNSeP has 7 types, or 4 merged ones. Set types to 7 or 4."
        )
    names = SEVEN if types == 7 else FOUR
    return hovernet.find(root, CARD, lambda name: (PurePosixPath(name).name, "colon"), mpp, names)

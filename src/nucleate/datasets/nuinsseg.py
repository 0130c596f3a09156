"""NuInsSeg: 665 tiles of 31 human and mouse organs, with vague areas that are ignored.

The folders are read as published: one per organ, its name with a space and sometimes misspelt,
`Imagj_zips` without its second e.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np

from nucleate.annotations.drawing import draw_counted, ragged
from nucleate.annotations.imagej import read_imagej_rois
from nucleate.annotations.label_images import read_labels
from nucleate.datasets.base import DatasetCard, Entry, check_size, open_root, pair
from nucleate.drawing_report import DrawingReport
from nucleate.errors import ConfigError, InputError
from nucleate.files import PathLike
from nucleate.folders import walk
from nucleate.readers.images import read_image
from nucleate.resolution import resolve_mpp
from nucleate.types import Bool, Float64, Int32, Sample

CARD = DatasetCard(
    title="NuInsSeg",
    contents="665 tiles of 512 × 512 pixels at 40x of 31 organs (23 human, 8 mouse), 30,698 "
    "nuclei, with masks of vague areas.",
    licence="CC-BY-4.0 (Kaggle and Zenodo release; check the page you download from)",
    citation="Mahbod et al. 2024, NuInsSeg, Scientific Data 11:295, doi:10.1038/s41597-024-03117-2",
    where="Download https://doi.org/10.5281/zenodo.10518968 or "
    "https://www.kaggle.com/datasets/ipateam/nuinsseg and unpack it.",
    overlaps="the later region gets the pixel ('label masks modify' and drawn regions alike)",
    mpp=None,
    size=(512, 512),
    parts={"all": (665, 30_698)},
)

_OUTLINE_FOLDERS = ("Imagj_zips", "Imagej_zips")
_SPECIES = ("human", "mouse")


@dataclass(slots=True)
class _Files:
    """The files of all tiles, by tile name."""

    images: dict[str, PathLike]
    labels: dict[str, PathLike]
    vague: dict[str, PathLike]
    folder: dict[str, str]


def entries(
    root: Path,
    mpp: float | None = None,
    outlines: bool = False,
    vague: bool = True,
    override_mpp: bool = False,
) -> list[Entry]:
    """List the tiles.

    Args:
        root: folder or zip file that contains one folder per organ, at any depth.
        mpp: micrometres per pixel; None leaves it unknown, as the data set states none.
        outlines: draw the ImageJ regions in `Imagj_zips/` instead of reading
            `label masks modify/`.
        vague: read the masks in `vague areas/` as `ignore`.
        override_mpp: let `mpp` replace a different value of a tile.

    Returns:
        One entry per tile, sorted by name; the group is the organ's folder, which is one slide.

    Raises:
        InputError: no images, an image without labels, or the reverse.
        ConfigError: an option has the wrong type.
    """
    for option, value in (("outlines", outlines), ("vague", vague)):
        if not isinstance(value, bool):
            raise ConfigError(f"{option} = {value!r}: must be true or false.")
    found = _find(root, outlines)
    settle = partial(resolve_mpp, given=mpp, override=override_mpp)
    result = []
    for name, image, truth in pair(root, found.images, found.labels, CARD.where):
        folder = found.folder[name]
        files = (image, truth, found.vague.get(name) if vague else None)
        read = _reader(name, folder, files, settle)
        result.append(Entry(name, folder, read, _species_organ(folder)[1]))
    return result


def _find(root: Path, outlines: bool) -> _Files:
    """Sort the files of the tree by kind; names are unique across organs."""
    files = _Files({}, {}, {}, {})
    wanted = _OUTLINE_FOLDERS if outlines else ("label masks modify",)
    for name, file in walk(open_root(root)):
        path = PurePosixPath(name)
        above = [part.lower() for part in path.parts[:-1]]
        suffix = path.suffix.lower()
        if "vague areas" in above:
            if above[-1].startswith("mask binary") and suffix == ".png":
                files.vague[path.stem] = file
        elif above and above[-1] == "tissue images" and suffix in (".png", ".tif"):
            if path.stem in files.images:
                raise InputError(
                    f"{root}: two tiles have the name {path.stem}. Remove one of them."
                )
            files.images[path.stem] = file
            files.folder[path.stem] = path.parts[-3] if len(path.parts) > 2 else root.stem
        elif above and above[-1] in [w.lower() for w in wanted] and suffix in (".tif", ".zip"):
            files.labels[path.stem] = file
    return files


def _species_organ(folder: str) -> tuple[str | None, str]:
    """Return species and organ from a folder's name.

    Example:
        >>> _species_organ("mouse muscle_tibia")
        ('mouse', 'muscle tibia')
    """
    words = re.split(r"[\s_]+", folder.strip().lower())
    species = words[0] if words[0] in _SPECIES else None
    return species, " ".join(words[1:] if species else words)


def _reader(
    name: str,
    folder: str,
    files: tuple[PathLike, PathLike, PathLike | None],
    settle: Callable[[str, float | None], float | None],
) -> Callable[[], Sample]:
    image, truth, vague = files
    species, organ = _species_organ(folder)

    def read() -> Sample:
        pixels, stated = read_image(image)
        labels, drawn = read_truth(truth, pixels.shape[:2])
        check_size(truth, labels, pixels)
        return Sample(
            image=pixels,
            labels=labels,
            name=name,
            group=folder,
            mpp=settle(name, stated),
            ignore=None if vague is None else read_vague(vague, labels),
            organ=organ,
            species=species,
            centre="Medical University of Vienna",
            drawn=drawn,
        )

    return read


def read_truth(path: PathLike, shape: tuple[int, int]) -> tuple[Int32, DrawingReport | None]:
    """Read a label image, or draw a zip file of ImageJ regions at `shape`.

    Raises:
        InputError: the file cannot be read.
    """
    if path.suffix.lower() != ".zip":
        return read_labels(path), None
    largest: list[Float64] = []
    for vertices, offsets in read_imagej_rois(path):  # a composite counts as its largest piece
        pieces = [vertices[a:b] for a, b in pairwise(offsets)]
        largest.append(max(pieces, key=lambda p: float(np.ptp(p, axis=0).prod())))
    labels, _, drawn = draw_counted(ragged(largest), shape, later_wins=True)
    return labels, drawn


def read_vague(path: PathLike, labels: Int32) -> Bool:
    """Read the mask of vague areas as bool.

    Raises:
        InputError: the mask cannot be read or has another size than the labels.
    """
    mask = read_labels(path)
    if mask.shape != labels.shape:
        raise InputError(
            f"{path}: the mask is {mask.shape[1]} × {mask.shape[0]} pixels, the labels are "
            f"{labels.shape[1]} × {labels.shape[0]}. Download it again."
        )
    return mask > 0

"""PanNuke: 7,901 tiles of 19 tissues in three folds, with the type of every nucleus."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nucleate.datasets.base import DatasetCard, Entry, open_root
from nucleate.drawing_report import DrawingReport
from nucleate.errors import ConfigError, InputError
from nucleate.folders import walk
from nucleate.geometry.labels import compact
from nucleate.types import Int16, Int32, Sample

CARD = DatasetCard(
    title="PanNuke",
    contents="7,901 tiles of 256 × 256 pixels at 40x (0.25 um/px) of 19 tissues in three folds "
    "(2,656 + 2,523 + 2,722), 189,744 nuclei of 5 types.",
    licence="CC-BY-NC-SA-4.0",
    citation="Gamper et al. 2020, PanNuke Dataset Extension, Insights and Baselines, "
    "arXiv:2003.10778",
    where="Download fold_1.zip, fold_2.zip and fold_3.zip from "
    "https://warwick.ac.uk/fac/cross_fac/tia/data/pannuke and unpack them: arrays inside a zip "
    "file cannot be memory-mapped.",
    overlaps="the first type keeps the pixel (order: neoplastic, inflammatory, connective, dead, "
    "epithelial)",
    mpp=0.25,
    size=(256, 256),
    classes=("neoplastic", "inflammatory", "connective", "dead", "epithelial"),
    organs=(
        "adrenal gland", "bile duct", "bladder", "breast", "cervix", "colon", "esophagus",
        "headneck", "kidney", "liver", "lung", "ovarian", "pancreatic", "prostate", "skin",
        "stomach", "testis", "thyroid", "uterus",
    ),
    parts={
        "fold 1": (2_656, None), "fold 2": (2_523, None), "fold 3": (2_722, None),
        "all": (7_901, 189_744),
    },
)  # fmt: skip


def entries(root: Path, mpp: float = 0.25, group: str = "fold") -> list[Entry]:
    """List the tiles of all folds below a folder.

    Args:
        root: folder with `images/fold1/images.npy`, `images/fold1/types.npy` and
            `masks/fold1/masks.npy` at any depth, for one or several folds.
        mpp: micrometres per pixel.
        group: `fold`, because the slides of tiles are not published and only the official folds
            are known to share none; or `tile`, which disregards that.

    Returns:
        One entry per tile, named `fold1_00000`, sorted; read from the memory-mapped arrays.

    Raises:
        ConfigError: unknown `group`.
        InputError: no folds, a part of a fold is missing, or arrays do not match.
    """
    if group not in ("fold", "tile"):
        raise ConfigError(f"group = {group!r}: unknown value. Use fold or tile.")
    if root.is_file():
        open_root(root)  # reports a broken zip file
        raise InputError(f"{root}: contains no unpacked folder of arrays. {CARD.where}")
    folds: dict[str, dict[str, Path]] = {}
    for name, file in walk(open_root(root)):
        path = PurePosixPath(name)
        if path.name in ("images.npy", "masks.npy", "types.npy") and isinstance(file, Path):
            fold = next((p for p in reversed(path.parts[:-1]) if p.lower().startswith("fold")), "")
            folds.setdefault(fold.lower().replace(" ", "") or "fold", {})[path.stem] = file
    if not folds:
        raise InputError(f"{root}: contains no images.npy. {CARD.where}")
    found = []
    for fold, files in sorted(folds.items()):
        missing = {"images", "masks", "types"} - files.keys()
        if missing:
            raise InputError(
                f"{root}: {fold} has no {sorted(missing)[0]}.npy. Unpack its zip file again."
            )
        found += _fold(fold, files, mpp, group)
    return found


def _fold(fold: str, files: dict[str, Path], mpp: float, group: str) -> list[Entry]:
    images = _map(files["images"], (None, None, None, 3))
    masks = _map(files["masks"], (*images.shape[:3], 6))
    types = _map(files["types"], (images.shape[0],))
    found = []
    for i in range(len(images)):
        name = f"{fold}_{i:05d}"
        organ = str(types[i]).replace("_", " ").replace("-", " ").lower()
        owner = fold if group == "fold" else name
        read = _reader(name, owner, organ, (files["images"], images, masks), mpp, i)
        found.append(Entry(name, owner, read, organ))
    return found


def _map(path: Path, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """Memory-map an array file, and check its shape.

    Raises:
        InputError: damaged, contains Python objects, or has another shape.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a malicious header raises any error
        said = (" ".join(str(error).split()) or type(error).__name__)[:120].rstrip(".")
        raise InputError(
            f"{path}: cannot be read as a NumPy array ({said}). Unpack the fold again."
        ) from error
    fits = isinstance(array, np.ndarray) and array.ndim == len(shape)
    if not fits or any(w not in (None, n) for w, n in zip(shape, array.shape, strict=True)):
        wanted = " × ".join("any" if n is None else str(n) for n in shape)
        have = " × ".join(map(str, getattr(array, "shape", ())))
        raise InputError(f"{path}: has the shape {have}, not {wanted}. Unpack the fold again.")
    return array  # type: ignore[no-any-return]


def _reader(
    name: str,
    group: str,
    organ: str,
    arrays: tuple[Path, NDArray[Any], NDArray[Any]],
    mpp: float,
    row: int,
) -> Callable[[], Sample]:
    path, images, masks = arrays

    def read() -> Sample:
        image, layers = np.asarray(images[row]), np.asarray(masks[row])
        for what, values in (("image", image), ("mask", layers)):
            if values.dtype.kind not in "uif" or not (
                np.isfinite(values).all()
                and (values == np.rint(values)).all()
                and values.min() >= 0
            ):
                raise InputError(
                    f"{path}: the {what} of tile {row} must be whole numbers of at least 0. Unpack "
                    "the fold again."
                )
        if image.max() > 255:
            raise InputError(f"{path}: tile {row} has values above 255. Unpack the fold again.")
        labels, classes, drawn = merge_layers(layers[..., :5].astype(np.int64))
        return Sample(
            image=image.astype(np.uint8),
            labels=labels,
            name=name,
            group=group,
            mpp=mpp,
            classes=classes,
            class_names=CARD.classes,
            organ=organ,
            species="human",
            drawn=drawn,
        )

    return read


def merge_layers(layers: NDArray[np.int64]) -> tuple[Int32, Int16, DrawingReport]:
    """Merge layers (H, W, k), one per type, into a label image; the first layer keeps a pixel.

    Example:
        >>> layers = np.zeros((1, 3, 2), np.int64)
        >>> layers[0, :2, 0], layers[0, 1:, 1] = 4, 9
        >>> labels, classes, drawn = merge_layers(layers)
        >>> labels.tolist(), classes.tolist(), drawn.contested_px
        ([[1, 1, 2]], [0, 1], 1)
    """
    merged = np.zeros(layers.shape[:2], np.int32)
    kinds: list[int] = []
    contested = 0
    for kind in range(layers.shape[2]):
        layer = layers[..., kind]
        ids, numbers = np.unique(layer, return_inverse=True)
        if ids[0] != 0:
            ids, numbers = np.concatenate([[0], ids]), numbers + 1
        inside = layer > 0
        contested += int((inside & (merged > 0)).sum())
        numbered = numbers.reshape(layer.shape) + len(kinds)
        merged = np.where(inside & (merged == 0), numbered, merged).astype(np.int32)
        kinds += [kind] * (len(ids) - 1)
    labels, old = compact(merged)
    classes = np.array(kinds, np.int16)[old - 1]
    return labels, classes, DrawingReport(len(kinds), contested, len(kinds) - len(old))

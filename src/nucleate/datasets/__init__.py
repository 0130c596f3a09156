"""Data sets: one file each, and a table of all. To add one, see CONTRIBUTING.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nucleate.datasets import (
    coco,
    consep,
    cpm17,
    cryonuseg,
    folder,
    kumar,
    monuseg,
    nuinsseg,
    pannuke,
    qupath,
    shards,
    tnbc,
)
from nucleate.datasets.base import DatasetCard, Entry


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set's card and the function that lists its entries: `entries(root, **options)`."""

    card: DatasetCard
    entries: Callable[..., list[Entry]]


DATASETS: dict[str, Dataset] = {
    "monuseg": Dataset(monuseg.CARD, monuseg.entries),
    "cryonuseg": Dataset(cryonuseg.CARD, cryonuseg.entries),
    "nuinsseg": Dataset(nuinsseg.CARD, nuinsseg.entries),
    "tnbc": Dataset(tnbc.CARD, tnbc.entries),
    "consep": Dataset(consep.CARD, consep.entries),
    "kumar": Dataset(kumar.CARD, kumar.entries),
    "cpm17": Dataset(cpm17.CARD, cpm17.entries),
    "pannuke": Dataset(pannuke.CARD, pannuke.entries),
    "coco": Dataset(coco.CARD, coco.entries),
    "qupath": Dataset(qupath.CARD, qupath.entries),
    "shards": Dataset(shards.CARD, shards.entries),
    "folder": Dataset(folder.CARD, folder.entries),
}

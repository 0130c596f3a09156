"""Data sets: one file each, and one table of them. Adding one: see CONTRIBUTING.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nucleate.datasets import folder, monuseg
from nucleate.datasets.entry import DatasetCard, Entry


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set's card and the function that lists its entries: `entries(root, **options)`."""

    card: DatasetCard
    entries: Callable[..., list[Entry]]


DATASETS: dict[str, Dataset] = {
    "monuseg": Dataset(monuseg.CARD, monuseg.entries),
    "folder": Dataset(folder.CARD, folder.entries),
}

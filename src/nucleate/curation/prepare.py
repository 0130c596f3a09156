"""Preparation of a data set: stain, fixed labels, resolution, augmented copies → shards.

Stain reference, mean and standard deviation are fitted on training images only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nucleate._version import __version__
from nucleate.augment import random_crop
from nucleate.config import AugmentConfig, StainConfig
from nucleate.curation.clean_labels import CraftOptions, CraftReport, craft_labels
from nucleate.datasets.base import Entry
from nucleate.datasets.loading import at_mpp
from nucleate.datasets.resize import resized
from nucleate.datasets.shards import Scaling, write_shards
from nucleate.datasets.splits import Split, bare_name, refuse_test_images
from nucleate.errors import ConfigError, InputError, pick
from nucleate.files import atomic_folder
from nucleate.geometry.labels import compact
from nucleate.stain.fitting import fit_stain, restained
from nucleate.stain.normalise import Normaliser
from nucleate.targets import HEADS
from nucleate.types import Sample, UInt8


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """Processing steps, in this order.

    Attributes:
        stain: normalisation; its reference is chosen among the training images.
        craft: fixing of the labels; None leaves them unchanged.
        mpp: micrometres per pixel to resample to; None keeps that of each image.
        size: (height, width) to resize to, regardless of resolution; excludes `mpp`.
        copies: number of augmented copies per training image.
        augment: augmentation of the copies.
        seed: seed of the copies.
        scale: scaling of pixel values: `none` (bytes), `unit` (0..1), `zscore`.
        maps: target maps to store, keys of `nucleate.targets.HEADS`, for other programs:
            nucleate makes its own after augmentation.
    """

    stain: StainConfig = field(default_factory=StainConfig)
    craft: CraftOptions | None = field(default_factory=CraftOptions)
    mpp: float | None = None
    size: tuple[int, int] | None = None
    copies: int = 0
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    seed: int = 1
    scale: Literal["none", "unit", "zscore"] = "none"
    maps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.mpp is not None and self.size is not None:
            raise ConfigError("mpp and size exclude each other. Omit one of them.")
        if self.size is not None and not all(8 <= edge <= 1 << 15 for edge in self.size):
            raise ConfigError(f"size = {self.size}: both edges must be 8 to 32768 pixels.")
        if self.copies < 0:
            raise ConfigError(f"copies = {self.copies}: must not be negative.")
        if self.scale not in ("none", "unit", "zscore"):
            raise ConfigError(f"scale = {self.scale!r}: must be none, unit or zscore.")
        for name in self.maps:
            pick(HEADS, name, "head")


def prepare(
    entries: list[Entry],
    out: Path,
    options: PrepareOptions,
    split: Split | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, int]:
    """Write the prepared images as shards.

    Args:
        entries: entries of the data set.
        out: folder to create, with the shards, or one folder of shards per part of the split; it
            appears only when it is complete.
        options: processing steps.
        split: parts; None uses every image for training.
        tell: called with a line for each fact that a user should know.

    Returns:
        Part -> images written.

    Raises:
        ConfigError: contradictory options, or a split of other images.
        InputError: an image cannot be read, or training would use official test images.
        OutputError: the folder exists already, or cannot be written.
    """
    parts = _parts(entries, split)
    training = parts["train"]
    images = {e.name: partial(_image, e) for e in training}
    held_out = [e.name for part, members in parts.items() if part != "train" for e in members]
    stain = fit_stain(options.stain, images, held_out)
    if stain is not None:
        tell(f"stain: {stain.method}, reference {', '.join(stain.fitted_on)}")

    def ready(
        members: list[Entry], report: CraftReport, say: Callable[[str], None]
    ) -> Iterator[Sample]:
        return (_one(entry, stain, options, report, say) for entry in members)

    scaling = Scaling("unit") if options.scale == "unit" else Scaling()
    if options.scale == "zscore":
        scaling = statistics(ready(training, CraftReport(), lambda _: None))
    written: dict[str, int] = {}
    with atomic_folder(out) as folder:
        for part, members in parts.items():
            report = CraftReport()
            samples = ready(members, report, tell)
            if part == "train" and options.copies:
                samples = with_copies(samples, options)
            counts: dict[str, int] = {}
            about = _about(options, stain, split, part) | {"crafted": counts}
            target = folder if split is None else folder / part
            target.mkdir(exist_ok=True)
            written[part] = write_shards(
                _closing(samples, report, counts), target, scaling, about, options.maps
            )
            message = (
                "labels as they are" if options.craft is None else f"labels: {_changes(report)}"
            )
            tell(f"{part}: {written[part]} images; {message}")
    return written


def statistics(samples: Iterator[Sample]) -> Scaling:
    """Return the scaling by mean and standard deviation of all pixels, per channel.

    Example:
        >>> image = np.zeros((2, 2, 3), np.uint8)
        >>> image[0] = 255
        >>> statistics(iter([Sample(image, None, "a", "a")])).mean
        (0.5, 0.5, 0.5)
    """
    counts = np.zeros((3, 256), np.int64)
    for sample in samples:
        for channel in range(3):
            counts[channel] += np.bincount(sample.image[..., channel].reshape(-1), minlength=256)
    levels = np.arange(256) / 255
    total = counts.sum(axis=1)
    mean = counts @ levels / total
    sd = np.sqrt(np.maximum(counts @ levels**2 / total - mean**2, 0))
    if (sd < 1e-6).any():
        raise InputError(
            "A colour channel of the training images is constant, so it cannot be z-scored. "
            "Check the images, or use --scale unit."
        )
    return Scaling("zscore", tuple(mean.tolist()), tuple(sd.tolist()))


def with_copies(samples: Iterator[Sample], options: PrepareOptions) -> Iterator[Sample]:
    """Yield every sample, followed by its augmented copies: squares of its shorter edge.

    Areas outside the image after a rotation are mirrored and ignored. Copy k of an image depends
    only on the seed, its name and k.
    """
    for sample in samples:
        yield sample
        for k in range(options.copies):
            digest = hashlib.sha256(f"{options.seed}/{k}/{sample.name}".encode()).digest()
            rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
            size = min(sample.image.shape[:2])
            image, labels, ignore = random_crop(sample, size, options.augment, rng)
            numbered, old = compact(labels)
            classes = None if sample.classes is None else sample.classes[old - 1]
            if options.craft is not None:  # borders and rotations cut nuclei into pieces
                numbered, classes, _ = craft_labels(numbered, classes, options.craft)
            yield replace(
                sample,
                name=f"{sample.name}+{k + 1}",
                image=image,
                labels=None if sample.labels is None else numbered,
                classes=classes,
                ignore=ignore,
                drawn=None,
            )


def _parts(entries: list[Entry], split: Split | None) -> dict[str, list[Entry]]:
    """Return part -> entries; official test images are never in a part used for fitting."""
    if split is None:
        parts = {"train": entries}
    else:
        by_name = {entry.name: entry for entry in entries}
        named = {bare_name(n): n for ns in split.parts.values() for n in ns}
        strange = sorted(named.keys() ^ by_name.keys())
        if strange:
            raise ConfigError(
                f"{strange[0]!r} is missing from the split or from the data. Create the split "
                "again for this data set."
            )
        for name, entry in by_name.items():
            said = split.groups[named[name]]
            if said != entry.group and not said.endswith(f":{entry.group}"):
                raise InputError(
                    f"The split assigns {name!r} to group {said!r}, but the data set states "
                    f"{entry.group!r}. Set the same --option group as for the split."
                )
        parts = {
            part: [by_name[bare_name(n)] for n in sorted(names)]
            for part, names in split.parts.items()
        }
        Split(
            {part: tuple(e.name for e in members) for part, members in parts.items()},
            {e.name: e.group for e in entries},
            split.mixes,
        )
    if not parts.get("train"):
        raise ConfigError("The split has no training images. Create it again.")
    refuse_test_images([e for part, es in parts.items() if part != "test" for e in es])
    return parts


def _image(entry: Entry) -> UInt8:
    return entry.read().image


def _one(
    entry: Entry,
    stain: Normaliser | None,
    options: PrepareOptions,
    crafted: CraftReport,
    tell: Callable[[str], None],
) -> Sample:
    """Read and prepare one image."""
    sample = entry.read()
    if stain is not None:
        sample = restained(sample, stain, tell)
    if options.craft is not None and sample.labels is not None:
        labels, classes, report = craft_labels(sample.labels, sample.classes, options.craft)
        crafted.add(report)
        sample = replace(sample, labels=labels, classes=classes, drawn=None)
    if options.mpp is not None:
        sample = at_mpp(sample, options.mpp)
    if options.size is not None:
        height, width = options.size
        ratio = sample.image.shape[0] * sample.image.shape[1] / (height * width)
        mpp = None if sample.mpp is None else sample.mpp * ratio**0.5
        sample = resized(sample, height, width, mpp)
    return sample


def _closing(
    samples: Iterator[Sample], crafted: CraftReport, counts: dict[str, int]
) -> Iterator[Sample]:
    """Yield all samples, then record the changes made on the way."""
    yield from samples
    counts.update(asdict(crafted))


def _about(
    options: PrepareOptions, stain: Normaliser | None, split: Split | None, part: str
) -> dict[str, Any]:
    return {
        "nucleate": __version__,
        "part": part,
        "split_sha256": None if split is None else split.digest,
        "stain": None if stain is None else stain.to_dict(),
        "craft": None if options.craft is None else asdict(options.craft),
        "mpp": options.mpp,
        "size": options.size,
        "copies": options.copies if part == "train" else 0,
        "augment": options.augment.model_dump(mode="json"),
        "seed": options.seed,
    }


def _changes(report: CraftReport) -> str:
    return (
        f"{report.before} became {report.after} ({report.pieces_added} added by splitting, "
        f"{report.pieces_dropped} pieces and {report.specks_dropped} specks dropped, "
        f"{report.holes_filled_px} pixels of holes filled)"
    )

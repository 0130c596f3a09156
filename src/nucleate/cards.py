"""Metadata stored with a model or encoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

TYPE = "type_"  # prefix of the maps of the head `types`; type_1 is 1 on nuclei of the first class


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is needed to run, trust and cite a model.

    Attributes:
        name: short name of the model.
        version: version of the weights.
        family: key of `nucleate.models.families.MODELS`.
        arguments: keyword arguments that build the network of `family`.
        heads: names of the output maps, keys of `nucleate.targets.HEADS`.
        decoder: key of `nucleate.postprocess.DECODERS`.
        thresholds: the decoder's parameters, tuned on validation data.
        mpp: micrometres per pixel that the network works at.
        align_px: tile origins and sizes are multiples of this.
        halo_px: context that a tile reads around its core.
        classes: names of the nucleus classes, in order of their number.
        training_data: one entry per data set: name, images, nuclei, licence, citation; and one
            with the groups (patients) and fingerprints of the training and validation images.
        licence: licence of the weights (SPDX expression), as the training data allow.
        metrics: results on the validation images, and on data sets left out of training.
        files: file name -> SHA-256.
        package_version: version of nucleate that wrote the card.
        recipe: the resolved recipe of the run.
        notes: what a user has to know.
        stain: fitted stain normaliser that is applied to images first, or None.
        sensitivity: low and high -> thresholds that replace those above.
        tile_px: largest edge of a tile with its halo, unless the user chooses another.
    """

    name: str
    version: str
    family: str
    arguments: dict[str, Any]
    heads: list[str]
    decoder: str
    thresholds: dict[str, float]
    mpp: float
    align_px: int
    halo_px: int
    classes: list[str]
    training_data: list[dict[str, Any]]
    licence: str
    metrics: dict[str, Any]
    files: dict[str, str]
    package_version: str
    recipe: dict[str, Any]
    notes: str = ""
    stain: dict[str, Any] | None = None
    sensitivity: dict[str, dict[str, float]] = field(default_factory=dict)
    tile_px: int = 2048


@dataclass(frozen=True, slots=True)
class EncoderCard:
    """What is needed to start training from a pretrained encoder, and to cite it.

    Attributes:
        name: name of the pretraining run.
        version: version of the weights.
        family: key of `nucleate.models.families.MODELS`.
        arguments: keyword arguments that build the network whose encoder this is.
        task: key of `nucleate.pretraining.pretrainer.PRETEXTS`.
        mpp: micrometres per pixel of the pretraining.
        training_data: one entry per data set or folder: name, images, licence, citation; and one
            with the groups (patients) and the fingerprints of the images used, without labels.
        licence: licence of the weights (SPDX expression), as the images allow.
        metrics: score of the task on held-out images, and that of guessing.
        files: file name -> SHA-256.
        package_version: version of nucleate that wrote the card.
        recipe: the resolved recipe of the run.
        notes: the initial weights.
    """

    name: str
    version: str
    family: str
    arguments: dict[str, Any]
    task: str
    mpp: float
    training_data: list[dict[str, Any]]
    licence: str
    metrics: dict[str, Any]
    files: dict[str, str]
    package_version: str
    recipe: dict[str, Any]
    notes: str = ""

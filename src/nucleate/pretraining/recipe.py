"""Recipes of pretraining and studies: strict trees, as in `nucleate.config`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from nucleate.config import FitConfig, Imagenet, ModelConfig, SetConfig
from nucleate.trees import Mpp, Share, Strict


class FolderConfig(Strict):
    """Tiles and slides without labels."""

    path: str
    """Folder, file or pattern, relative to `data.root`; folders are searched recursively."""
    mpp: Mpp | None = None
    """Micrometres per pixel of files that state none."""
    override_mpp: bool = False
    """Whether `mpp` overrides a different value in a file."""
    group: str | None = None
    """Regular expression whose first group, searched in the path, is the patient. Without it, the
    patient is taken from a TCGA barcode, else every file is a separate patient."""
    title: str = "unlabelled images"
    """Title for the card."""
    licence: str = "unstated"
    """Licence of the images, for the card."""
    citation: str = ""
    """Citation, for the card."""


class CorpusConfig(Strict):
    """Images to pretrain on, without labels."""

    root: str = "."
    """Base folder of all paths; itself relative to the working folder."""
    sets: tuple[SetConfig, ...] = ()
    """Data sets; their labels are not used."""
    folders: tuple[FolderConfig, ...] = ()
    """Folders of images without labels."""
    mpp: Mpp = 0.25
    """Resolution of the network, in micrometres per pixel; images are resampled to it."""
    tile_px: Annotated[int, Field(ge=64, le=4096)] = 1024
    """Images up to this edge are used whole; larger images are sampled in tiles of this edge."""
    tiles_per_slide: Annotated[int, Field(ge=1, le=4096)] = 32
    """Tiles drawn from an image or slide larger than `tile_px`; fewer if it is not much larger."""
    tissue: Share = 0.5
    """Minimum fraction of stained tissue in a window."""
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Fraction of the images used for validation; patients are kept together."""
    split_seed: Annotated[int, Field(ge=0)] = 1
    """Seed of the split."""
    exclude: tuple[str, ...] = ()
    """Patients or slides (groups) to exclude because they are used in a test."""

    @model_validator(mode="after")
    def _something(self) -> CorpusConfig:
        if not self.sets and not self.folders:
            raise ValueError("at least one entry of sets or folders is needed")
        return self


class PretextConfig(Strict):
    """The pretext task."""

    task: str
    """Key of `nucleate.pretraining.pretrainer.PRETEXTS`."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the task's class."""


class PretrainInit(Strict):
    """Initial weights of the encoder."""

    imagenet: Imagenet = "never"
    """As `init.imagenet` of a training."""


class PretrainRecipe(Strict):
    """One complete pretraining."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name of the run folder."""
    about: str = ""
    """Description of the pretraining, in a sentence."""
    licence: str = "unstated"
    """Licence of the weights that the images permit, as an SPDX expression."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    """Seed of weights, examples and their order."""
    data: CorpusConfig
    """Images to pretrain on."""
    model: ModelConfig
    """The network whose encoder is trained."""
    pretext: PretextConfig
    """The pretext task."""
    init: PretrainInit = PretrainInit()
    """Initial weights."""
    train: FitConfig
    """Optimisation: the keys of `train` in a training recipe that do not concern crops."""
    examples: Annotated[int, Field(ge=1, le=8192)] = 512
    """Number of validation examples, drawn from held-out images."""


class StartConfig(Strict):
    """Initial weights of a fine-tuning in a study; random by default."""

    pretext: str | None = None
    """Recipe of a pretraining, relative to the study's file."""
    imagenet: bool = False
    """Whether to start from published ImageNet weights; skipped if they cannot be downloaded."""

    @model_validator(mode="after")
    def _one(self) -> StartConfig:
        if self.pretext is not None and self.imagenet:
            raise ValueError(
                "pretext and imagenet exclude each other; a pretext recipe may start from ImageNet "
                "weights"
            )
        return self


class StudyRecipe(Strict):
    """A study of the benefit of pretraining for different numbers of labels."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name of the folder."""
    about: str = ""
    """Description of the study, in a sentence."""
    root: str | None = None
    """Data folder for all recipes; by default each recipe's own `data.root`."""
    finetune: str
    """Recipe of the repeated training, relative to the study's file."""
    starts: Annotated[dict[str, StartConfig], Field(min_length=2)]
    """Title -> start; the first start is the baseline of the comparison."""
    fractions: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = (
        0.1,
        0.25,
        0.5,
        1.0,
    )
    """Fractions of the labelled training images to use, in the order of the trainings."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(min_length=1)] = (
        1,
        2,
        3,
    )
    """Seeds of weights, crops and the choice of images."""
    tests: tuple[SetConfig, ...] = ()
    """Data sets to score on, in addition to the held-out images of the fine-tuning."""

    @model_validator(mode="after")
    def _no_doubles(self) -> StudyRecipe:
        titles = [test.title or test.path for test in self.tests]
        for what, values in (
            ("fractions", self.fractions), ("seeds", self.seeds), ("tests", titles),
        ):  # fmt: skip
            if len(set(values)) < len(values):
                raise ValueError(f"{what} contains a value twice")
        return self

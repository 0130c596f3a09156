"""Recipe of a pretraining: a strict tree, as `nucleate.config` has them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from nucleate.config import FitConfig, Imagenet, ModelConfig, SetConfig
from nucleate.trees import Mpp, Share, Strict


class FolderConfig(Strict):
    """Tiles and slides without labels."""

    path: str
    """Folder, file or pattern, relative to `data.root`; folders are searched through."""
    mpp: Mpp | None = None
    """Micrometres per pixel of files that state none."""
    override_mpp: bool = False
    """Whether `mpp` counts although a file states another value."""
    group: str | None = None
    """Regular expression whose first group, searched in the path, is the patient. Without it, a
    TCGA barcode states the patient, else every file is one."""
    title: str = "unlabelled images"
    """For the card."""
    licence: str = "unstated"
    """Licence of the images, for the card."""
    citation: str = ""
    """What to cite, for the card."""


class CorpusConfig(Strict):
    """What is looked at; labels are not."""

    root: str = "."
    """Folder that all paths are relative to; itself relative to where you work."""
    sets: tuple[SetConfig, ...] = ()
    """Data sets; their labels are not used."""
    folders: tuple[FolderConfig, ...] = ()
    """Folders of images without labels."""
    mpp: Mpp = 0.25
    """Micrometres per pixel that the network works at; images are resampled to it."""
    tile_px: Annotated[int, Field(ge=64, le=4096)] = 1024
    """Images up to this edge are taken whole; of larger ones, tiles of it are drawn."""
    tiles_per_slide: Annotated[int, Field(ge=1, le=4096)] = 32
    """Tiles that are drawn from an image or slide larger than `tile_px`; fewer where it is not
    much larger."""
    tissue: Share = 0.5
    """Share of what is shown that has to be stained tissue."""
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the images on which it is measured how well the task is solved; whole patients."""
    split_seed: Annotated[int, Field(ge=0)] = 1
    """Seed of the split."""
    exclude: tuple[str, ...] = ()
    """Patients or slides (groups) to leave out, because something is tested on them."""

    @model_validator(mode="after")
    def _something(self) -> CorpusConfig:
        if not self.sets and not self.folders:
            raise ValueError("at least one entry of sets or folders is needed")
        return self


class PretextConfig(Strict):
    """What has to be guessed."""

    task: str
    """Key of `nucleate.pretraining.pretrainer.PRETEXTS`."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the task's class."""


class PretrainInit(Strict):
    """What the encoder is before the first step."""

    imagenet: Imagenet = "never"
    """As `init.imagenet` of a training."""


class PretrainRecipe(Strict):
    """One complete pretraining."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name of the run folder."""
    about: str = ""
    """What the pretraining is, in a sentence."""
    licence: str = "unstated"
    """Of the weights, as the images allow; SPDX expression."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    """Seed of weights, examples and their order."""
    data: CorpusConfig
    """Which images."""
    model: ModelConfig
    """The network whose encoder is trained."""
    pretext: PretextConfig
    """What the encoder learns from."""
    init: PretrainInit = PretrainInit()
    """Initial weights."""
    train: FitConfig
    """Training, with the keys of `train` of a training that are not about crops."""
    examples: Annotated[int, Field(ge=1, le=8192)] = 512
    """Examples of held-out images that a validation looks at."""


class StartConfig(Strict):
    """Where a fine-tuning of a study starts; with nothing said, at random weights."""

    pretext: str | None = None
    """Recipe of a pretraining, relative to the study's file."""
    imagenet: bool = False
    """Published ImageNet weights, where they can be reached."""

    @model_validator(mode="after")
    def _one(self) -> StartConfig:
        if self.pretext is not None and self.imagenet:
            raise ValueError(
                "pretext and imagenet exclude each other; a pretext recipe may start from ImageNet "
                "weights"
            )
        return self


class StudyRecipe(Strict):
    """Does pretraining help, and with how many labels?"""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name of the folder."""
    about: str = ""
    """What the study is, in a sentence."""
    root: str | None = None
    """Folder of the data, for all recipes; without it, each one's own `data.root`."""
    finetune: str
    """Recipe of the training that is repeated, relative to the study's file."""
    starts: Annotated[dict[str, StartConfig], Field(min_length=2)]
    """Title -> start; the first one is what the others are held against."""
    fractions: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = (
        0.1,
        0.25,
        0.5,
        1.0,
    )
    """Shares of the training images whose labels are used, in the order of the trainings."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(min_length=1)] = (
        1,
        2,
        3,
    )
    """Of weights, crops, and of which images are used."""
    tests: tuple[SetConfig, ...] = ()
    """Data sets to score on, beside the images that the fine-tuning holds out."""

    @model_validator(mode="after")
    def _no_doubles(self) -> StudyRecipe:
        titles = [test.title or test.path for test in self.tests]
        for what, values in (
            ("fractions", self.fractions), ("seeds", self.seeds), ("tests", titles),
        ):  # fmt: skip
            if len(set(values)) < len(values):
                raise ValueError(f"{what} contains a value twice")
        return self

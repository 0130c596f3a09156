"""Recipe: one strict tree ⇄ one YAML file = one complete experiment.

An unknown key is an error that names the nearest known one. `--set a.b=c` on the command line
changes one value; the resolved recipe is written beside the weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from nucleate.resolution import HIGHEST_MPP, LOWEST_MPP
from nucleate.trees import Strict, load_tree, parse_tree

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Mpp = Annotated[float, Field(ge=LOWEST_MPP, le=HIGHEST_MPP)]
NonNegative = Annotated[float, Field(ge=0)]


class SetConfig(Strict):
    """One data set of a recipe."""

    name: str
    """Key of `nucleate.datasets.DATASETS`."""
    path: str
    """Folder or zip file, relative to `data.root`."""
    validate_on: bool = True
    """Whether patients of this set may be held out for validation; if not, all are trained on."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the reader: mpp, group, …"""
    title: str | None = None
    """For the model's card, where the reader's own card does not know it."""
    licence: str | None = None
    """Licence of the data, for the card."""
    citation: str | None = None
    """What to cite, for the card."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """How often crops come from this set, relative to its area of tissue at the working mpp."""
    grow_px: Annotated[float, Field(ge=-8, le=8)] = 0.0
    """Each nucleus is grown (above 0) or shrunk by this many pixels of the working grid before it
    is trained on; a nucleus never takes another's pixels. What is held out stays as annotated."""


class DataConfig(Strict):
    """Which images, at which resolution, split how."""

    root: str = "."
    """Folder that the paths of the sets are relative to; itself relative to where you work."""
    sets: Annotated[list[SetConfig], Field(min_length=1)]
    """Data sets, at least one."""
    mpp: Mpp = 0.25
    """Micrometres per pixel that the network works at; images are resampled to it."""
    split: str | None = None
    """Split file; without one, a split is made and written to the run."""
    scheme: str | None = None
    """Published way to split, a key of `nucleate.datasets.schemes.SCHEMES` that gives one split
    (official, histology-nucleiseg, histology-nucleiseg-tested); without one, patients are held out
    at random."""
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.17
    """Share of the images held out when a split is drawn."""
    split_seed: int = 1
    """Seed of a drawn split."""
    labelled: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the training images that is used, one at the least: what would fewer labels do?"""
    labelled_seed: int = 1
    """Seed that states which; a larger share contains the images of a smaller one."""
    classes: tuple[str, ...] = ()
    """Names of the nucleus types, as the data set has them; needed by the head `types`."""

    @model_validator(mode="after")
    def _one_split(self) -> DataConfig:
        if self.split is not None and self.scheme is not None:
            raise ValueError("split and scheme exclude each other")
        return self


class StainConfig(Strict):
    """Whether all images are brought to the colours of a reference, and how."""

    method: Literal["none", "histogram", "macenko", "reinhard", "vahadane"] = "none"
    """Key of `nucleate.stain.normalise.METHODS`, or none. The reference is chosen among the
    training images; what was fitted travels with the model and is applied wherever it runs."""
    references: Positive = 1
    """Number of training images that make up the reference."""
    blend: Share = 1.0
    """How far to go: 0 not at all, 1 all the way."""
    space: Literal["rgb", "lab", "stains"] = "rgb"
    """Colour space of histogram."""
    as_published: bool = False
    """Take glass for tissue, as the published methods do."""
    fitted: str | None = None
    """File of `nucleate stain fit` to take instead; its images must not be held out."""

    @model_validator(mode="after")
    def _fitted_for_something(self) -> StainConfig:
        if self.fitted is not None and self.method == "none":
            raise ValueError("fitted needs a method other than none")
        return self


class AugmentConfig(Strict):
    """How strongly crops are varied; 0 or false switches a step off."""

    flip: bool = True
    """Flip crops at random."""
    right_angles: bool = True
    """Turn crops by 90, 180 or 270 degrees."""
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = 180.0
    """Largest rotation, in either direction."""
    zoom: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.75, 1.33)
    """Smallest and largest magnification."""
    shear_degrees: Annotated[float, Field(ge=0, le=45)] = 0.0
    """Largest shear, in either direction."""
    shift: Share = 0.0
    """The crop is moved by up to this share of its edge, also beyond the image."""
    elastic_px: NonNegative = 2.0
    """Standard deviation of the displacement at the grid's nodes."""
    elastic_grid_px: Positive = 48
    """Distance of the nodes of the elastic grid."""
    elastic_chance: Share = 0.3
    """Chance of an elastic deformation."""
    stain: NonNegative = 0.3
    """Haematoxylin, eosin and residual are each multiplied by 1 ± this."""
    multiply: Share = 0.0
    """All values are multiplied by 1 ± this, in a fifth of the crops each channel by its own."""
    brightness: NonNegative = 0.06
    """Largest change of brightness, as a share of the range."""
    contrast: NonNegative = 0.15
    """Largest change of contrast: factor 1 ± this."""
    blur_px: Annotated[float, Field(ge=0.3)] = 1.2
    """Largest standard deviation of a blur."""
    blur_chance: Share = 0.2
    """Chance of a blur."""
    noise: Annotated[float, Field(ge=1)] = 8.0
    """Largest standard deviation of noise, in grey levels."""
    noise_chance: Share = 0.1
    """Chance of noise."""
    jpeg_quality: Annotated[int, Field(ge=10, le=95)] = 60
    """Lowest quality of a JPEG compression."""
    jpeg_chance: Share = 0.15
    """Chance of a JPEG compression."""
    artefacts: Share = 0.0
    """Chance that one or two artefacts are drawn on a crop, as background: ink, dust, fibres,
    folds, blur, red cells, bubbles, keratin, mucin, glass, seams; seldom a crop of nothing at
    all. A nucleus that is covered by more than half is ignored."""
    normalise: Share = 0.0
    """Chance that a crop takes on the colours of another training image, by a random part."""
    lowres: Share = 0.0
    """Chance that a crop is sampled down by 1.3 to 2.3 and up again: a scan at 20x."""
    zoom_small: Share = 0.0
    """Chance that, instead of `zoom`, the median nucleus of the image comes out at 80 to 200 px²
    of 0.25 um/px: the small, crowded nuclei of a scan at 20x that is read as one at 40x."""

    @model_validator(mode="after")
    def _zoom_rises(self) -> AugmentConfig:
        if self.zoom[0] > self.zoom[1]:
            raise ValueError("zoom is [smallest, largest]")
        return self


class ModelConfig(Strict):
    """Which network."""

    family: str
    """Key of `nucleate.models.families.MODELS`."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the family's class."""


Imagenet = Annotated[str, Field(pattern=r"^(never|if-reachable|required|.+\.safetensors)$")]


class InitConfig(Strict):
    """What the weights are before the first step."""

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)

    from_model: str | None = Field(None, alias="from")
    """Bundled model, model folder or run folder of the same family, arguments and heads; or the
    run of a pretext task, whose encoder is taken."""
    imagenet: Imagenet = "never"
    """Whether the encoder starts from published weights: never, if-reachable, required, or from
    a file of them (.safetensors); the log states whether it did."""

    @model_validator(mode="after")
    def _one_start(self) -> InitConfig:
        if self.from_model is not None and self.imagenet != "never":
            raise ValueError("from and imagenet exclude each other")
        return self


class TeacherConfig(Strict):
    """Finished models whose maps are learned beside the truth."""

    models: tuple[str, ...] = ()
    """Bundled models, model folders or run folders; several are averaged."""
    weight: Share = 0.5
    """Of what they say in the target; the truth has the rest."""
    within_px: Annotated[int, Field(ge=0)] | None = None
    """Distance from true nuclei in which they count: what they find elsewhere is not learned."""


class HeadConfig(Strict):
    """What one output map is trained with."""

    loss: Annotated[dict[str, Annotated[float, Field(gt=0)]], Field(min_length=1)]
    """Key of `nucleate.losses.LOSSES` -> weight."""
    background: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Weight of the pixels outside of nuclei, relative to those inside."""
    edge_px: Annotated[float, Field(ge=0, le=16)] = 0.0
    """Of `foreground`: the target rises over this many pixels from 0 outside of a nucleus to 1
    inside, 0.5 at its edge; 0 gives a step."""


class FitConfig(Strict):
    """How long and how, whatever is learned."""

    steps: Positive
    """Steps of the optimiser."""
    batch: Positive = 8
    """Crops per step."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """sgd has a momentum of 0.9."""
    lr: Annotated[float, Field(gt=0)] = 2e-3
    """Highest learning rate."""
    weight_decay: NonNegative = 0.01
    """Weight decay of the optimiser."""
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    """Steps of linear warm-up of the learning rate."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """What the rate does after the warm-up: falls to 0 along a cosine, or stays."""
    clip_norm: NonNegative = 5.0
    """Largest norm of the gradient; 0 switches clipping off."""
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    """Precision of the arithmetic; fp16 needs a GPU."""
    validate_every: Positive = 500
    """Steps between validations; also between checkpoints."""
    workers: Annotated[int, Field(ge=0)] = 1
    """Processes that make crops."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """Threads of the network on the CPU; 0 takes all cores."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train: auto takes a GPU if there is one."""

    @model_validator(mode="after")
    def _whole_rounds(self) -> FitConfig:
        if self.steps % self.validate_every:
            raise ValueError(
                f"steps, {self.steps}, must be a multiple of validate_every, {self.validate_every}"
            )
        return self


class TrainConfig(FitConfig):
    """How long and how, and on what crops."""

    crop_px: Annotated[int, Field(gt=0, le=8192)] = 256
    """Edge of a crop, in pixels of the working grid."""
    sampling: Literal["random", "grid"] = "random"
    """Crops lie anywhere, or on a fixed grid of crop_px that is passed through in random order."""
    weighting: Literal["fixed", "uncertainty"] = "fixed"
    """Losses of the heads are summed as they are, or with learned weights."""
    keep: Literal["best", "last"] = "best"
    """Which checkpoint becomes the model: of the best validation AJI, or the last."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.995
    """Decay of the averaged weights, which are validated and shipped; 0 switches it off."""


class DecodeConfig(Strict):
    """How maps become nuclei."""

    decoder: str = "watershed"
    """Key of `nucleate.postprocess.DECODERS`."""
    thresholds: dict[str, float] = Field(default_factory=dict)
    """Values during training; what is not named takes the decoder's default."""
    halo_px: Annotated[int, Field(ge=0)] = 128
    """Context that a tile reads around its core, in pixels of the working grid."""
    tune: bool = True
    """Whether the thresholds are searched on the validation images at the end."""


class CrossvalConfig(Strict):
    """How `nucleate crossval` splits."""

    scheme: str = "kfold"
    """Key of `nucleate.datasets.schemes.SCHEMES`."""
    folds: Annotated[int, Field(ge=2)] | None = None
    """Of kfold; 5 where nothing is said."""
    seed: int = 1
    """Seed of the folds."""
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.17
    """Share of the images outside of a fold that thresholds and checkpoint are chosen on."""


class Recipe(Strict):
    """One complete experiment."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name of the run folder and of the model."""
    about: str = ""
    """What the experiment is, in a sentence."""
    licence: str = "unstated"
    """Of the weights, as the training data allow; SPDX expression."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    """Seed of weights, crops and their order."""
    data: DataConfig
    """Which images."""
    stain: StainConfig = StainConfig()
    """Stain normalisation."""
    augment: AugmentConfig = AugmentConfig()
    """Augmentation."""
    model: ModelConfig
    """Which network."""
    init: InitConfig = Field(default_factory=lambda: InitConfig.model_validate({}))
    """Initial weights."""
    teacher: TeacherConfig = TeacherConfig()
    """Models to distil."""
    heads: Annotated[dict[str, HeadConfig], Field(min_length=1)]
    """Key of `nucleate.targets.HEADS` -> how it is trained."""
    train: TrainConfig
    """Training."""
    decode: DecodeConfig = DecodeConfig()
    """Decoding."""
    crossval: CrossvalConfig = CrossvalConfig()
    """Cross-validation."""

    @model_validator(mode="after")
    def _types_have_names(self) -> Recipe:
        if ("types" in self.heads) != bool(self.data.classes):
            raise ValueError("the head types needs data.classes, and data.classes the head types")
        return self

    @property
    def maps(self) -> dict[str, HeadConfig]:
        """The output maps of the network: one per head, of `types` one per class.

        The classes share the weight of the head evenly.
        """
        found: dict[str, HeadConfig] = {}
        for name, head in self.heads.items():
            if name != "types":
                found[name] = head
                continue
            share = {loss: weight / len(self.data.classes) for loss, weight in head.loss.items()}
            for i in range(len(self.data.classes)):
                found[f"type_{i + 1}"] = head.model_copy(update={"loss": share})
        return found


def load_recipe(path: str | Path, changes: list[str] | None = None) -> Recipe:
    """Read the recipe of a training, as `load_tree` does."""
    return load_tree(Recipe, Path(path), changes)


def parse_recipe(content: dict[str, Any], owner: str) -> Recipe:
    """Return the recipe of a training, as `parse_tree` does."""
    return parse_tree(Recipe, content, owner)

"""Recipe: one strict tree ⇄ one YAML file = one complete experiment.

An unknown key is an error that names the nearest known key. `--set a.b=c` on the command line
changes one value; the resolved recipe is written beside the weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from nucleate.trees import Mpp, NonNegative, Positive, Share, Strict, load_tree


class SetConfig(Strict):
    """One data set of a recipe."""

    name: str
    """Key of `nucleate.datasets.DATASETS`."""
    path: str
    """Folder or zip file, relative to `data.root`."""
    validate_on: bool = True
    """Allow patients of this set to be held out for validation; if false, all are trained on."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the reader, such as mpp or group."""
    title: str | None = None
    """Title for the model card, if the reader states none."""
    licence: str | None = None
    """Licence of the data, for the model card."""
    citation: str | None = None
    """Citation for the model card."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """How often crops come from this set, relative to its area of tissue at the working mpp."""
    grow_px: Annotated[float, Field(ge=-8, le=8)] = 0.0
    """Grow (above 0) or shrink (below 0) each training nucleus by this many pixels of the working
    grid; a nucleus never takes pixels of another. Held-out images keep their annotation."""


class DataConfig(Strict):
    """Images, resolution and split."""

    root: str = "."
    """Folder that the paths of the sets are relative to; itself relative to the working folder."""
    sets: Annotated[list[SetConfig], Field(min_length=1)]
    """Data sets; at least one."""
    mpp: Mpp = 0.25
    """Micrometres per pixel of the network's input; images are resampled to it."""
    split: str | None = None
    """Split file; by default a split is drawn and written to the run folder."""
    scheme: str | None = None
    """Published split, a key of `nucleate.datasets.schemes.SCHEMES` that gives one split
    (official, histology-nucleiseg, histology-nucleiseg-tested); by default patients are held out at
    random."""
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.17
    """Share of the images held out by a drawn split."""
    split_seed: int = 1
    """Seed of a drawn split."""
    labelled: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the training images to use (at least one image), to study fewer labels."""
    labelled_seed: int = 1
    """Seed of that selection; a larger share contains the images of a smaller one."""
    classes: tuple[str, ...] = ()
    """Names of the nucleus types, as in the data set; required by the head `types`."""

    @model_validator(mode="after")
    def _one_split(self) -> DataConfig:
        if self.split is not None and self.scheme is not None:
            raise ValueError("split and scheme exclude each other")
        return self


class StainConfig(Strict):
    """Stain normalisation to a reference."""

    method: Literal["none", "histogram", "macenko", "reinhard", "vahadane"] = "none"
    """Key of `nucleate.stain.normalise.METHODS`, or none. The reference is chosen among the
    training images; the fitted normaliser is stored with the model and applied at inference."""
    references: Positive = 1
    """Number of training images that form the reference."""
    blend: Share = 1.0
    """Strength: 0 changes nothing, 1 normalises fully."""
    space: Literal["rgb", "lab", "stains"] = "rgb"
    """Colour space of the method histogram."""
    as_published: bool = False
    """Treat glass as tissue, as the published methods do."""
    fitted: str | None = None
    """Normaliser from `nucleate stain fit` to use instead; its images must not be held out."""

    @model_validator(mode="after")
    def _fitted_for_something(self) -> StainConfig:
        if self.fitted is not None and self.method == "none":
            raise ValueError("fitted needs a method other than none")
        return self


class AugmentConfig(Strict):
    """Strength of the augmentation of crops; 0 or false switches a step off."""

    flip: bool = True
    """Flip crops at random."""
    right_angles: bool = True
    """Rotate crops by 90, 180 or 270 degrees."""
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = 180.0
    """Largest rotation, in either direction."""
    zoom: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.75, 1.33)
    """Smallest and largest magnification."""
    shear_degrees: Annotated[float, Field(ge=0, le=45)] = 0.0
    """Largest shear, in either direction."""
    shift: Share = 0.0
    """Largest shift, as a share of the crop's edge; the crop may extend beyond the image."""
    elastic_px: NonNegative = 2.0
    """Standard deviation of the displacement of the nodes of the elastic grid, in pixels."""
    elastic_grid_px: Positive = 48
    """Distance between the nodes of the elastic grid, in pixels."""
    elastic_chance: Share = 0.3
    """Chance of an elastic deformation."""
    stain: NonNegative = 0.3
    """Multiply haematoxylin, eosin and residual each by a factor of 1 ± this."""
    multiply: Share = 0.0
    """Multiply all values by a factor of 1 ± this; in a fifth of the crops, per channel."""
    brightness: NonNegative = 0.06
    """Largest change of brightness, as a share of the value range."""
    contrast: NonNegative = 0.15
    """Largest change of contrast: a factor of 1 ± this."""
    blur_px: Annotated[float, Field(ge=0.3)] = 1.2
    """Largest standard deviation of the blur, in pixels."""
    blur_chance: Share = 0.2
    """Chance of a blur."""
    noise: Annotated[float, Field(ge=1)] = 8.0
    """Largest standard deviation of the noise, in grey levels."""
    noise_chance: Share = 0.1
    """Chance of noise."""
    jpeg_quality: Annotated[int, Field(ge=10, le=95)] = 60
    """Lowest JPEG quality."""
    jpeg_chance: Share = 0.15
    """Chance of JPEG compression."""
    artefacts: Share = 0.0
    """Chance of drawing one or two artefacts on a crop, as background: ink, dust, fibres, folds,
    blur, red cells, bubbles, keratin, mucin, glass, seams; rarely, a crop without any tissue. A
    nucleus that is more than half covered is ignored."""
    normalise: Share = 0.0
    """Chance of moving the colours of a crop towards those of another training image."""
    lowres: Share = 0.0
    """Chance of downsampling a crop by a factor of 1.3 to 2.3 and back up, as in a 20x scan."""
    zoom_small: Share = 0.0
    """Chance of replacing `zoom` by one that gives the image's median nucleus 80 to 200 px² at
    0.25 um/px: the small, crowded nuclei of a 20x scan that is read as a 40x scan."""

    @model_validator(mode="after")
    def _zoom_rises(self) -> AugmentConfig:
        if self.zoom[0] > self.zoom[1]:
            raise ValueError("zoom is [smallest, largest]")
        return self


class ModelConfig(Strict):
    """The network."""

    family: str
    """Key of `nucleate.models.families.MODELS`."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the family's class."""


Imagenet = Annotated[str, Field(pattern=r"^(never|if-reachable|required|.+\.safetensors)$")]


class InitConfig(Strict):
    """Initial weights."""

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)

    from_model: str | None = Field(None, alias="from")
    """Bundled model, model folder or run folder of the same family, arguments and heads; or the
    run of a pretext task, whose encoder is used."""
    imagenet: Imagenet = "never"
    """Start the encoder from published weights: never, if-reachable, required, or a file of weights
    (.safetensors); the log states the weights used."""

    @model_validator(mode="after")
    def _one_start(self) -> InitConfig:
        if self.from_model is not None and self.imagenet != "never":
            raise ValueError("from and imagenet exclude each other")
        return self


class TeacherConfig(Strict):
    """Trained models to distil: their maps are part of the target."""

    models: tuple[str, ...] = ()
    """Bundled models, model folders or run folders; the maps of several are averaged."""
    weight: Share = 0.5
    """Weight of the teachers' maps in the target; the ground truth has the rest."""
    within_px: Annotated[int, Field(ge=0)] | None = None
    """Teachers count within this distance of true nuclei; elsewhere the truth alone."""


class HeadConfig(Strict):
    """Training of one output map."""

    loss: Annotated[dict[str, Annotated[float, Field(gt=0)]], Field(min_length=1)]
    """Key of `nucleate.losses.LOSSES` -> weight."""
    background: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Weight of pixels outside nuclei, relative to those inside."""
    edge_px: Annotated[float, Field(ge=0, le=16)] = 0.0
    """Width in pixels of the ramp of the target `foreground` from 0 outside a nucleus to 1 inside
    (0.5 at its edge); 0 gives a step. For `foreground` only."""


class FitConfig(Strict):
    """Optimisation, of training and pretraining."""

    steps: Positive
    """Number of optimiser steps."""
    batch: Positive = 8
    """Crops per step."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """Optimiser; sgd has a momentum of 0.9."""
    lr: Annotated[float, Field(gt=0)] = 2e-3
    """Peak learning rate."""
    weight_decay: NonNegative = 0.01
    """Weight decay of the optimiser."""
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    """Steps of linear warm-up of the learning rate."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate after the warm-up: falls to 0 along a cosine, or stays constant."""
    clip_norm: NonNegative = 5.0
    """Largest norm of the gradient; 0 switches clipping off."""
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    """Numerical precision; fp16 needs a GPU."""
    validate_every: Positive = 500
    """Steps between validations, and between checkpoints."""
    workers: Annotated[int, Field(ge=0)] = 1
    """Processes that make crops."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """CPU threads of the network; 0 uses all cores."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Training device; auto uses a GPU if present."""

    @model_validator(mode="after")
    def _whole_rounds(self) -> FitConfig:
        if self.steps % self.validate_every:
            raise ValueError(
                f"steps, {self.steps}, must be a multiple of validate_every, {self.validate_every}"
            )
        return self


class TrainConfig(FitConfig):
    """Optimisation and crops."""

    crop_px: Annotated[int, Field(gt=0, le=8192)] = 256
    """Edge of a crop, in pixels of the working grid."""
    sampling: Literal["random", "grid"] = "random"
    """Random crop positions, or a fixed grid of crop_px that is visited in random order."""
    weighting: Literal["fixed", "uncertainty"] = "fixed"
    """Sum the losses of the heads with fixed weights, or with learned ones."""
    keep: Literal["best", "last"] = "best"
    """Checkpoint that becomes the model: best validation AJI, or last."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.995
    """Decay of the averaged weights, which are validated and exported; 0 disables averaging."""


class DecodeConfig(Strict):
    """Decoding of maps to nuclei."""

    decoder: str = "watershed"
    """Key of `nucleate.postprocess.DECODERS`."""
    thresholds: dict[str, float] = Field(default_factory=dict)
    """Thresholds during training; the decoder's defaults for those not named."""
    halo_px: Annotated[int, Field(ge=0)] = 128
    """Context that a tile reads around its core, in pixels of the working grid."""
    tile_px: Annotated[int, Field(ge=64, le=1 << 14)] = 2048
    """Largest edge of a tile with its halo, unless `--tile-px` chooses another."""
    tune: bool = True
    """Tune the thresholds on the validation images after training."""


class CrossvalConfig(Strict):
    """Splits of `nucleate crossval`."""

    scheme: str = "kfold"
    """Key of `nucleate.datasets.schemes.SCHEMES`."""
    folds: Annotated[int, Field(ge=2)] | None = None
    """Number of folds, for kfold only; 5 by default."""
    seed: int = 1
    """Seed of the folds."""
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.17
    """Share of the images outside a fold used to choose thresholds and checkpoint."""


class Recipe(Strict):
    """One complete experiment."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name of the run folder and of the model."""
    about: str = ""
    """Description of the experiment, in a sentence."""
    licence: str = "unstated"
    """Licence of the weights, as the training data allow; SPDX expression."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    """Seed of weights, crops and their order."""
    data: DataConfig
    """Images, resolution and split."""
    stain: StainConfig = StainConfig()
    """Stain normalisation."""
    augment: AugmentConfig = AugmentConfig()
    """Augmentation."""
    model: ModelConfig
    """Network."""
    init: InitConfig = Field(default_factory=lambda: InitConfig.model_validate({}))
    """Initial weights."""
    teacher: TeacherConfig = TeacherConfig()
    """Models to distil."""
    heads: Annotated[dict[str, HeadConfig], Field(min_length=1)]
    """Key of `nucleate.targets.HEADS` -> its training."""
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
        """The output maps of the network: one per head, and one per class for the head `types`.

        The classes share the weight of the head equally.
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
    """Read a training recipe; see `load_tree`."""
    return load_tree(Recipe, Path(path), changes)

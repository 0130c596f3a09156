"""The Lightning module of a training: network, losses, optimiser, validation on whole images."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from nucleate._version import __version__
from nucleate.cards import ModelCard
from nucleate.config import Recipe
from nucleate.errors import TrainingError
from nucleate.evaluation.error_overlays import outlined
from nucleate.evaluation.metrics.instance import aji, matches, panoptic
from nucleate.evaluation.metrics.matching import overlap
from nucleate.evaluation.metrics.pixel import Confusion, confusion
from nucleate.geometry.outlines import paint
from nucleate.inference.backends import Model, Precision
from nucleate.inference.pipeline import EngineOptions
from nucleate.inference.segment import find_nuclei
from nucleate.inference.torch_backend import TorchBackend
from nucleate.losses import Uncertainty
from nucleate.models.families import build
from nucleate.postprocess import complete_thresholds
from nucleate.readers.array import ArraySource
from nucleate.training.crops import Crop, middle_crop
from nucleate.training.loop import Learner
from nucleate.training.teacher import Teachers
from nucleate.types import Sample

_SHOWN, _SHOWN_PX = 2, 512  # number and edge of the validation images in TensorBoard


class Task(Learner):
    """Lightning module that trains a recipe.

    Attributes:
        scores: scores of the validation images in the current round.
    """

    score: ClassVar[str] = "val_aji"

    def __init__(
        self, recipe: Recipe, validation: list[Sample], teachers: Teachers | None = None
    ) -> None:
        super().__init__(recipe.train, recipe.seed)
        self.logged = {"val_aji": "AJI", "val_pq": "PQ", "val_dice": "Dice"}
        self.recipe, self.validation = recipe, validation
        self.network = build(recipe.model.family, list(recipe.maps), recipe.model.arguments)
        self.network.to(memory_format=torch.channels_last)
        learned = recipe.train.weighting == "uncertainty"
        self.weighing = Uncertainty(recipe.maps) if learned else None
        self.scores: list[dict[str, float]] = []
        self.teachers = teachers

    def training_step(self, batch: Crop, index: int) -> Tensor:
        """Return the loss of a batch; raise a `TrainingError` if it is not finite."""
        if self.teachers is not None:
            images = batch.image.permute(0, 3, 1, 2)
            batch = batch._replace(targets=self.teachers.blend(images, batch.targets))
        logits, loss, parts = self._losses(batch)
        self.keep(loss, parts)
        if "foreground" in logits:
            self.add(_pixels(logits, batch))
        return loss

    def validation_step(self, index: Tensor, batch_idx: int) -> None:
        """Segment one whole image with the engine for users, and score it."""
        sample = self.validation[int(index)]
        if sample.labels is None:
            raise TrainingError(f"{sample.name}: has no labels. Remove the image.")
        crop = self.transfer_batch_to_device(middle_crop(sample, self.recipe), self.device, 0)
        loss = self._losses(crop)[1]
        precision: Precision = "bf16" if self.recipe.train.precision == "bf16" else "f32"
        backend = TorchBackend(self.network, self.device.type, precision)
        model = Model(provisional_card(self.recipe, self.align_px), backend)
        source = ArraySource(sample.image)
        nuclei = find_nuclei(source, model, self.recipe.data.mpp, EngineOptions()).nuclei
        pred = paint(nuclei, sample.labels.shape)
        table = overlap(sample.labels, pred, sample.ignore)
        dq, _, pq = panoptic(*matches(table, 0.5))
        cells = confusion(sample.labels, pred, sample.ignore)
        self.scores.append(
            {
                "val_loss": float(loss),
                "val_aji": aji(table),
                "val_pq": pq,
                "val_dq": dq,
                "val_dice": cells.dice,
                "val_iou": cells.iou,
                "val_accuracy": cells.accuracy,
            }
        )
        if int(index) < _SHOWN and self.logger is not None:
            window = slice(0, _SHOWN_PX), slice(0, _SHOWN_PX)
            image = outlined(sample.image, sample.labels, pred, sample.ignore, window)
            self.logger.experiment.add_image(  # type: ignore[attr-defined]
                f"validation/{sample.name}", image, self.global_step, dataformats="HWC"
            )

    def on_validation_epoch_end(self) -> None:
        """Log the means over the validation images."""
        if not self.trainer.sanity_checking:
            self.log_dict(self.means())

    def round_row(self) -> dict[str, float]:
        """Return the means of the round, and reset them."""
        row = {**self.training_means(), **self.means()} if self.scores else {}
        self.sums, self.scores = {}, []
        return row

    def means(self) -> dict[str, float]:
        """Return the mean of each validation score, without images without nuclei."""
        names = self.scores[0] if self.scores else {}
        return {name: float(np.nanmean([s[name] for s in self.scores])) for name in names}

    def training_means(self) -> dict[str, float]:
        """Return the mean losses and pooled pixel scores in training of the current round."""
        batches = self.recipe.train.validate_every
        means = {k: v / batches for k, v in self.sums.items() if not k.startswith("pixel_")}
        if "pixel_tp" in self.sums:
            cells = Confusion(*(int(self.sums[f"pixel_{k}"]) for k in ("tp", "fp", "fn", "tn")))
            means |= {
                "train_dice": cells.dice,
                "train_iou": cells.iou,
                "train_accuracy": cells.accuracy,
            }
        return means

    def configure_optimizers(self) -> Any:  # noqa: ANN401
        """Return the optimiser and its schedule."""
        learned = () if self.weighing is None else self.weighing.parameters()
        return self.optimiser(self.network, learned)

    @property
    def align_px(self) -> int:
        """Heights and widths are padded to multiples of this."""
        return self.network.align_px

    def _losses(self, batch: Crop) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
        images, targets, ignore = batch
        images = images.permute(0, 3, 1, 2)
        return self.network.learn(images, targets, ignore, self.recipe.maps, self.weighing)


def provisional_card(recipe: Recipe, align_px: int) -> ModelCard:
    """Return the card of a network in training."""
    return ModelCard(
        name=recipe.name,
        version="0",
        family=recipe.model.family,
        arguments=dict(recipe.model.arguments),
        heads=list(recipe.maps),
        decoder=recipe.decode.decoder,
        thresholds=complete_thresholds(recipe.decode.decoder, recipe.decode.thresholds),
        mpp=recipe.data.mpp,
        align_px=align_px,
        halo_px=recipe.decode.halo_px + -recipe.decode.halo_px % align_px,
        tile_px=recipe.decode.tile_px,
        classes=list(recipe.data.classes) or ["nucleus"],
        training_data=[],
        licence=recipe.licence,
        metrics={},
        files={},
        package_version=__version__,
        recipe=_without_paths(recipe),
    )


def _without_paths(recipe: Recipe) -> dict[str, object]:
    """Return the recipe as plain values without private paths."""
    tree = recipe.model_dump(mode="json")
    tree["data"]["root"] = "."
    if tree["data"]["split"] is not None:
        tree["data"]["split"] = "split.json"
    return tree


def _pixels(logits: dict[str, Tensor], batch: Crop) -> dict[str, Tensor]:
    """Return the pixel confusion matrix of the foreground at 0.5."""
    truth, pred = batch.targets["foreground"] > 0.5, logits["foreground"].detach() > 0
    counts = ~batch.ignore
    return {
        "pixel_tp": (truth & pred & counts).sum(),
        "pixel_fp": (~truth & pred & counts).sum(),
        "pixel_fn": (truth & ~pred & counts).sum(),
        "pixel_tn": (~truth & ~pred & counts).sum(),
    }

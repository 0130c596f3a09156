"""Mask R-CNN: a box, a score and a small mask for every nucleus (system Detectron2).

Built from torchvision's parts. Unlike in torchvision, images are enlarged by a fixed factor
regardless of their size, so that a tile is treated like a whole image; masks stay in their boxes;
and vague areas are not background.

References:
    He et al. 2017, doi:10.1109/ICCV.2017.322; Lin et al. 2017, doi:10.1109/CVPR.2017.106 (the
    feature pyramid); Wu and He 2018, doi:10.1007/978-3-030-01261-8_1 (group normalisation).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d

from nucleate.config import HeadConfig
from nucleate.errors import ConfigError
from nucleate.geometry.labels import boxes_areas, compact
from nucleate.losses import Uncertainty
from nucleate.mask_nms import INSTANCES, MIN_SCORE, OUTPUTS
from nucleate.models.imagenet import MEAN, SD
from nucleate.models.mask_rcnn_stages import LEVELS, WIDTH, Proposals, Regions
from nucleate.models.network import Network
from nucleate.models.stem_head import Enter

_COARSEST = 32  # stride of the second coarsest level, in pixels
_ENCODERS = ("resnet18", "resnet34", "resnet50", "resnet101")
_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "group": partial(nn.GroupNorm, 32),
    "batch": nn.BatchNorm2d,
    "frozen": FrozenBatchNorm2d,
}


class MaskRCNN(Network):
    """Images (B, 3, H, W), 0..255 -> boxes, scores and masks of their nuclei; any H and W.

    Args:
        heads: ["instances"] and nothing else.
        encoder: resnet18, resnet34, resnet50 or resnet101.
        norm: normalisation of encoder and pyramid: `group` (32 groups, also in the mask head;
            trains from random weights with two images per step), `batch`, or `frozen` (statistics
            of published weights, which must then be loaded).
        enlarge: factor by which images are enlarged first, 1 to 8, a multiple of 1/8.
        anchors_px: edges of the anchor boxes, one per level, in enlarged pixels.
        ratios: aspect ratios (height over width) of the anchor boxes.
        classes: number of classes; the first is the nucleus. Detectron2 has 6, five of them
            without any example.
        proposals: boxes passed to the second stage, in training and in inference.
        regions: boxes per image on which the second stage is trained.
        detections: maximum number of nuclei per image or tile, by descending score.
        min_score: nuclei with a lower score are dropped.
        box_overlap: of two boxes with a higher IoU, one is dropped.

    Raises:
        ConfigError: other heads, no such encoder, or an argument out of range.
    """

    encoder_parts = ("body",)
    only_heads = (INSTANCES,)
    decoder_arguments = (
        "enlarge", "anchors_px", "ratios", "classes", "proposals", "regions", "detections",
        "min_score", "box_overlap",
    )  # fmt: skip

    def __init__(
        self,
        heads: Sequence[str],
        encoder: Literal["resnet18", "resnet34", "resnet50", "resnet101"] = "resnet50",
        norm: Literal["group", "batch", "frozen"] = "group",
        enlarge: float = 1.0,
        anchors_px: Sequence[int] = (8, 16, 32, 64, 128),
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        classes: int = 1,
        proposals: Sequence[int] = (2000, 3000),
        regions: int = 256,
        detections: int = 2500,
        min_score: float = MIN_SCORE,
        box_overlap: float = 0.5,
    ) -> None:
        super().__init__()
        if list(heads) != [INSTANCES]:
            raise ConfigError(
                "mask_rcnn: supports only the head instances. Remove the other heads."
            )
        if len(anchors_px) != 5 or len(proposals) != 2:
            raise ConfigError("mask_rcnn: needs five anchors_px and two numbers of proposals.")
        if not 1 <= enlarge <= 8 or enlarge * 8 % 1:
            raise ConfigError("mask_rcnn: enlarge must be 1 to 8, in steps of 1/8.")
        if not ratios or min(*anchors_px, *ratios) <= 0:
            raise ConfigError("mask_rcnn: anchors_px and ratios must be above 0.")
        if min(classes, *proposals, regions, detections) < 1:
            raise ConfigError(
                "mask_rcnn: classes, proposals, regions and detections must be at least 1."
            )
        if not 0 <= min_score < 1 or not 0 < box_overlap <= 1:
            raise ConfigError("mask_rcnn: min_score and box_overlap must be between 0 and 1.")
        eighths = round(enlarge * 8)  # the size of enlarged images must be a multiple of _COARSEST
        self.enlarge, self.align_px = enlarge, 8 * _COARSEST // math.gcd(8 * _COARSEST, eighths)
        self.encoder_name = None if norm == "group" else encoder
        self.enter = Enter(_COARSEST, 1, MEAN, SD)
        self.body, self.pyramid = _backbone(encoder, norm)
        self.first = Proposals(anchors_px, ratios, proposals)
        self.second = Regions(classes, regions, detections, min_score, box_overlap, norm)

    @property
    def encoder(self) -> nn.Module:
        """The module into which published weights are loaded."""
        return self.body

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the features of the four levels of the encoder."""
        return list(self.body(self.enter(self._enlarged(image))).values())

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Detect the nuclei of each image, by descending score.

        Returns:
            `boxes` (B, n, 4): x0, y0, x1, y1 in pixels of the image, the frames of the masks;
            `scores` (B, n), 0..1; `masks` (B, n, 28, 28), 0..1. Images with fewer than n nuclei
            have scores of 0.
        """
        features, size = self._features(image)
        sizes = [size] * len(image)
        padded = ImageList(image.new_empty(1, 1, *self._padded(size)), sizes)
        boxes, _ = self.first(padded, features, None)
        found, _ = self.second(features, boxes, sizes, None)
        return _stacked([self._nuclei(one) for one in found])

    def probe(self, image: Tensor) -> None:
        """Run everything except the mask head."""
        was, self.second.score_thresh = self.second.score_thresh, 1.0
        try:
            self(image)
        finally:
            self.second.score_thresh = was

    def maps(self, image: Tensor) -> dict[str, Tensor]:
        """Return the detections as float32; scores and masks are already probabilities."""
        return {name: found.float() for name, found in self(image).items()}

    def free_axes(self, names: list[str]) -> dict[str, dict[int, str]]:
        """Return the dynamic axes: batches of one image in, a variable number of nuclei out."""
        return {"image": {1: "height", 2: "width"}, **{name: {1: "nuclei"} for name in names}}

    def learn(
        self,
        image: Tensor,
        targets: dict[str, Tensor],
        ignore: Tensor,
        heads: dict[str, HeadConfig],
        weighing: Uncertainty | None = None,
    ) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
        """Return no logits, the loss of a batch, and each weighted term."""
        found = self.losses(image, targets[INSTANCES], ignore)
        weights = heads[INSTANCES].loss
        parts = {f"{INSTANCES}/{name}": weight * found[name] for name, weight in weights.items()}
        return {}, torch.stack(list(parts.values())).sum(), parts

    def losses(self, image: Tensor, nuclei: Tensor, ignore: Tensor) -> dict[str, Tensor]:
        """Return the five losses of a batch, see `nucleate.losses.OWN_LOSSES`.

        Args:
            image: (B, 3, H, W), 0..255.
            nuclei: float (B, H, W), label image: 0 outside nuclei, else the label.
            ignore: bool (B, H, W); boxes with more than half their area in it are not background.
        """
        features, size = self._features(image)
        sizes = [size] * len(image)
        grown = F.interpolate(nuclei[:, None].float(), size, mode="nearest-exact")[:, 0]
        vague = F.interpolate(ignore[:, None].float(), size, mode="nearest-exact")[:, 0]
        truth = [_truth(g, v) for g, v in zip(grown * (vague == 0), vague, strict=True)]
        padded = ImageList(image.new_empty(1, 1, *self._padded(size)), sizes)
        stages = (self.first, self.second)
        was = self.training
        try:
            for stage in stages:  # losses exist only in training mode; validation needs them too
                stage.train()
            boxes, one = self.first(padded, features, truth)
            self.second.vague = [t["vague"] for t in truth]
            _, two = self.second(features, boxes, sizes, truth)
        finally:
            for stage in stages:
                stage.train(was)
        return {
            "objectness": one["loss_objectness"],
            "proposal": one["loss_rpn_box_reg"],
            "classifier": two["loss_classifier"],
            "box": two["loss_box_reg"],
            "mask": two["loss_mask"],
        }

    def _enlarged(self, image: Tensor) -> Tensor:
        if self.enlarge == 1:
            return image
        return F.interpolate(image.float(), scale_factor=self.enlarge, mode="bilinear")

    def _features(self, image: Tensor) -> tuple[dict[str, Tensor], torch.Size]:
        """Return the pyramid and the size of the enlarged image before padding."""
        enlarged = self._enlarged(image)
        features = self.pyramid(self.body(self.enter(enlarged)))
        # box coordinates need 32 bits: bfloat16 cannot distinguish 1000 from 1001
        return {k: v.float() for k, v in features.items()}, enlarged.shape[-2:]

    def _padded(self, size: torch.Size) -> tuple[int, int]:
        return size[0] + -size[0] % _COARSEST, size[1] + -size[1] % _COARSEST

    def _nuclei(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the detections of the first class in one image, in pixels of the image."""
        mine = found["labels"] == 1
        return {
            # masks are trained with pixel-centre coordinates, boxes with corner coordinates
            "boxes": (found["boxes"][mine] + 0.5) / self.enlarge,
            "scores": found["scores"][mine],
            "masks": found["masks"][mine][:, 0],
        }


def _stacked(found: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Stack the detections of images into arrays, padded with zeros."""
    most = max(len(image["scores"]) for image in found)
    return {
        name: torch.stack(
            [
                F.pad(
                    image[name],
                    [0, 0] * (image[name].ndim - 1) + [0, most - len(image[name])],
                )
                for image in found
            ]
        )
        for name in OUTPUTS
    }


def _truth(nuclei: Tensor, vague: Tensor) -> dict[str, Tensor]:
    """Return boxes, labels and masks of the nuclei of one image, with its vague area."""
    labels, old = compact(nuclei.detach().cpu().int().numpy())
    boxes, _ = boxes_areas(labels, len(old))
    numbers = torch.from_numpy(old).to(nuclei.device, nuclei.dtype)
    return {
        "boxes": torch.from_numpy(boxes).to(nuclei.device, torch.float32),
        "labels": torch.ones(len(old), dtype=torch.int64, device=nuclei.device),
        "masks": (nuclei[None] == numbers[:, None, None]).to(torch.uint8),
        "vague": vague,
    }


def _backbone(encoder: str, norm: str) -> tuple[nn.Module, nn.Module]:
    """Return the encoder, with four levels, and the pyramid on top, with five."""
    if norm not in _NORMS or encoder not in _ENCODERS:
        raise ConfigError(
            f"mask_rcnn: unknown encoder {encoder!r} or norm {norm!r}. Use one of "
            f"{', '.join(_ENCODERS)} with {', '.join(_NORMS)}."
        )
    network = getattr(resnet, encoder)(weights=None, norm_layer=_NORMS[norm])
    whole = BackboneWithFPN(
        network,
        {f"layer{level + 1}": name for level, name in enumerate(LEVELS)},
        [network.inplanes // 8 * 2**level for level in range(4)],
        WIDTH,
        norm_layer=_NORMS["group"] if norm == "group" else None,
    )
    return whole.body, whole.fpn

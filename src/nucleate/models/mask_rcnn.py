"""Mask R-CNN: a box, a score and a small mask for every nucleus (system Detectron2).

The parts are torchvision's. Unlike there, images are enlarged by one fixed factor and never by
their size, so that a tile of a slide is seen as a whole image is; masks stay in their boxes; and
what is in vague areas is no background.

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

_COARSEST = 32  # pixels per pixel of its coarsest level but one
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
        norm: in the encoder and pyramid: `group` (32 groups, also in the mask head; learns from
            random weights with two images per step), `batch`, or `frozen` (statistics of
            published weights, which then have to be loaded).
        enlarge: images are enlarged by this first: 1 to 8, a multiple of 1/8.
        anchors_px: edges of the boxes that are tried, one per level, in enlarged pixels.
        ratios: heights over widths of those boxes.
        classes: that the heads tell apart; the first one is the nucleus. Detectron2 has 6, five of
            them without any example.
        proposals: boxes that the second stage looks at: in training, and afterwards.
        regions: boxes per image that the second stage learns from.
        detections: most nuclei in one image or tile, most certain first.
        min_score: what is less sure is not drawn.
        box_overlap: of two boxes that share more than this, over their union, one stays.

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
        eighths = round(enlarge * 8)  # enlarged images are to be multiples of the coarsest pixel
        self.enlarge, self.align_px = enlarge, 8 * _COARSEST // math.gcd(8 * _COARSEST, eighths)
        self.encoder_name = None if norm == "group" else encoder
        self.enter = Enter(_COARSEST, 1, MEAN, SD)
        self.body, self.pyramid = _backbone(encoder, norm)
        self.first = Proposals(anchors_px, ratios, proposals)
        self.second = Regions(classes, regions, detections, min_score, box_overlap, norm)

    @property
    def encoder(self) -> nn.Module:
        """What published weights are for."""
        return self.body

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the features of the four levels of the encoder."""
        return list(self.body(self.enter(self._enlarged(image))).values())

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return what was found in each image, most certain first.

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
        """Do all the work but the masks."""
        was, self.second.score_thresh = self.second.score_thresh, 1.0
        try:
            self(image)
        finally:
            self.second.score_thresh = was

    def maps(self, image: Tensor) -> dict[str, Tensor]:
        """Return the same: scores and masks are probabilities already."""
        return {name: found.float() for name, found in self(image).items()}

    def free_axes(self, names: list[str]) -> dict[str, dict[int, str]]:
        """Return free axes: one image at a time goes in, as many nuclei as are found come out."""
        return {"image": {1: "height", 2: "width"}, **{name: {1: "nuclei"} for name in names}}

    def learn(
        self,
        image: Tensor,
        targets: dict[str, Tensor],
        ignore: Tensor,
        heads: dict[str, HeadConfig],
        weighing: Uncertainty | None = None,
    ) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
        """Return no logits, the loss of a batch, and each weighted term by itself."""
        found = self.losses(image, targets[INSTANCES], ignore)
        weights = heads[INSTANCES].loss
        parts = {f"{INSTANCES}/{name}": weight * found[name] for name, weight in weights.items()}
        return {}, torch.stack(list(parts.values())).sum(), parts

    def losses(self, image: Tensor, nuclei: Tensor, ignore: Tensor) -> dict[str, Tensor]:
        """Return the five losses of a batch: see `nucleate.losses.OWN_LOSSES`.

        Args:
            image: (B, 3, H, W), 0..255.
            nuclei: float (B, H, W), 0 outside, the number of the nucleus elsewhere.
            ignore: bool (B, H, W); boxes that lie there by more than half are no background.
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
            for stage in stages:  # their losses exist in training only; validation wants them too
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
        """Return the pyramid, and the size of the enlarged image before it was padded."""
        enlarged = self._enlarged(image)
        features = self.pyramid(self.body(self.enter(enlarged)))
        # boxes are counted in 32 bits: half precision does not tell 1000 from 1001
        return {k: v.float() for k, v in features.items()}, enlarged.shape[-2:]

    def _padded(self, size: torch.Size) -> tuple[int, int]:
        return size[0] + -size[0] % _COARSEST, size[1] + -size[1] % _COARSEST

    def _nuclei(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return of one image what is of the first class, in pixels of the image."""
        mine = found["labels"] == 1
        return {
            # masks are learned from pixels that count from their centres, boxes from corners
            "boxes": (found["boxes"][mine] + 0.5) / self.enlarge,
            "scores": found["scores"][mine],
            "masks": found["masks"][mine][:, 0],
        }


def _stacked(found: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return lists of different lengths as arrays, filled up with zeros."""
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
    """Return boxes, labels and masks of the nuclei of one image, and its vague area."""
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
    """Return the encoder, which gives four levels, and the pyramid on it, which gives five."""
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

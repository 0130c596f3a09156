"""The two stages of Mask R-CNN: propose boxes, then score them, refine them and predict masks.

Built from torchvision's parts. Vague areas are not background.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import initLevelMapper

LEVELS = ("0", "1", "2", "3")  # torchvision's names of pyramid levels; strides of 4 to 32 pixels
WIDTH = 256  # channels of the pyramid


def _leave_out(labels: Tensor, boxes: Tensor, vague: Tensor) -> None:
    """Set the label of background boxes in vague areas to -1, unless no other label is left."""
    inside = (labels == 0) & _inside(boxes, vague)
    if (labels[~inside] >= 0).any():
        labels[inside] = -1


def _inside(boxes: Tensor, vague: Tensor) -> Tensor:
    """Return which boxes have more than half their area in a vague area: bool (n,).

    Example:
        >>> vague = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
        >>> _inside(torch.tensor([[0.0, 0, 2, 1], [1, 0, 4, 1]]), vague).tolist()
        [False, True]
    """
    if not vague.any():
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    height, width = vague.shape
    sums = F.pad(vague.double().cumsum(0).cumsum(1), (1, 0, 1, 0))  # integral image
    x0, x1 = boxes[:, 0].clamp(0, width).round().long(), boxes[:, 2].clamp(0, width).round().long()
    y0, y1 = (
        boxes[:, 1].clamp(0, height).round().long(),
        boxes[:, 3].clamp(0, height).round().long(),
    )
    held = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
    return held > 0.5 * ((x1 - x0) * (y1 - y0))


class _ProposalHead(RPNHead):  # type: ignore[misc]
    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        scores, moves = super().forward(x)
        return [s.float() for s in scores], [m.float() for m in moves]


class _BoxHead(FastRCNNPredictor):  # type: ignore[misc]
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores, moves = super().forward(x)
        return scores.float(), moves.float()


class Proposals(RegionProposalNetwork):  # type: ignore[misc]
    """The first stage: proposes boxes. Boxes in vague areas are not background."""

    def __init__(
        self, anchors_px: Sequence[int], ratios: Sequence[float], proposals: Sequence[int]
    ) -> None:
        anchors = AnchorGenerator(tuple((a,) for a in anchors_px), (tuple(ratios),) * 5)
        kept = {"training": proposals[0], "testing": proposals[1]}
        super().__init__(
            anchors,
            _ProposalHead(WIDTH, len(ratios)),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n=kept,
            post_nms_top_n=kept,
            nms_thresh=0.7,
        )

    def assign_targets_to_anchors(self, anchors: Any, targets: Any) -> Any:  # noqa: ANN401
        """Return labels and true boxes of the anchors; the label -1 is ignored."""
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        for label, anchor, target in zip(labels, anchors, targets, strict=True):
            _leave_out(label, anchor, target["vague"])
        return labels, boxes


class _AnyNumber(nn.GroupNorm):
    """Group normalisation that accepts an empty batch after export too."""

    def __init__(self, channels: int) -> None:
        super().__init__(32, channels)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.onnx.is_in_onnx_export():
            return super().forward(x)
        # the same without a reshape, which fails on an empty batch after export
        numbers = torch.arange(self.num_channels, device=x.device) // (self.num_channels // 32)
        alike = (numbers[:, None] == numbers).to(x.dtype)
        alike = alike / alike.sum(1)
        centred = x - (x.mean((2, 3)) @ alike)[:, :, None, None]
        spread = (centred.square().mean((2, 3)) @ alike + self.eps).sqrt()[:, :, None, None]
        return centred / spread * self.weight[:, None, None] + self.bias[:, None, None]


def _pool(edge: int) -> MultiScaleRoIAlign:
    """Return the RoI pooling of pyramid features to `edge` × `edge` pixels per box."""
    pool = MultiScaleRoIAlign(LEVELS, edge, 2)
    # torchvision would infer the scales from the first image, wrongly if that is small
    pool.scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    pool.map_levels = initLevelMapper(2, 5)
    return pool


class Regions(RoIHeads):  # type: ignore[misc]
    """The second stage: scores boxes, refines them and predicts their masks.

    Attributes:
        vague: for each image of the batch, 1 where boxes are not background.
    """

    def __init__(
        self,
        classes: int,
        regions: int,
        detections: int,
        min_score: float,
        box_overlap: float,
        norm: str,
    ) -> None:
        super().__init__(
            box_roi_pool=_pool(7),
            box_head=TwoMLPHead(WIDTH * 49, 1024),
            box_predictor=_BoxHead(1024, classes + 1),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=regions,
            positive_fraction=0.25,
            bbox_reg_weights=None,
            score_thresh=min_score,
            nms_thresh=box_overlap,
            detections_per_img=detections,
            mask_roi_pool=_pool(14),
            mask_head=MaskRCNNHeads(
                WIDTH, (WIDTH,) * 4, 1, _AnyNumber if norm == "group" else None
            ),
            mask_predictor=MaskRCNNPredictor(WIDTH, WIDTH, classes + 1),
        )
        self.vague: list[Tensor] = []

    def assign_targets_to_proposals(self, proposals: Any, *truth: Any) -> Any:  # noqa: ANN401
        """Return true boxes and labels of the proposals; the label -1 is ignored."""
        matched, labels = super().assign_targets_to_proposals(proposals, *truth)
        for label, proposal, vague in zip(labels, proposals, self.vague, strict=True):
            _leave_out(label, proposal, vague)
        return matched, labels

"""COCO average precision of boxes and masks, over all images of a set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nucleate.annotations.coco_masks import detection, recorded, run_lengths
from nucleate.types import Bool, Instances, Int32

LIMITS = (100, 1000)  # most detections scored per image: COCO's limit, and one high enough
_AREAS = ("", "_small", "_medium", "_large")  # all, below 32², below 96², above, in pixels


@dataclass(slots=True)
class Records:
    """Input of COCO's evaluation: truth and detections of all images so far."""

    images: list[dict[str, Any]] = field(default_factory=list)
    truth: list[dict[str, Any]] = field(default_factory=list)
    found: list[dict[str, Any]] = field(default_factory=list)

    def add(self, truth: Int32, ignore: Bool | None, nuclei: Instances) -> None:
        """Add an image.

        Args:
            truth: int32 (H, W), 0 background.
            ignore: bool (H, W); detections that overlap it by more than the IoU threshold are not
                scored, as on COCO's crowds.
            nuclei: detections with scores, in pixels of the image; they may overlap.
        """
        height, width = truth.shape
        number = len(self.images) + 1
        self.images.append({"id": number, "height": height, "width": width})
        true = np.where(ignore, 0, truth) if ignore is not None else truth
        masks = [(counts, 0) for counts in run_lengths(true.astype(np.int32)).values()]
        if ignore is not None and ignore.any():
            masks.append((run_lengths(ignore.astype(np.int32))[1], 1))
        for counts, crowd in masks:
            self.truth.append(
                {
                    "id": len(self.truth) + 1, "image_id": number, "category_id": 1,
                    "iscrowd": crowd, **recorded(counts, truth.shape),
                }
            )  # fmt: skip
        for row in range(len(nuclei)):
            outline, score = nuclei.outline(row), float(nuclei.scores[row])
            self.found.append(detection(outline, score, number, 1, (height, width)))


def average_precision(records: Records) -> dict[str, dict[str, dict[str, float]]]:
    """Compute AP and AR of boxes and masks: means over IoU 0.50:0.05:0.95, 101 recall points.

    Boxes are the bounding boxes of the masks. All nuclei are one category.

    Args:
        records: records of all images.

    Returns:
        `bbox` and `segm` -> most detections per image, "100" and "1000" -> `AP`, `AP50`, `AP75`,
        `AR`, and for small, medium and large nuclei `AP_small` …, `AR_large`, all in 0..1; NaN if
        there is no such nucleus.

    References:
        Lin et al. 2014, doi:10.1007/978-3-319-10602-1_48; https://cocodataset.org/#detection-eval.

    Example:
        >>> from nucleate.types import Frame
        >>> records = Records()
        >>> records.add(np.ones((2, 2), np.int32), None, Instances.empty(Frame(2, 2)))
        >>> average_precision(records)["segm"]["100"]["AP"]
        0.0
    """
    return {kind: _evaluate(records, kind) for kind in ("bbox", "segm")}


def _evaluate(records: Records, kind: str) -> dict[str, dict[str, float]]:
    from faster_coco_eval import COCO, COCOeval_faster

    content = {
        "images": records.images,
        "annotations": records.truth,
        "categories": [{"id": 1, "name": "nucleus"}],
    }
    other = "segmentation" if kind == "bbox" else "bbox"
    drop = (other, "area")  # a result has either a box or a mask, which gives the area
    results = [{k: v for k, v in entry.items() if k not in drop} for entry in records.found]
    if not any(entry["iscrowd"] == 0 for entry in records.truth):
        return {str(limit): dict.fromkeys(_NAMES, float("nan")) for limit in LIMITS}
    true = COCO(content)
    # an empty list of results is rejected: pass one of lowest score, which is equivalent
    shape = (records.images[0]["height"], records.images[0]["width"])
    nothing = {
        "image_id": 1,
        "category_id": 1,
        "score": 0.0,
        **recorded([shape[0] * shape[1]], shape),
    }
    for key in drop:
        del nothing[key]
    run = COCOeval_faster(true, true.loadRes(results or [nothing]), kind)
    run.params.maxDets = list(LIMITS)
    run.evaluate()
    run.accumulate()
    precision, recall = run.eval["precision"], run.eval["recall"]
    return {
        str(limit): _summary(precision[:, :, 0, :, i], recall[:, 0, :, i])
        for i, limit in enumerate(LIMITS)
    }


def _summary(precision: Any, recall: Any) -> dict[str, float]:  # noqa: ANN401
    """Average precision (IoU, recall, area) and recall (IoU, area), omitting entries of -1."""
    found: dict[str, float] = {}
    for i, area in enumerate(_AREAS):
        found[f"AP{area}"] = _mean(precision[:, :, i])
        found[f"AR{area}"] = _mean(recall[:, i])
    found["AP50"], found["AP75"] = _mean(precision[0, :, 0]), _mean(precision[5, :, 0])
    return {name: found[name] for name in _NAMES}


_NAMES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
          "AR", "AR_small", "AR_medium", "AR_large")  # fmt: skip


def _mean(values: Any) -> float:  # noqa: ANN401
    known = values[values > -1]
    return float(known.mean()) if known.size else float("nan")

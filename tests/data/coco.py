"""A tiny COCO tree as annotation tools write it: polygons, both kinds of run lengths, a crowd."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

from nucleate.geometry.outlines import trace
from tests.synthetic import tissue


def make(root, size=128):
    """Write the tree; return name -> labels."""
    from pycocotools import mask as coco_mask

    truth, images, annotations = {}, [], []
    (root / "images").mkdir(parents=True, exist_ok=True)
    for number in range(3):
        image, labels = tissue(size, size, 14, 120 + number)
        name = f"slide_{number}"
        Image.fromarray(image).save(root / "images" / f"{name}.png")
        images.append({"id": number + 7, "file_name": f"{name}.png", "height": size, "width": size})
        xy, offsets, _ = trace(labels)
        for i in range(labels.max()):
            mask = np.asfortranarray((labels == i + 1).astype(np.uint8))
            packed = coco_mask.encode(mask)
            flat = mask.reshape(-1, order="F")
            changes = np.flatnonzero(np.diff(flat, prepend=0, append=flat[-1] ^ 1))
            plain = np.diff(changes, prepend=0).tolist()
            segmentation = (
                [xy[offsets[i] : offsets[i + 1]].reshape(-1).tolist()],
                {"size": packed["size"], "counts": packed["counts"].decode()},
                {"size": [size, size], "counts": plain},
            )[i % 3]
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": number + 7, "iscrowd": 0,
                    "category_id": 3 + i % 2, "segmentation": segmentation,
                    "area": int(mask.sum()), "bbox": coco_mask.toBbox(packed).tolist(),
                }
            )  # fmt: skip
        truth[name] = labels
    categories = [{"id": 3, "name": "tumour"}, {"id": 4, "name": "other"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations.json").write_text(json.dumps(content))
    return truth

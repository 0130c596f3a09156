"""A tiny tree of images and GeoJSON files as QuPath exports them."""

from __future__ import annotations

import json

from PIL import Image

from nucleate.geometry.outlines import trace
from tests.synthetic import tissue


def make(root, size=128):
    """Write the tree; return name -> labels."""
    truth = {}
    for i in range(3):
        image, labels = tissue(size, size, 14, 140 + i)
        name = f"case{i}"
        (root / "images").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / "images" / f"{name}.png")
        xy, offsets, _ = trace(labels)
        features = []
        for k in range(labels.max()):
            ring = xy[offsets[k] : offsets[k + 1]].tolist()
            features.append(
                {
                    "type": "Feature", "id": f"n{k}",
                    "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
                    "properties": {
                        "objectType": "annotation",
                        "classification": {"name": ("Tumor", "Stroma")[k % 2], "color": [1, 2, 3]},
                    },
                }
            )  # fmt: skip
        content = {"type": "FeatureCollection", "features": features}
        (root / f"{name}.geojson").write_text(json.dumps(content))
        truth[name] = labels
    return truth

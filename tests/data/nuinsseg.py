"""A tiny tree in NuInsSeg's layout: organ folders with spaces, `Imagj_zips`, vague areas."""

from __future__ import annotations

import zipfile

import numpy as np
import roifile
import tifffile
from PIL import Image

from nucleate.geometry.outlines import trace
from tests.synthetic import tissue

TILES = {
    "human bladder": "human_bladder_01", "human cerebellum": "human_cerebellum_01",
    "mouse muscle_tibia": "mouse_muscle_tibia_07",
}  # fmt: skip


def make(root, size=128):
    """Write the tree; return name -> labels."""
    truth = {}
    for seed, (organ, name) in enumerate(TILES.items()):
        image, labels = tissue(size, size, 14, 60 + seed)
        base = root / organ
        folders = ("tissue images", "label masks modify", "Imagj_zips", "vague areas/mask binary")
        for folder in folders:
            (base / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(base / "tissue images" / f"{name}.png")
        tifffile.imwrite(base / "label masks modify" / f"{name}.tif", labels.astype(np.uint16))
        vague = np.zeros((size, size), np.uint8)
        vague[:20, :30] = 255
        Image.fromarray(vague).save(base / "vague areas" / "mask binary" / f"{name}.png")
        xy, offsets, _ = trace(labels)
        with zipfile.ZipFile(base / "Imagj_zips" / f"{name}.zip", "w") as archive:
            for i in range(len(offsets) - 1):
                outline = xy[offsets[i] : offsets[i + 1]]
                archive.writestr(f"{i:04d}.roi", roifile.ImagejRoi.frompoints(outline).tobytes())
        truth[name] = labels
    return truth

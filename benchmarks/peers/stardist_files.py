"""StarDist on files: python stardist_files.py IMAGES OUT MODEL; writes a label image for each."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tifffile
from csbdeep.utils import normalize
from PIL import Image
from stardist.models import StarDist2D

if __name__ == "__main__":
    images, out, weights = map(Path, sys.argv[1:])
    out.mkdir(parents=True, exist_ok=True)
    model = StarDist2D(None, name=weights.name, basedir=str(weights.parent))
    for path in sorted(images.glob("*.png")):
        image = normalize(np.asarray(Image.open(path)), 1, 99.8, axis=(0, 1, 2))
        labels, _ = model.predict_instances(image, verbose=False)
        tifffile.imwrite(
            out / f"{path.stem}.labels.tif", labels.astype(np.int32), compression="zlib"
        )

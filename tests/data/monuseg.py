"""A tiny tree in MoNuSeg's official layout: TIFF images and Aperio XML."""

from __future__ import annotations

import tifffile

from nucleate.geometry.outlines import trace
from tests.synthetic import tissue

TRAIN = ("TCGA-A7-A13E-01Z-00-DX1", "TCGA-B0-5711-01Z-00-DX1", "TCGA-18-5592-01Z-00-DX1")
EXTRA = ("TCGA-BC-A217-01Z-00-DX1", "TCGA-F9-A8NY-01Z-00-DX1")
TEST = ("TCGA-2Z-A9J9-01A-01-TS1",)


def xml_of(outlines) -> str:
    regions = "".join(
        f'<Region Id="{i}"><Vertices>'
        + "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in outline)
        + "</Vertices></Region>"
        for i, outline in enumerate(outlines, 1)
    )
    return (
        '<?xml version="1.0"?><Annotations MicronsPerPixel="0.252"><Annotation Id="1">'
        f"<Regions>{regions}</Regions></Annotation></Annotations>"
    )


def make(root, names=TRAIN, size=128, first_seed=0):
    """Write the tree and return name -> labels."""
    truth = {}
    for seed, name in enumerate(names, first_seed):
        image, labels = tissue(size, size, 14, seed)
        xy, offsets, _ = trace(labels)
        outlines = [xy[offsets[i] : offsets[i + 1]] for i in range(len(offsets) - 1)]
        for folder, suffix in (("Tissue Images", "tif"), ("Annotations", "xml")):
            path = root / folder / f"{name}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if suffix == "tif":
                tifffile.imwrite(path, image, photometric="rgb", compression="zlib")
            else:
                path.write_text(xml_of(outlines))
        truth[name] = labels
    return truth

"""Draw the images of docs/how-to/failure-modes.md: `docs/images/failure-*.jpg`.

    python docs/programs/failure_images.py

The sources are two crops of CMU-1-Small-Region.svs (CC0 1.0): the bundled example, and
tests/data/keratin.tif, which is unaltered. What is done to the example is in `ALTERED`, one
function per failure. Left: the image; right: what the bundled model finds in it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

import nucleate
from nucleate.artefacts import glass, tissue
from nucleate.geometry.draw import draw_outlines, enlarge
from nucleate.models.card import EXAMPLE
from nucleate.stain.deconvolution import from_stains, to_stains
from nucleate.types import UInt8

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
MPP = 0.499
_SIDE = 360  # pixels of the source that are shown
_ENLARGED = 2
_KERATIN = np.s_[300:660, 200:560]  # of the crop
_MOST_BYTES = 150_000


def keratin(_: UInt8) -> UInt8:
    """Return real keratin: the corner of a crop, unaltered."""
    crop, _ = nucleate.read_image(ROOT / "tests" / "data" / "keratin.tif")
    return crop[_KERATIN]


def ink(image: UInt8) -> UInt8:
    """Return the image under a pen stroke."""
    return glass.ink(image, np.random.default_rng(12), 1 / MPP).image


def fold(image: UInt8) -> UInt8:
    """Return the image with a strip where the tissue lies twice."""
    return tissue.fold(image, np.random.default_rng(3), 1 / MPP).image


def out_of_focus(image: UInt8) -> UInt8:
    """Return the image blurred by a Gaussian of 1.4 um."""
    return cv2.GaussianBlur(image, (0, 0), 1.4 / MPP)


def wrong_scale(image: UInt8) -> UInt8:
    """Return the image as it is: it is segmented with the mpp of another objective."""
    return image


def other_stain(image: UInt8) -> UInt8:
    """Return the image with eosin replaced by brown DAB, and pale haematoxylin."""
    amounts = to_stains(image)
    dab = np.clip(amounts[..., 1], 0, None) * 1.3
    return from_stains(np.stack([amounts[..., 0] * 0.5, np.zeros_like(dab), dab], -1))


ALTERED: dict[str, tuple[Callable[[UInt8], UInt8], float]] = {  # and the mpp that is claimed
    "keratin": (keratin, MPP),
    "ink": (ink, MPP),
    "fold": (fold, MPP),
    "focus": (out_of_focus, MPP),
    "scale": (wrong_scale, 1.0),
    "stain": (other_stain, MPP),
}


def draw(name: str) -> UInt8:
    """Return the image beside the same with what is found in it."""
    alter, claimed = ALTERED[name]
    example, _ = nucleate.read_image(EXAMPLE)
    image = np.ascontiguousarray(alter(example)[:_SIDE, -_SIDE:])
    nuclei = nucleate.segment(image, mpp=claimed)
    large, found = enlarge(image, nuclei, _ENLARGED)
    gap = np.full((len(large), 12, 3), 255, np.uint8)
    return np.hstack([large, gap, draw_outlines(large, found, thickness=2)])


def main() -> None:
    """Write every image, at the best quality that is small enough."""
    for name in ALTERED:
        pixels = cv2.resize(draw(name), None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
        for quality in range(88, 40, -4):
            data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
            if len(data) < _MOST_BYTES:
                break
        (IMAGES / f"failure-{name}.jpg").write_bytes(data.tobytes())
        print(f"failure-{name}.jpg: {len(data)} bytes at quality {quality}")


if __name__ == "__main__":
    main()

"""HoVer-Net (fast mode, MONAI's implementation), random weights: the forward pass only.

It takes 256 × 256 pixels and draws the inner 164 × 164, so a tile of 1000 × 1000 is 49 overlapping
patches. Three of them are run: all take as long, and all together minutes.
"""

from __future__ import annotations

import argparse

import numpy as np
from common import Segment, run

SEES, DRAWS, EDGE, PATCHES = 256, 164, 1000, 3


def make(_: argparse.Namespace) -> Segment:
    """Return a function that takes as long as the network takes, and finds nothing."""
    import torch
    from monai.networks.nets import HoVerNet

    torch.set_num_threads(1)
    network = HoVerNet(mode="fast", in_channels=3, out_classes=0).eval()

    def segment(image: np.ndarray) -> np.ndarray:
        rim = (SEES - DRAWS) // 2
        padded = np.pad(image, ((rim, SEES), (rim, SEES), (0, 0)), mode="reflect")
        with torch.inference_mode():
            for x in range(0, PATCHES * DRAWS, DRAWS):
                patch = padded[:SEES, x : x + SEES].astype(np.float32) / 255
                network(torch.from_numpy(patch).permute(2, 0, 1)[None])
        return np.zeros(image.shape[:2], np.int32)

    return segment


if __name__ == "__main__":
    run(make, share=PATCHES / (-(-EDGE // DRAWS)) ** 2)

"""Predict the zoom of tissue: the multi-scale task of Medical_segmentation.

A window of side view_px × z is shown at view_px, z from 1/2 to 2. The network predicts log2 z
(regression), which of four borders z exceeds (ordinal classes), and the zoom of one view relative
to another view of the same place (pairwise).

    window ──► blur ──► sample at z ──► noise, JPEG, stain ──► encoder ──► log2 z
               so that the view is equally sharp at every z

The network must not read the zoom from the sharpness: small windows are enlarged, hence blurred,
and large ones reduced, hence sharp. Therefore the blur of a view is drawn independently of z: with
p the blur of the scan itself and b that of the view, in pixels, the window is blurred by
sqrt((b z)² - p²) before sampling. One kernel samples at every z, without leaving traces of the grid
(bilinear interpolation does); added noise then covers the remaining noise of the scan.

References:
    Ali et al. 2022, doi:10.1007/978-3-031-12053-4_50 (the idea); Sahasrabudhe et al. 2020,
    doi:10.1007/978-3-030-59722-1_38 (magnification as a task). Ordinal classes: Frank and Hall
    2001, doi:10.1007/3-540-44795-4_13.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from nucleate.augment import colours
from nucleate.config import AugmentConfig
from nucleate.errors import ConfigError
from nucleate.models.network import Network
from nucleate.pretraining.pretext import Pretext, Score, deepest_shape, explained, pooled, right
from nucleate.types import Float32, UInt8

CLASSES = (0.5, 0.75, 1.0, 1.5, 2.0)
_BORDERS = tuple(float(b) for b in np.log2(CLASSES)[:-1] + np.diff(np.log2(CLASSES)) / 2)
_SHARES = np.diff([np.log2(CLASSES[0]), *_BORDERS, np.log2(CLASSES[-1])]) / 2  # class frequencies
_SCAN_BLUR_PX = 0.5  # standard deviation of the point spread of lens and scanner, a typical value


class MultiScale(Pretext):
    """Predict the zoom of views.

    Args:
        network: network whose encoder is trained.
        view_px: edge of a view, in pixels.
        width: width of the layer between the encoder and the outputs.
        ordinal: whether to predict the ordinal classes.
        pairwise: whether to predict the zoom between two views of one place.
        blur_px: [smallest, largest] blur of a view, standard deviation in its pixels.
        noise: largest standard deviation of the noise of a view, in grey levels.
        stain: strength of stain jitter, per view.

    Raises:
        ConfigError: a number is out of range; less blur than enlarging causes.

    Example:
        >>> from nucleate.models.families import build
        >>> network = build("unet", ["foreground"], {"widths": (8, 16)})
        >>> MultiScale(network, view_px=32, width=8).window_px  # twice the view, at z = 2
        64
    """

    score = "explained"

    def __init__(
        self,
        network: Network,
        view_px: int = 128,
        width: int = 256,
        ordinal: bool = True,
        pairwise: bool = True,
        blur_px: Sequence[float] = (1.1, 2.2),
        noise: float = 6.0,
        stain: float = 0.3,
    ) -> None:
        super().__init__()
        if view_px < 16 or width < 1 or noise < 0 or not 0 <= stain < 1:
            raise ConfigError(
                "multiscale: view_px must be at least 16, width at least 1, noise at least 0 and "
                "stain below 1."
            )
        if len(blur_px) != 2 or not _SCAN_BLUR_PX / CLASSES[0] <= blur_px[0] <= blur_px[1] <= 8:
            raise ConfigError(
                "multiscale: blur_px must be [smallest, largest], from "
                f"{_SCAN_BLUR_PX / CLASSES[0]:g} (below that, the sharpness of a view reveals its "
                "zoom) to 8."
            )
        self.chance = {"explained": 0.0}
        if ordinal:
            self.chance["accuracy"] = float(_SHARES.max())
        if pairwise:
            self.chance["pair_accuracy"] = 0.5
        self.network, self.view_px = network, view_px
        self.window_px = round(view_px * CLASSES[-1])
        self.ordinal, self.pairwise, self.blur_px, self.noise = ordinal, pairwise, blur_px, noise
        self.light = AugmentConfig(stain=stain, blur_chance=0, noise_chance=0, jpeg_chance=0.5)
        entering = deepest_shape(network, view_px)[0]
        self.each = nn.Sequential(nn.Linear(entering, width), nn.ReLU())
        self.zoom = nn.Linear(width, 1)
        self.above = nn.Linear(width, len(_BORDERS))
        self.between = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, 2))

    def views(self, window: UInt8, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Return `views`, uint8 (2, view, view, 3), and their `zoom`, float32 (2,), log2."""
        zooms = rng.uniform(np.log2(CLASSES[0]), np.log2(CLASSES[-1]), 2)
        views = [self._view(window, 2.0**zoom, rng) for zoom in zooms]
        return {"views": np.stack(views), "zoom": zooms.astype(np.float32)}

    def forward(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Score]]:
        """Return the losses and the scores of the predictions."""
        views, zoom = batch["views"], batch["zoom"]
        hidden = self.each(pooled(self.network, views.flatten(0, 1), 1))
        true = zoom.reshape(-1, 1)
        guess = self.zoom(hidden).float()
        losses = {"zoom": F.smooth_l1_loss(guess, true, beta=0.25)}
        scores = {"explained": explained(true, guess, 0.0)}  # zooms are symmetric about 0
        if self.ordinal:
            above = (true > true.new_tensor(_BORDERS)).float()  # (2B, borders)
            said = self.above(hidden).float()
            losses["ordinal"] = F.binary_cross_entropy_with_logits(said, above)
            scores["accuracy"] = right((said > 0).sum(1), above.sum(1))
        if self.pairwise:
            apart = zoom[:, 1] - zoom[:, 0]
            much, more = self.between(hidden.reshape(len(views), -1)).float().unbind(1)
            nearer = (apart > 0).float()
            losses["pair"] = F.smooth_l1_loss(much, apart, beta=0.25)
            losses["nearer"] = F.binary_cross_entropy_with_logits(more, nearer)
            scores["pair_accuracy"] = right(more > 0, apart > 0)
        return losses, scores

    def _view(self, window: UInt8, zoom: float, rng: np.random.Generator) -> UInt8:
        """Return a view of a window: blurred, sampled, with its own noise."""
        blur = rng.uniform(self.blur_px[0], self.blur_px[1])
        slack = (self.window_px - self.view_px * zoom) / 2
        centre = self.window_px / 2 + rng.uniform(-slack, slack, 2)
        view = zoomed(window, zoom, self.view_px, blur, (float(centre[0]), float(centre[1])))
        noise = rng.normal(0, rng.uniform(1, max(1.0, self.noise)), view.shape)
        return colours(np.clip(view + noise, 0, 255).astype(np.uint8), self.light, rng)


def zoomed(
    window: UInt8, zoom: float, view_px: int, blur_px: float, centre_xy: tuple[float, float]
) -> Float32:
    """Resample a square of `view_px` × `zoom` pixels to `view_px`, with blur independent of zoom.

    Args:
        window: uint8 (H, W, 3).
        zoom: pixels of the window per pixel of the view.
        view_px: edge of the view, in pixels.
        blur_px: standard deviation of the view's blur, including that of the scan, in its pixels.
        centre_xy: centre of the square, in the window.

    Returns:
        float32 (view_px, view_px, 3), not rounded: the finest detail is faint.
    """
    before = max((blur_px * zoom) ** 2 - _SCAN_BLUR_PX**2, 0.01) ** 0.5
    soft = cv2.GaussianBlur(
        window.astype(np.float32), (0, 0), before, borderType=cv2.BORDER_REFLECT
    )
    axis = (np.arange(view_px, dtype=np.float32) + 0.5 - view_px / 2) * np.float32(zoom)
    x, y = np.meshgrid(axis + centre_xy[0] - 0.5, axis + centre_xy[1] - 0.5)
    view = cv2.remap(
        soft, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LANCZOS4,
        borderMode=cv2.BORDER_REFLECT,
    )  # fmt: skip
    return np.asarray(view, np.float32)

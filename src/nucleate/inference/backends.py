"""The protocol of a backend, which runs a network, and a model that is ready to run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from nucleate.cards import ModelCard
from nucleate.errors import InputError
from nucleate.types import Maps, UInt8

if TYPE_CHECKING:
    pass


Precision = Literal["f32", "bf16", "f16", "int8"]


class Backend(Protocol):
    """Runs a network on a batch of images."""

    about: str
    """Engine, version, device and precision, for people and for summary.json."""

    def __call__(self, batch: UInt8) -> Maps:
        """Return head -> float32 (B, H, W) in 0..1 for uint8 (B, H, W, 3).

        If the decoder takes something other than maps: name -> float32 (B, n, …), see
        `nucleate.postprocess.Decoder.outputs`. Must be thread-safe.

        Raises:
            InputError: H or W is not a multiple of the network's stride, see `check_size`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Model:
    """A network that is ready to run, with its model card."""

    card: ModelCard
    backend: Backend


def check_size(batch: UInt8, align_px: int) -> None:
    """Check the height and width of a batch; every backend calls this before it runs.

    Args:
        batch: images, uint8 (B, H, W, 3).
        align_px: stride of the network in pixels; H and W must be multiples of it.

    Raises:
        InputError: H or W is not a multiple of `align_px`.

    Example:
        >>> import numpy as np
        >>> check_size(np.zeros((1, 32, 48, 3), np.uint8), 16)
    """
    height, width = batch.shape[1:3]
    if height % align_px or width % align_px:
        raise InputError(
            f"The network takes images whose height and width are multiples of {align_px} pixels, "
            f"not {height} × {width}. Crop or pad them, or call segment(), which takes any size."
        )

"""What runs a network: the protocol, and a model that is ready to run."""

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

        Where the decoder takes something else than maps: name -> float32 (B, n, …), see
        `nucleate.postprocess.Decoder.outputs`. Any number of threads may call at the same time.

        Raises:
            InputError: H or W is no multiple of the network's stride, see `check_size`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Model:
    """A network that is ready to run, and what its card states of it."""

    card: ModelCard
    backend: Backend


def check_size(batch: UInt8, align_px: int) -> None:
    """Check the height and width of a batch; every engine does before it runs.

    Args:
        batch: images, uint8 (B, H, W, 3).
        align_px: stride of the network: what H and W are multiples of, in pixels.

    Raises:
        InputError: they are not.

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

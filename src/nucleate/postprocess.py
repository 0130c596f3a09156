"""Maps → nuclei. To add a decoder, write its function and add a row to `DECODERS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from nucleate.cards import TYPE
from nucleate.errors import ConfigError, ModelError, nearest, pick
from nucleate.geometry.labels import compact, flood, nuclei_of, peaks
from nucleate.geometry.runs import runs_of
from nucleate.mask_nms import INSTANCES, MIN_SCORE, MOST_TILE_PX, OUTPUTS, Layer, mask_nms
from nucleate.types import Float32, Int16, Int32, Maps

_PEAK_PX = 20  # pixels above the pass that make a peak of a nucleus
AFTER = {"ink": 1.0}  # thresholds that apply to the nuclei of any decoder: `features.is_ink`


@dataclass(frozen=True, slots=True)
class Decoder:
    """A way to decode the network's output to nuclei.

    Attributes:
        heads: names of the required heads.
        defaults: threshold name -> value before tuning, beside those of `AFTER`.
        grid: threshold name -> values that tuning tries; others keep their value.
        decode: maps, thresholds and the image's (H, W) -> nuclei; maps may be larger.
        outputs: names of the network's outputs that replace one map per head; empty for maps.
        most_tile_px: edge of the largest tile that it decodes well.
        candidates: name of the threshold below which detections are still candidates for average
            precision; None if detections are decided before they have a score.
        score: definition of a nucleus's score.
        min_score: default minimum score of a detection, if the network's arguments state none.
    """

    heads: tuple[str, ...]
    defaults: dict[str, float]
    grid: dict[str, tuple[float, ...]]
    decode: Callable[[Maps, dict[str, float], tuple[int, int]], list[Layer]]
    outputs: tuple[str, ...] = ()
    most_tile_px: int = 1 << 16
    candidates: str | None = None
    score: str = "mean foreground of the nuclei that users get"
    min_score: float = 0.0


def one_layer(
    draw: Callable[[Maps, dict[str, float]], Int32],
) -> Callable[[Maps, dict[str, float], tuple[int, int]], list[Layer]]:
    """Return a decoder from a function that draws a label image from maps of the image's size.

    The score of a nucleus is its mean foreground; its class is that of the highest type map.
    """

    def decode(maps: Maps, thresholds: dict[str, float], shape: tuple[int, int]) -> list[Layer]:
        high, wide = shape
        maps = {head: np.ascontiguousarray(m[:high, :wide]) for head, m in maps.items()}
        labels = draw(maps, thresholds)
        return [Layer(labels, mean_score(labels, maps["foreground"]), _classes(labels, maps))]

    return decode


def flat(layers: list[Layer]) -> Int32:
    """Merge all layers into one label image, 1..n; where nuclei overlap, the higher score wins.

    Example:
        >>> sure = Layer(np.array([[1, 1, 0]], np.int32), np.ones(1, np.float32), np.zeros(1))
        >>> other = Layer(np.array([[0, 1, 1]], np.int32), np.zeros(1, np.float32), np.zeros(1))
        >>> flat([sure, other]).tolist()
        [[1, 1, 2]]
    """
    if len(layers) == 1:
        return layers[0].labels
    labels = np.zeros(layers[0].labels.shape, np.int32)
    best = np.full(labels.shape, -1, np.float32)
    count = 0
    for layer in layers:
        score = np.concatenate([[-1], layer.scores]).astype(np.float32)[layer.labels]
        higher = score > best
        labels[higher], best[higher] = layer.labels[higher] + count, score[higher]
        count += len(layer.scores)
    return compact(labels)[0]


def watershed(maps: Maps, thresholds: dict[str, float]) -> Int32:
    """Split the foreground along valleys of the distance map: marker-controlled watershed.

    1. Foreground: probability above `foreground`.
    2. Markers: 8-connected components of the distance, smoothed by a Gaussian of `smooth` pixels,
       above `marker`, inside the foreground. One with several peaks that rise by `split` above the
       pass between them is several markers; 1, the default, splits none.
    3. Flood the smoothed distance from its peaks, inside the foreground.
    4. Keep the largest piece of every nucleus, fill holes, drop those below `min_area` pixels.

    Args:
        maps: `foreground` and `distance`, float32 (H, W) in 0..1.
        thresholds: `foreground`, `smooth`, `marker`, `split`, `min_area`.

    Returns:
        int32 (H, W), 0 background, 1..n nuclei, each one 4-connected piece.

    References:
        Meyer 1994, Topographic distance and watershed lines,
        doi:10.1016/0165-1684(94)90060-4 (flooding by priority).

    Example:
        >>> row = np.array([[0, 0.5, 1, 0.5, 0.2, 0.5, 1, 0.5, 0]], np.float32)
        >>> maps = {"foreground": (row > 0).astype(np.float32), "distance": row}
        >>> thresholds = dict(foreground=0.5, marker=0.6, split=1, smooth=0, min_area=1)
        >>> watershed(maps, thresholds).tolist()
        [[0, 1, 1, 1, 1, 2, 2, 2, 0]]
    """
    inside = maps["foreground"] > thresholds["foreground"]
    distance = np.clip(maps["distance"], 0.0, 1.0)
    if thresholds["smooth"] > 0:
        distance = cv2.GaussianBlur(distance, (0, 0), thresholds["smooth"])
    high = runs_of(inside & (distance > thresholds["marker"]))
    markers = peaks(distance, high, thresholds["split"], _PEAK_PX)
    flooded = flood(distance, markers, runs_of(inside))
    return nuclei_of(flooded, inside.shape, thresholds["min_area"])


def components(maps: Maps, thresholds: dict[str, float]) -> Int32:
    """Label each 4-connected component of the foreground as a nucleus (Histology-NucleiSeg).

    Touching nuclei are not split. Holes are filled, and objects inside them are absorbed (unlike in
    Histology-NucleiSeg): a nucleus has no holes.

    Args:
        maps: `foreground`, float32 (H, W) in 0..1.
        thresholds: `foreground`, `min_area`.

    Returns:
        int32 (H, W), 0 background, 1..n nuclei.

    Example:
        >>> row = np.array([[0.9, 0.9, 0.1, 0.9]], np.float32)
        >>> components({"foreground": row}, dict(foreground=0.5, min_area=1)).tolist()
        [[1, 1, 0, 2]]
    """
    inside = maps["foreground"] > thresholds["foreground"]
    rings, _ = cv2.findContours(inside.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(inside.shape, np.uint8)
    cv2.drawContours(filled, rings, -1, 1, thickness=-1)
    return nuclei_of(runs_of(filled > 0).pieces(), filled.shape, thresholds["min_area"])


def mean_score(labels: Int32, foreground: Float32) -> Float32:
    """Compute the mean foreground probability of each label 1..n: float32 (n,) in 0..1.

    Example:
        >>> mean_score(np.array([[1, 1]], np.int32), np.array([[0.5, 1.0]], np.float32)).tolist()
        [0.75]
    """
    from nucleate.geometry.kernels import nuclei as _kernels

    areas, sums = _kernels.sums(labels, foreground, int(labels.max(initial=0))).T
    return np.asarray(sums / np.maximum(areas, 1), np.float32)


def _classes(labels: Int32, maps: Maps) -> Int16:
    """Return the class whose map is highest on each nucleus 1..n; 0 without such maps."""
    kinds = [mean_score(labels, m) for name, m in maps.items() if name.startswith(TYPE)]
    if not kinds:
        return np.zeros(int(labels.max(initial=0)), np.int16)
    return np.asarray(np.argmax(kinds, axis=0), np.int16)


DECODERS: dict[str, Decoder] = {
    "watershed": Decoder(
        heads=("foreground", "distance"),
        defaults={
            "foreground": 0.5,
            "marker": 0.5,
            "split": 1.0,
            "smooth": 1.0,
            "min_area": 30.0,
        },
        grid={
            "foreground": (0.35, 0.4, 0.45, 0.5, 0.55, 0.6),
            "marker": (0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65),
            "smooth": (0.5, 1.0, 1.5, 2.0),
            "min_area": (20.0, 30.0, 45.0, 60.0),
        },
        decode=one_layer(watershed),
    ),
    "components": Decoder(
        heads=("foreground",),
        defaults={"foreground": 0.5, "min_area": 30.0},
        grid={
            "foreground": (0.35, 0.4, 0.45, 0.5, 0.55, 0.6),
            "min_area": (1.0, 20.0, 30.0, 45.0, 60.0),
        },
        decode=one_layer(components),
    ),
    "mask_nms": Decoder(
        heads=(INSTANCES,),
        defaults={"score": 0.5, "mask": 0.5, "overlap": 0.5, "min_area": 30.0},
        grid={
            "score": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
            "mask": (0.4, 0.45, 0.5, 0.55, 0.6),
            "overlap": (0.2, 0.3, 0.5, 0.7),
            "min_area": (20.0, 30.0, 45.0, 60.0),
        },
        decode=mask_nms,
        outputs=OUTPUTS,
        most_tile_px=MOST_TILE_PX,
        candidates="score",
        score="of the box",
        min_score=MIN_SCORE,
    ),
}


def missing_head(decoder: str, heads: list[str]) -> str | None:
    """Return the name of a head that a decoder requires and `heads` lacks, or None.

    Raises:
        ConfigError: no such decoder.

    Example:
        >>> missing_head("watershed", ["foreground"])
        'distance'
    """
    needed = pick(DECODERS, decoder, "decoder").heads
    return next((head for head in needed if head not in heads), None)


def needed(decoder: str, heads: list[str]) -> list[str]:
    """Return the names of the outputs that a decoder uses, for a network with `heads`.

    These are some of the maps (the others only help training), or the outputs that replace them.

    Example:
        >>> needed("watershed", ["foreground", "distance", "boundary", "type_1"])
        ['foreground', 'distance', 'type_1']
        >>> needed("mask_nms", ["instances"])
        ['boxes', 'scores', 'masks']
    """
    own = pick(DECODERS, decoder, "decoder")
    return list(own.outputs) or [h for h in heads if h in own.heads or h.startswith(TYPE)]


def require_maps(decoder: str, owner: object, done: str, remedy: str) -> None:
    """Raise a `ModelError` unless a decoder uses maps.

    Args:
        decoder: key of `DECODERS`.
        owner: subject of the message.
        done: operation that is possible for maps but not for boxes.
        remedy: what to do instead, a sentence.
    """
    if pick(DECODERS, decoder, "decoder").outputs:
        raise ModelError(
            f"{owner}: finds boxes and masks, which cannot be {done} as maps can. {remedy}"
        )


def complete_thresholds(decoder: str, chosen: dict[str, float]) -> dict[str, float]:
    """Return the thresholds of a decoder: its defaults and those of `AFTER`, updated by `chosen`.

    Raises:
        ConfigError: no such decoder or threshold.

    Example:
        >>> complete_thresholds("watershed", {"smooth": 2.0})["smooth"]
        2.0
    """
    defaults: dict[str, float] = {**pick(DECODERS, decoder, "decoder").defaults, **AFTER}
    for name, value in chosen.items():
        if name not in defaults:
            raise ConfigError(
                f"The decoder {decoder!r} has no threshold {name!r}. "
                f"{nearest(name, list(defaults))}"
            )
        if not isinstance(value, int | float) or not 0 <= value < 1e6:
            raise ConfigError(f"The threshold {name!r} must be at least 0, not {value!r}.")
    return {**defaults, **chosen}

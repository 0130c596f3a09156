"""Read OME-Zarr images in local folders, versions 0.4 and 0.5."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from nucleate.errors import InputError, optional
from nucleate.readers.limits import PIECE_BYTES
from nucleate.readers.metadata import square_mpp, unit_um
from nucleate.readers.source import REMEDY, RegionError, whole_ratio
from nucleate.readers.tiff_image import check_grey_channels
from nucleate.readers.zarr_chunks import ChunkGuard, check_metadata
from nucleate.resolution import plausible_mpp
from nucleate.types import UInt8

_CHUNK_BYTES = 2 * PIECE_BYTES
_MOST_LEVELS = 64


class ZarrSource:
    """A multiscale image in 8-bit RGB; levels are its data sets."""

    origin_xy = (0, 0)

    def __init__(self, path: Path) -> None:
        zarr: Any = optional("zarr", "export")
        self.name, self._path = path.name, path
        check_metadata(path)
        try:
            group = zarr.open_group(str(path), mode="r")
            attributes = dict(group.attrs)
            image = attributes.get("ome", attributes)["multiscales"][0]
            if len(image["datasets"]) > _MOST_LEVELS:
                raise ValueError(f"{len(image['datasets'])} levels")
            self._axes = [str(axis["name"]) for axis in image["axes"]]
            self._levels = [group[entry["path"]] for entry in image["datasets"]]
            shapes = [dict(zip(self._axes, a.shape, strict=True)) for a in self._levels]
            kinds = {str(a.dtype) for a in self._levels}
            scale = image["datasets"][0]["coordinateTransformations"][0]["scale"]
            more = image.get("coordinateTransformations") or [{}]
            whole = more[0].get("scale", [1] * len(scale))
            mpp = [self._mpp(image["axes"], scale, whole, axis) for axis in "xy"]
            names = _channels(attributes.get("ome", attributes))
        except Exception as error:  # an untrusted folder may contain anything
            raise InputError(
                f"{path}: cannot be read as OME-Zarr ({' '.join(str(error).split())[:80]}). "
                "Name the folder of an image, which has multiscales in its attributes."
            ) from error
        self.mpp, self.notes = square_mpp(path, *mpp), tuple[str, ...]()
        shape = shapes[0]
        others = {axis: n for axis, n in shape.items() if axis not in "xyc" and n > 1}
        if others or "y" not in shape or shape.get("c") not in (3, 4) or kinds != {"uint8"}:
            raise InputError(f"{path}: is not a single 8-bit RGB image. Convert it to one.")
        self._check_chunks()
        self._guards = [ChunkGuard(path, level) for level in self._levels]
        self.width, self.height = shape["x"], shape["y"]
        if names:  # white pixels, so that only the names are checked
            check_grey_channels(path, np.full((1, 1, 3), 255, np.uint8), names)
        self.level_sizes = tuple((one["x"], one["y"]) for one in shapes)
        self.downsamples = tuple(whole_ratio(self.width, wide) for wide, _ in self.level_sizes)

    def _mpp(self, axes: Any, scale: Any, whole: Any, axis: str) -> float | None:  # noqa: ANN401
        """Return the resolution along an axis, in micrometres per pixel."""
        if axis not in self._axes:
            return None
        i = self._axes.index(axis)
        unit = unit_um(axes[i].get("unit"), words=True)
        return None if unit is None else plausible_mpp(float(scale[i]) * float(whole[i]) * unit)

    def _check_chunks(self) -> None:
        """Raise an `InputError` for chunks that are too large to unpack."""
        largest = max(math.prod(level.chunks) * level.dtype.itemsize for level in self._levels)
        if largest > _CHUNK_BYTES:
            raise InputError(
                f"{self._path}: is written in chunks of {largest >> 20} MiB, too large to be read "
                f"one by one (at most {_CHUNK_BYTES >> 20} MiB). Write it with chunks of 1024 "
                "pixels."
            )

    def read(self, x0: int, y0: int, x1: int, y1: int, level: int = 0) -> UInt8:
        """Return a region."""
        if not self._path.is_dir() or not any(
            self._path.iterdir()
        ):  # missing chunks would be black
            raise InputError(f"{self._path}: is missing. Restore it, and resume.")
        window = {"x": slice(x0, x1), "y": slice(y0, y1), "c": slice(0, 3)}
        place = tuple(window.get(axis, 0) for axis in self._axes)
        try:
            self._guards[level].check(place)
            found = self._levels[level][place]
        except InputError as error:
            raise RegionError(str(error)) from error
        except Exception as error:
            raise RegionError(
                f"{self._path}: the region at ({x0}, {y0}) of level {level} cannot be read "
                f"({' '.join(str(error).split())[:80]}). {REMEDY}"
            ) from error
        kept = [axis for axis in self._axes if axis in window]
        return np.ascontiguousarray(
            np.transpose(np.asarray(found), [kept.index(axis) for axis in "yxc"])
        )


def _channels(attributes: dict[str, Any]) -> tuple[str, ...]:
    """Return the labels of the channels in the OMERO metadata."""
    listed = attributes.get("omero", {}).get("channels", [])
    return tuple(str(channel.get("label", "")) for channel in listed)

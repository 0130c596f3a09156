"""OME-Zarr pictures of a local folder, versions 0.4 and 0.5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nucleate.errors import InputError, optional
from nucleate.readers.metadata import plausible_mpp
from nucleate.readers.source import REMEDY, RegionError, whole_ratio
from nucleate.types import UInt8

_UNITS = {"micrometer": 1.0, "nanometer": 1e-3, "millimeter": 1e3}


class ZarrSource:
    """A multiscale image of 8-bit RGB; levels are its data sets."""

    origin_xy = (0, 0)

    def __init__(self, path: Path) -> None:
        zarr: Any = optional("zarr", "export")
        self.name, self._path = path.name, path
        try:
            group = zarr.open_group(str(path), mode="r")
            attributes = dict(group.attrs)
            image = attributes.get("ome", attributes)["multiscales"][0]
            self._axes = [str(axis["name"]) for axis in image["axes"]]
            self._levels = [group[entry["path"]] for entry in image["datasets"]]
            shapes = [dict(zip(self._axes, a.shape, strict=True)) for a in self._levels]
            kinds = {str(a.dtype) for a in self._levels}
            scale = image["datasets"][0]["coordinateTransformations"][0]["scale"]
            x = self._axes.index("x")
            unit = _UNITS.get(str(image["axes"][x].get("unit")))
            self.mpp = None if unit is None else plausible_mpp(float(scale[x]) * unit)
        except Exception as error:  # a stranger's folder may hold anything
            raise InputError(
                f"{path}: cannot be read as OME-Zarr ({' '.join(str(error).split())[:80]}). "
                "Name the folder of an image, which has multiscales in its attributes."
            ) from error
        shape = shapes[0]
        others = {axis: n for axis, n in shape.items() if axis not in "xyc" and n > 1}
        if others or "y" not in shape or shape.get("c") not in (3, 4) or kinds != {"uint8"}:
            raise InputError(f"{path}: is no single picture of 8-bit RGB. Convert it to one.")
        self.width, self.height = shape["x"], shape["y"]
        self.level_sizes = tuple((one["x"], one["y"]) for one in shapes)
        self.downsamples = tuple(whole_ratio(self.width, wide) for wide, _ in self.level_sizes)

    def read(self, x0: int, y0: int, x1: int, y1: int, level: int = 0) -> UInt8:
        """Return a region."""
        if not self._path.is_dir() or not any(
            self._path.iterdir()
        ):  # what is missing would be black
            raise InputError(f"{self._path}: is gone. Bring it back, and resume.")
        window = {"x": slice(x0, x1), "y": slice(y0, y1), "c": slice(0, 3)}
        try:
            found = self._levels[level][tuple(window.get(axis, 0) for axis in self._axes)]
        except Exception as error:
            raise RegionError(
                f"{self._path}: the region at ({x0}, {y0}) of level {level} cannot be read "
                f"({' '.join(str(error).split())[:80]}). {REMEDY}"
            ) from error
        kept = [axis for axis in self._axes if axis in window]
        return np.ascontiguousarray(
            np.transpose(np.asarray(found), [kept.index(axis) for axis in "yxc"])
        )

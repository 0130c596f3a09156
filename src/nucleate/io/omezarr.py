"""OME-Zarr pictures of a local folder, versions 0.4 and 0.5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nucleate.errors import InputError, optional
from nucleate.io.images import OME_UNITS, plausible_mpp
from nucleate.io.slides import REMEDY, RegionError, whole_ratio
from nucleate.types import UInt8


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
            self._axes = [axis["name"] for axis in image["axes"]]
            self._levels = [group[entry["path"]] for entry in image["datasets"]]
            scale = image["datasets"][0]["coordinateTransformations"][0]["scale"]
            x = self._axes.index("x")
            unit = OME_UNITS.get(
                {"micrometer": "µm", "nanometer": "nm", "millimeter": "mm"}.get(
                    image["axes"][x].get("unit", ""), ""
                )
            )
        except Exception as error:  # a stranger's folder may hold anything
            raise InputError(
                f"{path}: cannot be read as OME-Zarr ({' '.join(str(error).split())[:80]}). "
                "Name the folder of an image, which has multiscales in its attributes."
            ) from error
        self.mpp = None if unit is None else plausible_mpp(float(scale[x]) * unit)
        shape = dict(zip(self._axes, self._levels[0].shape, strict=True))
        others = {axis: n for axis, n in shape.items() if axis not in "xyc" and n > 1}
        if others or shape.get("c") not in (3, 4) or self._levels[0].dtype != np.uint8:
            raise InputError(f"{path}: is no single picture of 8-bit RGB. Convert it to one.")
        self.width, self.height = shape["x"], shape["y"]
        self.downsamples = tuple(whole_ratio(self.width / level.shape[x]) for level in self._levels)

    def read(self, x0: int, y0: int, x1: int, y1: int, level: int = 0) -> UInt8:
        """Return a region."""
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

"""ImageJ regions of interest, single or zipped."""

from __future__ import annotations

import io
import zlib

import numpy as np

from nucleate.annotations.drawing import MAX_BYTES, finite, ragged
from nucleate.errors import InputError
from nucleate.files import PathLike, read_bytes
from nucleate.types import Float64, Int64

_MAX_ROI_BYTES = 16 << 20


def read_imagej_rois(path: PathLike) -> list[tuple[Float64, Int64]]:
    """Read the outlines of ImageJ regions of interest: one `.roi` file, or a zip file of them.

    Sub-pixel and whole-pixel coordinates both start at the corner of the first pixel, as ImageJ
    fills them. Points and lines are omitted.

    Args:
        path: `.roi`, or `.zip` of such files.

    Returns:
        One entry per region: its outline or outlines (a composite has several) as vertices float64
        (m, 2) in (x, y) and offsets int64 (k + 1,).

    Raises:
        InputError: missing, damaged, or not from ImageJ.
    """
    import zipfile

    data = read_bytes(path, MAX_BYTES)
    if path.suffix.lower() != ".zip":
        return [found for found in [_roi(path, data)] if found is not None]
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [m for m in archive.infolist() if _is_roi(m.filename)]
            if sum(m.file_size for m in members) > MAX_BYTES or len(members) > 1_000_000:
                raise InputError(f"{path}: unpacks to more than 1 GiB. Split it into tiles.")
            parts = [_roi(path, archive.read(member)) for member in members]
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError,
            OSError) as error:  # fmt: skip
        raise InputError(f"{path}: not a valid zip file ({error}). Export it again.") from error
    return [part for part in parts if part is not None]


def _is_roi(name: str) -> bool:
    return name.lower().endswith(".roi") and not name.rsplit("/", 1)[-1].startswith(".")


def _roi(path: PathLike, data: bytes) -> tuple[Float64, Int64] | None:
    """Return the closed outlines of one region, None for points and lines."""
    import roifile

    if len(data) > _MAX_ROI_BYTES:
        raise InputError(f"{path}: a region of {len(data) >> 20} MiB is not an outline. Check it.")
    try:
        region = roifile.ImagejRoi.frombytes(data)
        kind = roifile.ROI_TYPE
        if region.composite:
            pieces = list(region.coordinates(multi=True))
        elif region.roitype in (kind.POLYGON, kind.FREEHAND, kind.TRACED):
            pieces = [np.asarray(region.coordinates())]
        elif region.roitype == kind.RECT:
            x0, y0, x1, y1 = region.left, region.top, region.right, region.bottom
            pieces = [np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])]
        elif region.roitype == kind.OVAL:
            turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
            middle = np.array([region.left + region.right, region.top + region.bottom]) / 2
            half = np.array([region.right - region.left, region.bottom - region.top]) / 2
            pieces = [middle + half * np.stack([np.cos(turn), np.sin(turn)], 1)]
        else:
            return None
        outlines = [finite(path, np.asarray(piece, np.float64).reshape(-1, 2)) for piece in pieces]
    except InputError:
        raise
    except Exception as error:  # corrupt or malicious bytes raise any error
        said = " ".join(str(error).split())[:120]
        raise InputError(
            f"{path}: not an ImageJ region ({said}). Export it from ImageJ's ROI manager again."
        ) from error
    outlines = [outline for outline in outlines if len(outline) >= 3]
    return ragged(outlines) if outlines else None

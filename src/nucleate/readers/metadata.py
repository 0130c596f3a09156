"""What files state about their pixels: micrometres per pixel."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from nucleate.errors import InputError

_OME_UNITS = {"µm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "Å": 1e-4}


def tiff_mpp(file: Any) -> float | None:  # noqa: ANN401
    """Return the resolution that the TIFF states, if it can be that of a microscope."""
    import re

    import tifffile

    page = file.pages[0]
    text = page.description or ""
    found = re.search(r"\bMPP\s*=\s*([0-9.]+)", text)  # Aperio
    if found:
        return plausible_mpp(found.group(1))
    if file.is_ome:
        metadata = tifffile.xml2dict(file.ome_metadata)
        image = metadata.get("OME", {}).get("Image", {})
        pixels = (image[0] if isinstance(image, list) else image).get("Pixels", {})
        unit = _OME_UNITS.get(str(pixels.get("PhysicalSizeXUnit", "µm")))
        size = pixels.get("PhysicalSizeX")
        return None if unit is None or size is None else plausible_mpp(float(size) * unit)
    tags = page.tags
    if "XResolution" in tags and "ResolutionUnit" in tags:
        numerator, denominator = tags["XResolution"].value
        per_unit = {2: 25_400.0, 3: 10_000.0}.get(int(tags["ResolutionUnit"].value))
        if per_unit and numerator:
            return plausible_mpp(per_unit * denominator / numerator)
    return None


def stated_tiff_mpp(path: Path) -> float | None:
    """Return the resolution that a TIFF file states; its pixels stay unread.

    Raises:
        InputError: the file is missing or damaged.
    """
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            return tiff_mpp(file)
    except Exception as error:  # parsers of hostile bytes raise anything; all mean the same
        raise InputError(
            f"{path}: cannot be read as TIFF ({first_line(error)}). "
            "The file is damaged or is not what its ending says: export it again."
        ) from error


def plausible_mpp(value: object) -> float | None:
    """Return `value` as micrometres per pixel if a microscope can have it (0.02 to 20), or None.

    Printers' and screens' resolutions (72 or 300 dots per inch) are 85 to 353 um and fall out.

    Example:
        >>> plausible_mpp("0.499"), plausible_mpp(25400 / 72)
        (0.499, None)
    """
    with contextlib.suppress(TypeError, ValueError):
        mpp = float(value)  # type: ignore[arg-type]
        if 0.02 <= mpp <= 20:
            return mpp
    return None


def first_line(error: Exception) -> str:
    """Return the first line of an exception, without object addresses, at most 120 characters."""
    import re

    text = (str(error).splitlines() or [""])[0] or type(error).__name__
    return re.sub(r"<[^>]* at 0x[0-9a-f]+>|<_io\.[^>]*>", "it", text)[:120].rstrip(".")

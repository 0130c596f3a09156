"""Read metadata about pixels: micrometres per pixel, significant bits, channel names."""

from __future__ import annotations

import contextlib
import re
import unicodedata
from pathlib import Path
from typing import Any

from nucleate.errors import InputError
from nucleate.readers.boundary import first_line, reading
from nucleate.resolution import SAME_MPP, plausible_mpp

__all__ = ["channel_names", "first_line", "main_series", "significant_bits",
           "square_mpp", "stated_tiff_mpp", "tiff_mpp", "tiff_resolution", "unit_um"]  # fmt: skip

_UNITS_UM = {  # NFKC maps the micro sign to Greek mu
    "\u03bcm": 1.0, "um": 1.0, "pm": 1e-6, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "dm": 1e5, "m": 1e6,
    "\u00e5": 1e-4, "in": 25_400.0, "thou": 25.4, "km": 1e9,
}  # fmt: skip
_WORDS_UM = {  # as in ImageJ and OME-Zarr
    "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0, "micrometers": 1.0,
    "nanometer": 1e-3, "nanometre": 1e-3, "millimeter": 1e3, "millimetre": 1e3,
    "centimeter": 1e4, "centimetre": 1e4, "meter": 1e6, "metre": 1e6, "picometer": 1e-6,
    "angstrom": 1e-4, "inch": 25_400.0, "inches": 25_400.0,
}  # fmt: skip
_TAG_UM = {2: 25_400.0, 3: 10_000.0}
_PRINT_DPI = (72, 96, 100, 120, 150, 180, 200, 240, 300, 360, 400, 600, 720, 1200, 1440, 2400)
_NO_LENGTHS = ("pixel", "reference frame")  # units of OME-XML that are not lengths
_MAX_XML = 64 << 20
_LEVEL = 0.05  # maximum relative difference in aspect ratio of a pyramid level


def unit_um(unit: object, words: bool = False) -> float | None:
    r"""Return a unit of length in micrometres, None if it is unknown.

    Args:
        unit: the unit as in the file; Greek mu and the micro sign are equivalent.
        words: whether to accept words, as in ImageJ and OME-Zarr; OME-XML has only symbols.

    Example:
        >>> unit_um("\u00b5m"), unit_um("\u03bcm"), unit_um("cm"), unit_um("micron")
        (1.0, 1.0, 10000.0, None)
        >>> unit_um("micron", words=True)
        1.0
    """
    text = str(unit).strip()
    if "\\u" in text:  # Java escape
        text = re.sub(r"\\u([0-9A-Fa-f]{4})", lambda m: chr(int(m.group(1), 16)), text)
    text = unicodedata.normalize("NFKC", text).lower()
    return _UNITS_UM.get(text, _WORDS_UM.get(text) if words else None)


def square_mpp(owner: object, x: float | None, y: float | None) -> float | None:
    """Return the resolution of square pixels.

    Args:
        owner: name for error messages.
        x: horizontal micrometres per pixel; None if not stated.
        y: vertical micrometres per pixel; None if not stated.

    Raises:
        InputError: both are stated and differ by more than 5 %.

    Example:
        >>> square_mpp("a", 0.25, 0.251), square_mpp("a", None, 0.25)
        (0.25, 0.25)
    """
    if x is not None and y is not None and abs(x / y - 1) > SAME_MPP:
        raise InputError(
            f"{owner}: its pixels are not square ({x:.4g} µm wide, {y:.4g} µm high), so that areas "
            "and shapes would be wrong. Resample it to square pixels, or correct its resolution."
        )
    return y if x is None else x


def tiff_mpp(file: Any, owner: object = "") -> float | None:  # noqa: ANN401
    """Return the resolution of a TIFF, None if it is not stated or not that of a microscope.

    Raises:
        InputError: its pixels are not square.
    """
    return tiff_resolution(file, owner)[0]


def tiff_resolution(
    file: Any,  # noqa: ANN401
    owner: object = "",
    page: Any = None,  # noqa: ANN401
) -> tuple[float | None, str]:
    """Return the resolution of a TIFF, and why a stated resolution is not used.

    Args:
        file: `tifffile.TiffFile`.
        owner: name for error messages.
        page: page to read; None for the first.

    Raises:
        InputError: its pixels are not square.
    """
    page = file.pages[0] if page is None else page
    text = page.description or ""
    found = re.search(r"\bMPP\s*=\s*([0-9.,]+)", text)  # Aperio
    if found:
        return plausible_mpp(found.group(1).replace(",", ".")), ""
    if file.is_ome:
        pixels = _ome_pixels(file)
        if {"PhysicalSizeX", "PhysicalSizeY"} & pixels.keys():
            return _ome_mpp(pixels, owner)
    return _tags_mpp(page, text, owner), ""


def _ome_pixels(file: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the `Pixels` attributes of the first image in OME-XML; empty if there is none."""
    import tifffile

    text = file.ome_metadata or ""
    if len(text) > _MAX_XML:
        return {}
    image = tifffile.xml2dict(text).get("OME", {}).get("Image", {})
    first = image[0] if isinstance(image, list) else image
    found = first.get("Pixels", {}) if isinstance(first, dict) else {}
    return found if isinstance(found, dict) else {}


def _ome_mpp(pixels: dict[str, Any], owner: object) -> tuple[float | None, str]:
    """Return the resolution in OME-XML, and why a stated resolution is not used."""
    sizes: list[float | None] = []
    for axis in "XY":
        size, unit = pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")
        factor = unit_um(unit)
        if factor is None and size is not None:
            if unit in _NO_LENGTHS:
                return None, ""
            return None, (
                f"its resolution is not used: {str(unit)[:40]!r} is not a unit of OME-XML, which "
                "uses µm"
            )
        known = None if size is None or factor is None else float(size) * factor
        sizes.append(plausible_mpp(known))
    return square_mpp(owner, *sizes), ""


def main_series(file: Any) -> tuple[Any, str]:  # noqa: ANN401
    """Return the main image of a TIFF file, and a note if it contains unrelated images.

    The main image is the largest, or the first of several: thumbnails, labels and macro images are
    smaller.
    """
    every = list(file.series)
    if len(every) == 1:
        return every[0], ""
    sizes = [int(s.keyframe.imagewidth) * int(s.keyframe.imagelength) for s in every]
    main = every[sizes.index(max(sizes))]
    page = main.keyframe

    def is_copy(other: Any) -> bool:  # noqa: ANN401
        wide, high = other.imagewidth * page.imagelength, other.imagelength * page.imagewidth
        return bool(other.is_reduced) or abs(wide / high - 1) <= _LEVEL

    others = [s for s in every if s is not main and not is_copy(s.keyframe)]
    if not others:
        return main, ""
    return main, (
        f"contains {len(others) + 1} images: the {'first' if main is every[0] else 'largest'}, of "
        f"{page.imagewidth} × {page.imagelength} pixels, is read"
    )


def _tags_mpp(page: Any, text: str, owner: object) -> float | None:  # noqa: ANN401
    """Return the resolution in the tags of a page; ImageJ puts their unit in the description."""
    tags = page.tags
    if "XResolution" not in tags:
        return None
    code = int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 2
    per_unit = _TAG_UM.get(code) if "ResolutionUnit" in tags else None
    if text.startswith("ImageJ="):
        named = re.search(r"^unit=(.+)$", text, re.MULTILINE)
        per_unit = unit_um(named.group(1), words=True) if named else per_unit
    if per_unit is None:
        return None
    sizes = [_tag_mpp(tags.get(f"{axis}Resolution"), per_unit) for axis in "XY"]
    return square_mpp(owner, *sizes)


def _tag_mpp(tag: Any, per_unit: float) -> float | None:  # noqa: ANN401
    """Return micrometres per pixel from a tag; None for resolutions of printers and screens."""
    if tag is None:
        return None
    value = tag.value
    top, bottom = value if isinstance(value, tuple) and len(value) == 2 else (value, 1)
    if not top or not bottom:
        return None
    per = top / bottom
    dpi = per * 25_400 / per_unit if per_unit in (10_000.0, 25_400.0) else 0.0
    printed = any(abs(dpi - known) < 0.5 for known in _PRINT_DPI)
    return (
        None
        if printed or (per_unit == 10_000.0 and per in _PRINT_DPI)
        else plausible_mpp(per_unit / per)
    )


def significant_bits(file: Any) -> int | None:  # noqa: ANN401
    """Return the number of significant bits stated by a TIFF file; None if not stated.

    Read from SignificantBits in OME-XML, or from the tag MaxSampleValue.
    """
    with contextlib.suppress(Exception):  # damaged metadata
        if file.is_ome:
            stated = _ome_pixels(file).get("SignificantBits")
            if stated is not None:
                return int(stated)
        tag = file.pages[0].tags.get("MaxSampleValue")
        if tag is not None:
            return int(max(tag.value) if isinstance(tag.value, tuple) else tag.value).bit_length()
    return None


def channel_names(file: Any) -> tuple[str, ...]:  # noqa: ANN401
    """Return the channel names of a TIFF file; empty if it has none.

    Read from OME-XML (name, dye or wavelength), ImageJ or QPTIFF.
    """
    with contextlib.suppress(Exception):  # damaged metadata
        if file.is_ome:
            listed = _ome_pixels(file).get("Channel", [])
            channels = listed if isinstance(listed, list) else [listed]
            return tuple(_channel_name(channel) for channel in channels)
        if file.is_imagej:
            return tuple(map(str, (file.imagej_metadata or {}).get("Labels", ())))
        found = [
            re.search(r"<Name>([^<]{1,80})</Name>", p.description or "") for p in file.pages[:4]
        ]
        if any(found):
            return tuple("" if one is None else one.group(1) for one in found)
    return ()


def _channel_name(channel: dict[str, Any]) -> str:
    """Return the name of a channel in OME-XML, else its dye, else its wavelength."""
    if str(channel.get("ContrastMethod", "")).lower() == "brightfield":
        return ""
    wavelength = channel.get("EmissionWavelength")
    known = channel.get("Name") or channel.get("Fluor")
    return str(known or (f"emission {wavelength}" if wavelength else ""))


def stated_tiff_mpp(path: Path) -> float | None:
    """Return the resolution of a TIFF file without reading its pixels.

    Raises:
        InputError: the file is missing or damaged, or its pixels are not square.
    """
    import tifffile

    with reading(path, "TIFF"), tifffile.TiffFile(path) as file:
        return tiff_resolution(file, path, main_series(file)[0].keyframe)[0]

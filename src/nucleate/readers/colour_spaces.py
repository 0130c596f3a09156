"""Convert CMYK, Lab and colours with an ICC profile to sRGB, in strips of rows."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nucleate.errors import InputError
from nucleate.types import UInt8

_STRIP = 1 << 18  # pixels converted at a time
_DISPLAYS = ("mntr", "spac")  # profile classes of displays and editing spaces
_SAME = 3  # profiles that differ from sRGB by at most this many levels are sRGB
_WHITE_D50 = np.array((0.96422, 1.0, 0.82521), np.float32)
_XYZ_TO_RGB = np.array(  # from D50, with Bradford adaptation, to linear sRGB of D65
    (
        (3.1338561, -1.6168667, -0.4906146),
        (-0.9787684, 1.9161415, 0.0334540),
        (0.0719453, -0.2289914, 1.4052427),
    ),
    np.float32,
)


def from_inks(
    owner: object, pixels: NDArray[Any], profile: object = None
) -> tuple[UInt8, tuple[str, ...]]:
    """Convert cyan, magenta, yellow and black to sRGB, in place if possible.

    The embedded profile is used; without one, inks are treated as ideal filters.

    Args:
        owner: name for error messages.
        pixels: uint8 or uint16 (H, W, 4); the largest value is full ink.
        profile: ICC profile of the inks, as bytes; None if there is none.

    Returns:
        uint8 (H, W, 3), and notes.

    Raises:
        InputError: not four channels of 8 or 16 bits.

    Example:
        >>> from_inks("a", np.array([[[0, 0, 0, 0], [0, 255, 255, 0]]], np.uint8))[0].tolist()
        [[[255, 255, 255], [255, 0, 0]]]
    """
    _check(owner, pixels, 4, "CMYK")
    change = _to_srgb(profile, "CMYK")

    def ideal(part: NDArray[Any]) -> NDArray[Any]:
        inks = part.astype(np.float32) / np.float32(255)
        return np.rint(255 * (1 - inks[..., :3]) * (1 - inks[..., 3:]))

    rgb = _strips(_eight(pixels), change or ideal)
    how = "without a colour profile" if change is None else "with its colour profile"
    return rgb, (f"its inks (CMYK) are converted to RGB {how}",)


def from_lab(owner: object, pixels: NDArray[Any], signed: bool) -> tuple[UInt8, tuple[str, ...]]:
    """Convert CIE L*a*b* (white point D50) to sRGB.

    Args:
        owner: name for error messages.
        pixels: uint8 or uint16 (H, W, 3).
        signed: whether a* and b* are signed, as in TIFF's CIELab; else they have an offset, as in
            ICCLab.

    Returns:
        uint8 (H, W, 3), and notes.

    Raises:
        InputError: not three values of 8 or 16 bits.

    References:
        TIFF revision 6.0, section 23, and Adobe's PageMaker 6 notes; IEC 61966-2-1 (sRGB).

    Example:
        >>> from_lab("a", np.array([[[255, 0, 0], [138, 81, 70]]], np.uint8), True)[0].tolist()
        [[[255, 255, 255], [255, 0, 0]]]
    """
    _check(owner, pixels, 3, "Lab")
    step = 1 if pixels.dtype == np.uint8 else 256
    full = 255.0 if step == 1 else (65535.0 if signed else 65280.0)

    def converted(part: NDArray[Any]) -> NDArray[Any]:
        light = part[..., 0].astype(np.float32) * np.float32(100 / full)
        if signed:
            ab = part[..., 1:].astype(np.int8 if step == 1 else np.int16).astype(np.float32) / step
        else:
            ab = part[..., 1:].astype(np.float32) / step - 128
        y = (light + 16) / 116
        root = np.stack([y + ab[..., 0] / 500, y, y - ab[..., 1] / 200], -1)
        xyz = np.where(root > 6 / 29, root**3, (root - 4 / 29) * (108 / 841)) * _WHITE_D50
        linear = np.clip(xyz @ _XYZ_TO_RGB.T, 0, 1)
        bent = 1.055 * np.power(linear, 1 / 2.4) - 0.055
        return np.asarray(np.rint(255 * np.where(linear > 0.0031308, bent, 12.92 * linear)))

    return _strips(pixels, converted), ("its colours (Lab) are converted to sRGB",)


def from_profile(pixels: UInt8, profile: object) -> tuple[UInt8, tuple[str, ...]]:
    """Convert colours to sRGB if their profile is that of a display or an editing space.

    Profiles of scanners and cameras are not applied: models are trained on pixels as stored.

    Args:
        pixels: uint8 (H, W, 3).
        profile: ICC profile of the pixels, as bytes; None if there is none.

    Returns:
        uint8 (H, W, 3), and notes; unchanged and without notes if the profile is sRGB.
    """
    if not isinstance(profile, bytes) or not profile:
        return pixels, ()
    name, kind = _name_kind(profile)
    change = _to_srgb(profile, "RGB") if kind in _DISPLAYS else None
    if change is None:
        return pixels, profile_notes(profile)
    levels = np.array((0, 32, 96, 160, 224, 255), np.uint8)
    some = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
    if np.abs(change(some).astype(int) - some).max() <= _SAME:
        return pixels, ()
    return _strips(pixels, change), (f"its colours are converted to sRGB from {name}",)


def profile_notes(profile: object) -> tuple[str, ...]:
    """Return a note about a colour profile other than sRGB that is not applied."""
    if not isinstance(profile, bytes) or not profile:
        return ()
    name, _ = _name_kind(profile)
    return () if "srgb" in name.lower() else (f"its colour profile ({name}) is not applied",)


def _name_kind(profile: bytes) -> tuple[str, str]:
    """Return the name of a profile, and its class: mntr, scnr, prtr, spac, …; "" if damaged."""
    with contextlib.suppress(Exception):  # damaged profile
        from PIL import ImageCms

        known = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = " ".join(ImageCms.getProfileDescription(known).split())[:60]
        return name or "without a name", str(known.profile.device_class).strip()
    return "without a name", ""


def _to_srgb(profile: object, mode: str) -> Any:  # noqa: ANN401
    """Return a function that converts (h, w, c) bytes of a PIL mode to sRGB; None if impossible."""
    if not isinstance(profile, bytes) or not profile:
        return None
    with contextlib.suppress(Exception):  # damaged, or a profile of another space
        from PIL import Image, ImageCms

        known = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if str(known.profile.xcolor_space).strip() != mode:
            return None
        wanted = ImageCms.createProfile("sRGB")
        change = ImageCms.buildTransform(known, wanted, mode, "RGB")

        def converted(part: NDArray[Any]) -> NDArray[Any]:
            size = part.shape[1], part.shape[0]
            image = Image.frombytes(mode, size, np.ascontiguousarray(part).tobytes())
            return np.asarray(ImageCms.applyTransform(image, change))

        return converted
    return None


def _check(owner: object, pixels: NDArray[Any], channels: int, what: str) -> None:
    """Raise an `InputError` for another number or depth of channels."""
    if pixels.ndim != 3 or pixels.shape[2] != channels or pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"{owner}: contains {what} as {pixels.dtype} {pixels.shape}, not {channels} values of "
            "8 or 16 bits per pixel. Export it as RGB."
        )


def _eight(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert 16-bit values to 8 bits; return 8-bit values unchanged."""
    if pixels.dtype == np.uint8:
        return pixels
    return np.asarray(pixels >> 8, np.uint8)


def _strips(pixels: NDArray[Any], change: Any) -> UInt8:  # noqa: ANN401
    """Apply a function (h, w, c) -> (h, w, 3) strip by strip, in the memory of the pixels."""
    height, width = pixels.shape[:2]
    if pixels.flags.c_contiguous and pixels.flags.writeable:
        raw = pixels.reshape(-1).view(np.uint8)  # a row of the result ends before the next begins
        out = raw[: height * width * 3].reshape(height, width, 3)
    else:
        out = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP // max(width, 1))
    for top in range(0, height, rows):
        out[top : top + rows] = change(pixels[top : top + rows]).astype(np.uint8)
    return out

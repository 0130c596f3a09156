"""Identify the format of a file by its first bytes, because its ending may be wrong."""

from __future__ import annotations

from pathlib import PurePath

PILLOW = {  # Pillow's name -> first bytes
    "PNG": b"\x89PNG\r\n\x1a\n",
    "JPEG": b"\xff\xd8\xff",
    "BMP": b"BM",
}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NAMED = (  # first bytes, name and remedy of formats that are not supported
    (b"GIF8", "GIF image", "png"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000 image", "png"),
    (b"\xff\x4f\xff\x51", "JPEG 2000 image", "png"),
    (b"\0\0\0\x0cJXL ", "JPEG XL image", "png"),
    (b"\xff\x0a", "JPEG XL image", "png"),
    (b"II\xbc", "JPEG XR image", "png"),
    (b"8BPS", "Photoshop document", "png"),
    (b"\x76\x2f\x31\x01", "OpenEXR image", "png"),
    (b"%PDF", "PDF document", "png"),
    (b"ZISRAWFILE", "CZI slide of Zeiss", "tiff"),
    (b"\xda\xce\xbe\x0a", "ND2 image of Nikon", "tiff"),
    (b"\x70\0\0\0", "LIF image of Leica", "tiff"),
    (b"\xd0\xcf\x11\xe0", "compound file (OIB of Olympus, or ZVI of Zeiss)", "tiff"),
    (b"\x89HDF", "HDF5 file", "tiff"),
    (b"KFB", "KFB slide of KFBio", "tiff"),
    (b"PK\x03\x04", "zip archive", "unpack"),
    (b"\x1f\x8b", "gzip archive", "unpack"),
    (b"Rar!", "RAR archive", "unpack"),
    (b"7z\xbc\xaf", "7-Zip archive", "unpack"),
    (b"version https://git-lfs", "pointer of Git LFS", "lfs"),
    (b"<!DOCTYPE", "web page", "page"),
    (b"<!doctype", "web page", "page"),
    (b"<html", "web page", "page"),
    (b"<svg", "SVG drawing", "png"),
)
_BRANDS = {  # of ISO media files
    b"heic": "HEIC", b"heix": "HEIC", b"heim": "HEIC", b"hevc": "HEIC", b"hevx": "HEIC",
    b"mif1": "HEIF", b"msf1": "HEIF", b"avif": "AVIF", b"avis": "AVIF",
}  # fmt: skip
_FOREIGN = {  # ending -> name of formats that other programs can convert
    ".czi": "CZI slide of Zeiss", ".zvi": "ZVI image of Zeiss", ".lsm": "LSM image of Zeiss",
    ".vsi": "VSI slide of Olympus", ".ets": "part of a VSI slide of Olympus",
    ".oib": "OIB image of Olympus", ".oif": "OIF image of Olympus", ".oir": "OIR image of Olympus",
    ".isyntax": "iSyntax slide of Philips", ".i2syntax": "iSyntax slide of Philips",
    ".kfb": "KFB slide of KFBio", ".kfbf": "KFB slide of KFBio",
    ".sdpc": "SDPC slide of SQRAY", ".dyqx": "SDPC slide of SQRAY", ".tmap": "TMAP slide of UNIC",
    ".mdsx": "MDSX slide of Motic", ".mds": "MDS slide of Motic", ".jp2": "JPEG 2000 image",
    ".lif": "LIF image of Leica", ".lof": "LOF image of Leica", ".nd2": "ND2 image of Nikon",
    ".ims": "IMS image of Imaris", ".h5": "HDF5 file", ".hdf5": "HDF5 file",
    ".jpx": "JPEG 2000 image", ".j2k": "JPEG 2000 image", ".jxl": "JPEG XL image",
    ".heic": "HEIC image", ".heif": "HEIF image", ".avif": "AVIF image", ".gif": "GIF image",
    ".psd": "Photoshop document", ".pdf": "PDF document", ".dzi": "Deep Zoom index",
}  # fmt: skip
_OWN_TOOL = {  # formats that Bio-Formats does not read
    "isyntax": "isyntax2raw, or QuPath from version 0.6 on", "kfb": "KFBio's own converter",
    "sdpc": "opensdpc", "tmap": "UNIC's own converter", "mds": "Motic's own converter",
}  # fmt: skip
_VOWELS = ("A", "E", "I", "O", "HDF5", "LIF", "LSM", "LOF", "ND2", "MD", "SDPC", "SVG")  # as spoken
_REMEDIES = {
    "png": "Convert it to PNG.",
    "unpack": "Unpack it first.",
    "lfs": "Fetch the file itself with git lfs pull.",
    "page": "Download the file itself: the address may need a login.",
}


def format_of(head: bytes) -> str | None:
    """Return the format of a supported image file; None for any other file.

    Args:
        head: first bytes of the file, at least 16.

    Returns:
        PNG, JPEG, BMP, WEBP, TIFF or NPY.

    Example:
        >>> format_of(bytes([255, 216, 255, 224]) + bytes(12)), format_of(b"GIF89a" + bytes(10))
        ('JPEG', None)
    """
    if head[:4] in _TIFF:
        return "TIFF"
    if head[:6] == b"\x93NUMPY":
        return "NPY"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    return next((name for name, first in PILLOW.items() if head.startswith(first)), None)


def not_read(head: bytes) -> str | None:
    """Return a message about an unsupported format, by the first bytes of a file; else None.

    Example:
        >>> not_read(b"GIF89a" + bytes(10))
        'is a GIF image, which nucleate does not read. Convert it to PNG.'
    """
    name, remedy = None, "png"
    if head[4:8] == b"ftyp" and head[8:12] in _BRANDS:
        name = f"{_BRANDS[head[8:12]]} image"
    for first, what, how in _NAMED:
        if head.startswith(first):
            name, remedy = what, how
    return None if name is None else _sentence(name, remedy, "")


def foreign(path: PurePath) -> str | None:
    """Return a message about an unsupported format, by the ending of a file; else None.

    Example:
        >>> from pathlib import Path
        >>> foreign(Path("a.czi"))
        'is a CZI slide of Zeiss, which nucleate does not read. Convert it with bioformats2raw or \
QuPath to OME-TIFF or OME-Zarr.'
    """
    suffix = path.suffix.lower()
    name = _FOREIGN.get(suffix)
    if name is None:
        return None
    return _sentence(name, "tiff" if _needs_program(name) else "png", suffix)


def _needs_program(name: str) -> bool:
    """Return whether a format needs a microscopy program to convert it."""
    return not name.startswith(("JPEG", "HE", "AV", "GIF", "Photoshop", "PDF"))


def _sentence(name: str, remedy: str, suffix: str) -> str:
    """Return a message with the format of a file and a remedy."""
    article = "an" if name.startswith(_VOWELS) else "a"
    if remedy == "tiff":
        own = next((tool for key, tool in _OWN_TOOL.items() if key in suffix), None)
        if own is None and name.startswith("KFB"):
            own = _OWN_TOOL["kfb"]
        how = f"Convert it with {own or 'bioformats2raw or QuPath'} to OME-TIFF or OME-Zarr."
    else:
        how = _REMEDIES[remedy]
    return f"is {article} {name}, which nucleate does not read. {how}"

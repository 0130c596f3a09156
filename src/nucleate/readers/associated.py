"""Read what a slide contains besides its pixels: label, macro, scanner metadata, colour profile.

These are kept separate: a label may name the patient, and applying a profile would give pixels
that differ from those on which the model was trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nucleate.readers.boundary import reading
from nucleate.readers.opening import open_source
from nucleate.readers.openslide import OpenSlideSource
from nucleate.readers.source import Source
from nucleate.types import UInt8


@dataclass(frozen=True, slots=True)
class Extras:
    """Contents of a slide besides its pixels.

    Attributes:
        source: the slide itself.
        associated: name (label, macro, thumbnail, …) -> uint8 (H, W, 3).
        metadata: metadata of the scanner, unchanged.
        icc: ICC profile of the pixels, unchanged; None if there is none.
    """

    source: Source
    associated: dict[str, UInt8]
    metadata: dict[str, str]
    icc: bytes | None


def read_extras(path: Path) -> Extras:
    """Read the contents of an image or slide besides its pixels.

    Raises:
        InputError: the file cannot be opened.
    """
    source = open_source(path)
    if isinstance(source, OpenSlideSource):
        return _of_openslide(path, source)
    if path.suffix.lower() in (".tif", ".tiff"):
        return _of_tiff(path, source)
    return Extras(source, {}, {}, None)


def _of_openslide(path: Path, source: Source) -> Extras:
    import openslide

    with openslide.OpenSlide(str(path)) as slide:
        images: dict[str, UInt8] = {}
        for name in slide.associated_images:
            try:
                images[name] = np.asarray(slide.associated_images[name].convert("RGB"))
            except openslide.OpenSlideError:
                continue  # omit images that cannot be read
        profile = slide.color_profile
        icc = None if profile is None else bytes(profile.tobytes())
        return Extras(source, images, dict(slide.properties), icc)


def _of_tiff(path: Path, source: Source) -> Extras:
    import tifffile

    with reading(path, "TIFF"), tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        metadata = {tag.name: str(tag.value)[:1000] for tag in page.tags if tag.count < 1000}
        profile = page.tags.get("InterColorProfile")
        icc = profile.value if profile is not None and isinstance(profile.value, bytes) else None
    return Extras(source, {}, metadata, icc)

"""What a slide contains besides its pixels: label, macro, scanner facts, colour profile.

It is kept apart: a label may name the patient, and a profile that is applied to the pixels makes
others of them than the model has learnt from.
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
    """What stands beside the pixels of a slide.

    Attributes:
        source: the slide itself.
        associated: name (label, macro, thumbnail, …) -> uint8 (H, W, 3).
        metadata: what the scanner states, as it states it.
        icc: the colour profile of the pixels, as it stands in the file; None without one.
    """

    source: Source
    associated: dict[str, UInt8]
    metadata: dict[str, str]
    icc: bytes | None


def read_extras(path: Path) -> Extras:
    """Return what an image or slide contains besides its pixels.

    Raises:
        InputError: it cannot be opened.
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
                continue  # a label that cannot be read is none
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

"""COCO JSON of instances with images beside it, as most annotation tools export it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from nucleate.annotations.coco import (
    CocoFile,
    CocoImage,
    crowds_are_nuclei,
    draw_coco,
    image_name,
    is_crowd,
    plain_path,
)
from nucleate.annotations.outline_file import kind_of_json_bytes
from nucleate.annotations.tool_json import LABELME, joined, read_annotations
from nucleate.datasets.base import DatasetCard, Entry, endings_seen, open_root
from nucleate.datasets.grouping import grouping
from nucleate.datasets.test_sets import is_official_test
from nucleate.errors import ConfigError, InputError
from nucleate.files import PathLike, read_bytes
from nucleate.folders import folded, walk
from nucleate.readers.images import read_image
from nucleate.resolution import plausible_mpp, resolve_mpp
from nucleate.types import Sample

CARD = DatasetCard(
    title="COCO JSON",
    contents="Images and one JSON file of instances: polygons or run lengths, crowd regions as "
    "ignored areas. Also JSON of Label Studio, of VIA, and of labelme (one per image).",
    licence="yours",
    citation="Lin et al. 2014, doi:10.1007/978-3-319-10602-1_48 (the format)",
    where="Export COCO instances from your annotation tool; put the JSON file beside the images.",
    overlaps="the earlier annotation keeps the pixel",
)

_PLACES = ("", "images/", "../images/")


def entries(
    root: Path,
    annotations: str | None = None,
    mpp: float | None = None,
    group: str | None = None,
    override_mpp: bool = False,
    crowds: str = "auto",
) -> list[Entry]:
    """Return the images of a COCO file.

    Args:
        root: folder or zip file with one `.json` file, with several of which `annotations` names
            one, or with one of labelme per image; images are beside it, in `images/` beside it, or
            in `../images/`.
        annotations: path of the JSON file below `root`.
        mpp: micrometres per pixel; None uses the record's `mpp`, else that of the image file.
        group: regular expression whose first group, searched in the name, is the patient. None
            uses the record's `group`, else the patient of a TCGA barcode or the source of copies
            made by Roboflow, else each image is its own group.
        override_mpp: let `mpp` replace a different value of a record or image.
        crowds: treatment of annotations with `iscrowd`: ignore (ignored areas), nuclei, or auto
            (decided from their masks).

    Returns:
        One entry per image, sorted by name: its file name without suffix.

    Raises:
        InputError: no JSON file, not COCO, or an image is missing or listed twice.
        ConfigError: `group` is not a regular expression with one group, or does not match a name;
            unknown `crowds`.
    """
    if crowds not in ("auto", "ignore", "nuclei"):
        raise ConfigError(f"crowds = {crowds!r}: unknown value. Use auto, ignore or nuclei.")
    base = open_root(root)
    files = dict(walk(base))
    names = [name for name in files if name.lower().endswith(".json")]
    if annotations is not None:
        names = [name for name in names if name == annotations]
    if not names:
        seen = endings_seen(list(files), (".json",))
        raise InputError(f"{root}: contains no COCO file. {seen}{CARD.where}")
    content, folders = _read(root, {name: files[name] for name in names})
    drawing = _drawing(content, crowds)
    find = grouping(group)
    settle = partial(resolve_mpp, given=mpp, override=override_mpp)
    found: dict[str, Entry] = {}
    names = [image_name(str(image.record["file_name"])) for image in content.images]
    if len(set(names)) < len(names) and len(set(folders)) > 1:  # one file per image, in folders
        names = [str(folder / name) for folder, name in zip(folders, names, strict=True)]
    for image, folder, name in zip(content.images, folders, names, strict=True):
        file = _file_of(files, folder, image, root)
        if name in found:
            raise InputError(f"{root}: two images have the name {name!r}. Rename one of them.")
        stated = image.record.get("group")
        owner = find(name) if group is not None or not stated else str(stated)
        organ = image.record.get("organ")
        read = _reader(name, owner, file, (image, content, drawing), settle)
        found[name] = Entry(
            name, owner, read, None if organ is None else str(organ), is_official_test(name)
        )
    if not found:
        raise InputError(f"{root}: the COCO file contains no image. Export it again.")
    return [found[name] for name in sorted(found)]


def _read(root: Path, found: dict[str, PathLike]) -> tuple[CocoFile, list[PurePosixPath]]:
    """Read the annotation files; return also the folder of the file that lists each image.

    Raises:
        InputError: several files that are not the one file per image of labelme.
    """
    if len(found) > 1:
        kinds = {name: kind_of_json_bytes(read_bytes(file)) for name, file in found.items()}
        strange = next((n for n, kind in kinds.items() if kind not in ("", "a COCO file")), None)
        if set(kinds.values()) == {LABELME}:
            read = {name: read_annotations(file) for name, file in found.items()}
            folders = [PurePosixPath(n).parent for n, file in read.items() for _ in file.images]
            return joined(read.values()), folders
        if strange is not None:
            raise InputError(
                f"{root}: contains {len(found)} .json files; {strange} is {kinds[strange]}, not "
                "COCO. Convert them to one COCO file, or choose one with the option annotations."
            )
        raise InputError(
            f"{root}: contains {len(found)} possible COCO files ({', '.join(list(found)[:5])}). "
            "Choose one with the option annotations."
        )
    name, file = next(iter(found.items()))
    content = read_annotations(file)
    return content, [PurePosixPath(name).parent] * len(content.images)


def _file_of(
    files: dict[str, PathLike], folder: PurePosixPath, image: CocoImage, root: Path
) -> PathLike:
    """Return the file of an image, or the image embedded in its annotation."""
    try:
        return _locate(files, folder, str(image.record["file_name"]), root)
    except InputError:
        if image.embedded is None:
            raise
        return image.embedded


def _drawing(content: CocoFile, crowds: str) -> tuple[bool, str]:
    """Return whether crowd regions are nuclei, and a message about them."""
    return crowds_are_nuclei(content) if crowds == "auto" else (crowds == "nuclei", "")


def _locate(
    files: dict[str, PathLike], folder: PurePosixPath, file_name: str, root: Path
) -> PathLike:
    """Find the file of an image below the root.

    The exact path is tried first, then the file that shares the longest end of the path, regardless
    of case and Unicode form, then the name without the prefix that Label Studio adds.
    """
    raw = PurePosixPath(file_name.replace("\\", "/"))
    beside = posixpath.normpath(folder / raw)
    if beside in files:
        return files[beside]
    wanted = plain_path(file_name)
    for path in (raw, wanted):
        for place in _PLACES:
            above = folder.parent / "images" if place == "../images/" else folder / place
            if str(above / path) in files:
                return files[str(above / path)]
    tails = ["/".join(wanted.parts[i:]) for i in range(len(wanted.parts))]
    short = re.sub(r"^[0-9a-f]{8}-", "", wanted.name)
    for tail in [*tails, *([short] if short != wanted.name else [])]:
        found = [name for name in files if folded(f"/{name}").endswith(folded(f"/{tail}"))]
        if len(found) > 1:
            raise InputError(
                f"{root}: {len(found)} files match the image {file_name[:200]!r} of the COCO file "
                f"({', '.join(found[:3])}). Write its path relative to the JSON file."
            )
        if found:
            return files[found[0]]
    raise InputError(
        f"{root}: the image {file_name[:200]!r} of the COCO file is missing. Put it beside the "
        "JSON file or into images/."
    )


def _reader(
    name: str,
    group: str,
    file: PathLike,
    annotated: tuple[CocoImage, CocoFile, tuple[bool, str]],
    settle: Callable[[str, float | None], float | None],
) -> Callable[[], Sample]:
    image, content, (crowds_count, crowd_note) = annotated
    record: dict[str, Any] = image.record

    def read() -> Sample:
        pixels, stated = read_image(file)
        if record["height"] is None or record["width"] is None:  # labelme and VIA
            record.update(height=pixels.shape[0], width=pixels.shape[1])
        size = (int(record["height"]), int(record["width"]))
        if size != pixels.shape[:2]:
            raise InputError(
                f"{file}: is {pixels.shape[1]} × {pixels.shape[0]} pixels, the COCO file states "
                f"{size[1]} × {size[0]}. Export the images and the COCO file together."
            )
        labels, classes, ignore, drawn = draw_coco(name, image, content.position_of, crowds_count)
        drawn = replace(drawn, problems=(*image.problems, *drawn.problems))
        if crowd_note and any(is_crowd(a) for a in image.annotations):
            if crowds_count or not drawn.outlines:
                drawn = replace(drawn, problems=(*drawn.problems, crowd_note))
            else:
                drawn = replace(drawn, notes=(*drawn.notes, crowd_note))
        written = plausible_mpp(record.get("mpp"))
        return Sample(
            image=pixels,
            labels=labels,
            name=name,
            group=group,
            mpp=settle(name, stated if written is None else written),
            classes=classes,
            class_names=content.categories,
            ignore=ignore,
            organ=_text(record, "organ"),
            species=_text(record, "species"),
            centre=_text(record, "centre"),
            drawn=drawn,
        )

    return read


def _text(record: dict[str, Any], key: str) -> str | None:
    value = record.get(key)
    return None if value is None else str(value)

"""COCO JSON of instances with the images beside it: what most annotation tools export."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from nucleate.annotations.coco import (
    CocoFile,
    CocoPicture,
    crowds_are_nuclei,
    draw_coco,
    is_crowd,
    picture_name,
    plain_path,
    read_coco,
)
from nucleate.annotations.outline_file import kind_of_json_bytes
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
    "areas that do not count.",
    licence="yours",
    citation="Lin et al. 2014, doi:10.1007/978-3-319-10602-1_48 (the format)",
    where="Export COCO instances from your annotation tool; put the JSON file beside the images.",
    overlaps="the earlier annotation keeps it",
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
        root: folder or zip file with one `.json` file, or with several of which `annotations`
            names one; images are beside it, in `images/` beside it, or in `../images/`.
        annotations: path of the JSON file below `root`.
        mpp: micrometres per pixel; None takes the record's `mpp`, else what the image states.
        group: regular expression whose first group, searched in the name, is the patient; None
            takes the record's `group`, else the patient of a TCGA barcode or the source of
            Roboflow's copies, else makes every image its own group.
        override_mpp: whether `mpp` counts although a record or an image states another value.
        crowds: ignore, where annotations with `iscrowd` are areas that do not count; nuclei, where
            they are nuclei; auto sees it from their masks.

    Returns:
        One entry per image, sorted by name: its file name without ending.

    Raises:
        InputError: no JSON file, not COCO, or an image is missing or listed twice.
        ConfigError: `group` is no regular expression with one group, or does not match a name;
            unknown `crowds`.
    """
    if crowds not in ("auto", "ignore", "nuclei"):
        raise ConfigError(f"crowds = {crowds!r}: is unknown. Use auto, ignore or nuclei.")
    base = open_root(root)
    files = dict(walk(base))
    names = [name for name in files if name.lower().endswith(".json")]
    if annotations is not None:
        names = [name for name in names if name == annotations]
    if not names:
        seen = endings_seen(list(files), (".json",))
        raise InputError(f"{root}: contains no COCO file. {seen}{CARD.where}")
    if len(names) > 1:
        kind = kind_of_json_bytes(read_bytes(files[names[0]]))
        if kind not in ("", "a COCO file"):
            raise InputError(
                f"{root}: contains {len(names)} .json files; {names[0]} is {kind}, not COCO. "
                "Convert them to one COCO file, or name one by the option annotations."
            )
        raise InputError(
            f"{root}: contains {len(names)} files that may be COCO ({', '.join(names[:5])}). Name "
            "one by the option annotations."
        )
    content = read_coco(files[names[0]])
    drawing = _drawing(content, crowds)
    folder = PurePosixPath(names[0]).parent
    find = grouping(group)
    settle = partial(resolve_mpp, given=mpp, override=override_mpp)
    found: dict[str, Entry] = {}
    for picture in content.pictures:
        file_name = str(picture.record["file_name"])
        file = _locate(files, folder, file_name, root)
        name = picture_name(file_name)
        if name in found:
            raise InputError(f"{root}: two images are named {name!r}. Rename one of them.")
        stated = picture.record.get("group")
        owner = find(name) if group is not None or not stated else str(stated)
        organ = picture.record.get("organ")
        read = _reader(name, owner, file, (picture, content, drawing), settle)
        found[name] = Entry(
            name, owner, read, None if organ is None else str(organ), is_official_test(name)
        )
    if not found:
        raise InputError(f"{root}: the COCO file contains no image. Export it again.")
    return [found[name] for name in sorted(found)]


def _drawing(content: CocoFile, crowds: str) -> tuple[bool, str]:
    """Return whether crowd regions are nuclei, and what to say about them."""
    return crowds_are_nuclei(content) if crowds == "auto" else (crowds == "nuclei", "")


def _locate(
    files: dict[str, PathLike], folder: PurePosixPath, file_name: str, root: Path
) -> PathLike:
    """Return the file of an image; it must be below the root.

    The path counts as it is written; else the file whose path has the longest common end with it,
    in any case and Unicode form; at last without the prefix that Label Studio puts before a name.
    """
    raw = PurePosixPath(file_name.replace("\\", "/"))
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
                f"{root}: {len(found)} files may be the image {file_name[:200]!r} of the COCO "
                f"file ({', '.join(found[:3])}). Write its path as it is beside the JSON file."
            )
        if found:
            return files[found[0]]
    raise InputError(
        f"{root}: the image {file_name[:200]!r} of the COCO file is not there. Put it beside the "
        "JSON file, or into images/."
    )


def _reader(
    name: str,
    group: str,
    file: PathLike,
    annotated: tuple[CocoPicture, CocoFile, tuple[bool, str]],
    settle: Callable[[str, float | None], float | None],
) -> Callable[[], Sample]:
    picture, content, (crowds_count, told) = annotated
    record: dict[str, Any] = picture.record

    def read() -> Sample:
        pixels, stated = read_image(file)
        size = (int(record["height"]), int(record["width"]))
        if size != pixels.shape[:2]:
            raise InputError(
                f"{file}: is {pixels.shape[1]} × {pixels.shape[0]} pixels, the COCO file states "
                f"{size[1]} × {size[0]}. Export both together."
            )
        labels, classes, ignore, drawn = draw_coco(name, picture, content.position_of, crowds_count)
        if told and any(is_crowd(a) for a in picture.annotations):
            if crowds_count or not drawn.outlines:
                drawn = replace(drawn, problems=(*drawn.problems, told))
            else:
                drawn = replace(drawn, notes=(*drawn.notes, told))
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

"""COCO JSON of instances with the pictures beside it: what most annotation tools export."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from nucleate.annotations.coco import CocoPicture, draw_coco, read_coco
from nucleate.datasets.base import DatasetCard, Entry, open_root
from nucleate.datasets.grouping import grouping
from nucleate.datasets.test_sets import is_official_test
from nucleate.errors import InputError
from nucleate.files import PathLike, walk
from nucleate.readers.images import read_image
from nucleate.readers.metadata import plausible_mpp
from nucleate.resolution import resolve_mpp
from nucleate.types import Sample

CARD = DatasetCard(
    title="COCO JSON",
    contents="Pictures and one JSON file of instances: polygons or run lengths, crowd regions as "
    "areas that do not count.",
    licence="yours",
    citation="Lin et al. 2014, doi:10.1007/978-3-319-10602-1_48 (the format)",
    where="Export COCO instances from your annotation tool; put the JSON file beside the pictures.",
    overlaps="the earlier annotation keeps it",
)

_PLACES = ("", "images/", "../images/")


def entries(
    root: Path,
    annotations: str | None = None,
    mpp: float | None = None,
    group: str | None = None,
    override_mpp: bool = False,
) -> list[Entry]:
    """Return the pictures of a COCO file.

    Args:
        root: folder or zip file with one `.json` file, or with several of which `annotations`
            names one; pictures lie beside it, in `images/` beside it, or in `../images/`.
        annotations: path of the JSON file below `root`.
        mpp: micrometres per pixel; None takes the record's `mpp`, else what the picture states.
        group: regular expression whose first group, searched in the name, is the patient; None
            takes the record's `group`, else makes every picture its own group.
        override_mpp: whether `mpp` counts although a record or a picture states another value.

    Returns:
        One entry per picture, sorted by name: its file name without ending.

    Raises:
        InputError: no JSON file, not COCO, or a picture is missing or listed twice.
        ConfigError: `group` is no regular expression with one group, or does not match a name.
    """
    base = open_root(root)
    files = dict(walk(base))
    names = [name for name in files if name.lower().endswith(".json")]
    if annotations is not None:
        names = [name for name in names if name == annotations]
    if not names:
        raise InputError(f"{root}: holds no COCO file. {CARD.where}")
    if len(names) > 1:
        raise InputError(
            f"{root}: holds {len(names)} files that may be COCO ({', '.join(names[:5])}). Name one "
            "by the option annotations."
        )
    content = read_coco(files[names[0]])
    folder = PurePosixPath(names[0]).parent
    find = None if group is None else grouping(group)
    settle = partial(resolve_mpp, given=mpp, override=override_mpp)
    found: dict[str, Entry] = {}
    for picture in content.pictures:
        file = _locate(files, folder, str(picture.record["file_name"]), root)
        name = str(PurePosixPath(picture.record["file_name"]).with_suffix(""))
        name = name.removeprefix("images/")
        if name in found:
            raise InputError(f"{root}: two pictures are named {name!r}. Rename one of them.")
        owner = find(name) if find else str(picture.record.get("group") or name)
        organ = picture.record.get("organ")
        annotated = (picture, content.position_of, content.categories)
        read = _reader(name, owner, file, annotated, settle)
        found[name] = Entry(
            name, owner, read, None if organ is None else str(organ), is_official_test(name)
        )
    if not found:
        raise InputError(f"{root}: the COCO file holds no picture. Export it again.")
    return [found[name] for name in sorted(found)]


def _locate(
    files: dict[str, PathLike], folder: PurePosixPath, file_name: str, root: Path
) -> PathLike:
    """Return the file of a picture; it must lie below the root."""
    wanted = PurePosixPath(file_name.replace("\\", "/"))
    for place in _PLACES:
        path = (
            folder.parent / "images" / wanted if place == "../images/" else folder / place / wanted
        )
        if str(path) in files:
            return files[str(path)]
    raise InputError(
        f"{root}: the picture {file_name[:200]!r} of the COCO file is not there. Put it beside the "
        "JSON file, or into images/."
    )


def _reader(
    name: str,
    group: str,
    file: PathLike,
    annotated: tuple[CocoPicture, dict[int, int], tuple[str, ...]],
    settle: Callable[[str, float | None], float | None],
) -> Callable[[], Sample]:
    picture, position_of, names = annotated
    record: dict[str, Any] = picture.record

    def read() -> Sample:
        pixels, stated = read_image(file)
        size = (int(record["height"]), int(record["width"]))
        if size != pixels.shape[:2]:
            raise InputError(
                f"{file}: is {pixels.shape[1]} × {pixels.shape[0]} pixels, the COCO file says "
                f"{size[1]} × {size[0]}. Export both together."
            )
        labels, classes, ignore, drawn = draw_coco(name, picture, position_of)
        written = plausible_mpp(record.get("mpp"))
        return Sample(
            image=pixels,
            labels=labels,
            name=name,
            group=group,
            mpp=settle(name, stated if written is None else written),
            classes=classes,
            class_names=names,
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

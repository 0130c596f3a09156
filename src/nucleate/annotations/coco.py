"""COCO JSON (images, categories, masks as polygons or run lengths) → label images.

Run lengths represent any mask exactly. Polygons are drawn by the pixel-centre rule, as everywhere
in nucleate.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

import cv2
import numpy as np

from nucleate.annotations.coco_masks import MAX_PIXELS, pixels_of, rings_of
from nucleate.annotations.doubts import are_boxes, misplaced, shared
from nucleate.annotations.drawing import ragged
from nucleate.annotations.outline_file import HOPELESS, kind_of_json, no_mask_message
from nucleate.drawing_report import DrawingReport
from nucleate.errors import InputError
from nucleate.files import PathLike, read_bytes
from nucleate.geometry.labels import compact
from nucleate.types import Bool, Float64, Int16, Int32

MAX_BYTES = 2 << 30
_TRIED = 200  # masks per file that are decoded to classify its crowd regions

Id = int | str
OURS = "written by nucleate"  # start of the description of files that nucleate writes


@dataclass(slots=True)
class CocoImage:
    """One image of a COCO file and its annotations, unchanged.

    Attributes:
        record: the image's entry: file_name, height, width, and any other keys.
        annotations: its annotations, in the order of the file.
        problems: sentences about problems in reading them.
        embedded: the image, if the file contains it.
    """

    record: dict[str, Any]
    annotations: list[dict[str, Any]] = field(default_factory=list)
    problems: tuple[str, ...] = ()
    embedded: PathLike | None = None


@dataclass(frozen=True, slots=True)
class CocoFile:
    """A COCO file with checked names and numbers; masks are decoded when they are drawn.

    Attributes:
        images: in the order of the file.
        categories: unique names, in ascending order of their ids.
        position_of: id of a category -> position in `categories`.
        ours: whether nucleate wrote the file; its crowd regions are then ignored areas.
    """

    images: list[CocoImage]
    categories: tuple[str, ...]
    position_of: dict[Id, int]
    ours: bool = False


def identity(value: object) -> Id:
    """Normalise an id of a COCO file: a number, even if written as text, else text.

    Example:
        >>> identity("7"), identity(7), identity("a7")
        (7, 7, 'a7')
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"an id that is neither number nor text: {str(value)[:40]}")
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"-?[0-9]{1,18}", value) else value[:200]
    if value != int(value):
        raise ValueError(f"the id {value}")
    return int(value)


def read_coco(path: PathLike, content: Any = None) -> CocoFile:  # noqa: ANN401
    """Read a COCO JSON file of instances.

    Args:
        path: the file.
        content: its JSON, if already parsed.

    Raises:
        InputError: missing, not JSON, not COCO, or an annotation without its image or category.
    """
    try:
        content = json.loads(read_bytes(path, MAX_BYTES)) if content is None else content
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}). Export it again.") from error
    try:
        listed = [(identity(c["id"]), str(c["name"])) for c in content["categories"]]
        categories = sorted(listed, key=lambda pair: (isinstance(pair[0], str), pair[0]))
        if not categories and not any("category_id" in a for a in content["annotations"]):
            categories = [(0, "nucleus")]
        images: dict[Id, CocoImage] = {}
        for record in content["images"]:
            height, width = int(record["height"]), int(record["width"])
            if min(height, width) < 1 or height * width > MAX_PIXELS:
                raise ValueError(f"an image of {width} × {height} pixels")
            if identity(record["id"]) in images:
                raise ValueError(f"two images with the id {record['id']}")
            if not isinstance(record["file_name"], str):
                raise TypeError("a file_name that is not text")
            images[identity(record["id"])] = CocoImage(record)
        names = list(dict.fromkeys(name for _, name in categories))
        position_of = {number: names.index(name) for number, name in categories}
        for annotation in content["annotations"]:
            if identity(annotation.get("category_id", 0)) not in position_of:
                raise ValueError(f"no category {annotation.get('category_id')}")
            images[identity(annotation["image_id"])].annotations.append(annotation)
        ours = str((content.get("info") or {}).get("description", "")).startswith(OURS)
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
        kind = kind_of_json(content)
        if kind not in ("", "a COCO file"):
            raise InputError(
                f"{path}: {kind}, not a COCO file of instances. Export COCO instances, or convert "
                "it to them."
            ) from error
        said = f"{type(error).__name__}: {error}"[:200].rstrip(".")
        raise InputError(
            f"{path}: not a COCO file of instances ({said}). Export it again, with images, "
            "annotations and categories."
        ) from error
    return CocoFile(list(images.values()), tuple(names), position_of, ours)


def plain_path(file_name: str) -> PurePosixPath:
    r"""Convert a Windows path or an address to a relative POSIX path of an image.

    Drive letters, `..` and queries are removed.

    Example:
        >>> [str(plain_path(p)) for p in (r"C:\data\images\t.png", "/data/?d=a%20b/t.png")]
        ['data/images/t.png', 'a b/t.png']
    """
    name = file_name.replace("\\", "/")
    _, found, after = name.partition("?d=")  # Label Studio: the query contains the path
    if found:
        name = after.split("&")[0]
    elif "://" in name:
        name = name.partition("://")[2].split("?")[0].partition("/")[2]
    if found or re.search(r"%[0-9A-Fa-f]{2}", name):
        name = unquote(name)
    name = re.sub(r"^[A-Za-z]:", "", name).replace("\0", "")
    return PurePosixPath("/".join(p for p in name.split("/") if p not in ("", ".", "..")))


def image_name(file_name: str) -> str:
    r"""Return the name of an image, without its suffix and without the folder `images/`.

    Example:
        >>> image_name(r"images\a\t.png")
        'a/t'
    """
    path = plain_path(file_name)
    return str(path.with_suffix("") if path.name else path).removeprefix("images/")


def is_crowd(annotation: dict[str, Any]) -> bool:
    """Return whether an annotation is marked as a crowd region.

    Example:
        >>> is_crowd({"iscrowd": 1}), is_crowd({"iscrowd": "0"}), is_crowd({})
        (True, False, False)
    """
    return str(annotation.get("iscrowd") or 0).strip().lower() not in ("0", "0.0", "false", "")


def crowds_are_nuclei(file: CocoFile) -> tuple[bool, str]:
    """Return whether the crowd regions of a file are nuclei, and a message about them.

    Tools that mark every run-length mask as a crowd, such as CVAT, give each nucleus a separate,
    connected mask. True COCO crowd regions have many pieces, or are areas among nuclei.

    Returns:
        The answer, and a sentence: "" if there are no crowd regions.
    """
    annotations = [(p, a) for p in file.images for a in p.annotations]
    crowds = [(p, a) for p, a in annotations if is_crowd(a)]
    if not crowds or file.ours:
        return False, ""
    few = crowds[:: max(1, len(crowds) // _TRIED)]
    facts = [_pieces_area(p, a) for p, a in few]
    connected = sum(pieces == 1 for pieces, _ in facts) >= 0.8 * len(facts)
    others = [(p, a) for p, a in annotations if not is_crowd(a)]
    if others and connected:
        sizes = [_pieces_area(p, a)[1] for p, a in others[:: max(1, len(others) // _TRIED)]]
        ratio = float(np.median([size for _, size in facts]) / max(1.0, float(np.median(sizes))))
        per_image = len(crowds) / len({id(p) for p, _ in crowds})
        connected = 0.2 < ratio < 5 and per_image > 1
    counted = f"{len(crowds)} of {len(annotations)} annotations are crowd regions (iscrowd 1)"
    if connected:
        return True, (
            f"{counted}, each one connected mask, as CVAT marks its masks: they are read as "
            "nuclei. Set the option crowds to ignore or nuclei to decide"
        )
    return False, (
        f"{counted}: areas to ignore. Set the option crowds to nuclei if they are nuclei"
    )


def _pieces_area(image: CocoImage, annotation: dict[str, Any]) -> tuple[int, int]:
    """Return the number of pieces of a mask, and its area; (0, 0) if it is damaged or empty."""
    height, width = int(image.record["height"]), int(image.record["width"])
    try:
        inside = pixels_of(annotation.get("segmentation"), height, width)
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError):
        return 0, 0
    if not len(inside):
        return 0, 0
    columns, rows = inside // height, inside % height
    low = columns.min(), rows.min()
    mask = np.zeros((columns.max() - low[0] + 1, rows.max() - low[1] + 1), np.uint8)
    mask[columns - low[0], rows - low[1]] = 1
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    sizes = stats[1:, cv2.CC_STAT_AREA]
    return max(1, int((sizes > 0.05 * sizes.sum()).sum())), len(inside)


def draw_coco(
    owner: object,
    image: CocoImage,
    position_of: dict[Id, int],
    nuclei_only: bool = False,
) -> tuple[Int32, Int16, Bool | None, DrawingReport]:
    """Draw the annotations of one image; where two overlap, the earlier keeps the pixel.

    Args:
        owner: subject of error messages.
        image: from `read_coco`.
        position_of: id of a category -> class.
        nuclei_only: treat crowd regions as nuclei, see `crowds_are_nuclei`.

    Returns:
        Labels int32 (H, W) 1..n; classes int16 (n,); crowd regions bool (H, W), None if there are
        none; and a report on the drawing.

    Raises:
        InputError: a mask is damaged or of another size than the image; no annotation has a mask;
            or all are outside the image.
    """
    height, width = int(image.record["height"]), int(image.record["width"])
    flat = np.zeros(height * width, np.int32)  # column-major
    ignore = np.zeros(height * width, np.bool_)
    contested = count = bare = 0
    kinds: list[int] = []
    rings: list[Float64] = []
    try:
        for annotation in image.annotations:
            crowded = is_crowd(annotation) and not nuclei_only
            mask = annotation.get("segmentation")
            count += not crowded
            if not isinstance(mask, dict):
                parts = rings_of(mask)
                bare += not parts and not crowded
                rings += [np.concatenate(parts)] if parts and not crowded else []
            inside = pixels_of(mask, height, width)
            if crowded:
                ignore[inside] = True
                continue
            free = inside[flat[inside] == 0]
            contested += len(inside) - len(free)
            flat[free] = count
            kinds.append(position_of[identity(annotation.get("category_id", 0))])
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
        said = f"{type(error).__name__}: {error}"[:160].rstrip(".")
        raise InputError(
            f"{owner}: the mask of annotation {str(annotation.get('id'))[:40]} is damaged ({said})."
            " Export the file again."
        ) from error
    if bare and bare == count:
        raise InputError(f"{owner}: {no_mask_message(bare)}.")
    labels, old = compact(np.ascontiguousarray(flat.reshape(width, height).T))
    classes = np.array(kinds, np.int16)[old - 1]
    crowd = np.ascontiguousarray(ignore.reshape(width, height).T) if ignore.any() else None
    outside, problems = misplaced(*ragged(rings), (height, width))
    if outside >= HOPELESS and outside == count:
        raise InputError(f"{owner}: {problems[0]}.")
    hidden = count - len(old) - bare - outside
    problems += shared(count, hidden, contested, int((labels > 0).sum()))
    problems += [no_mask_message(bare)] if bare else []
    if are_boxes(*ragged(rings)):
        problems.append(
            f"all {len(rings)} outlines are upright rectangles: boxes, not the outlines of nuclei"
        )
    return (
        labels,
        classes,
        crowd,
        DrawingReport(count, contested, hidden, outside, bare, tuple(problems)),
    )

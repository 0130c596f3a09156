"""Contents of an annotation file: outlines of nuclei, and omitted objects with the reason."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nucleate.annotations.doubts import are_boxes, surround
from nucleate.annotations.drawing import draw_counted, ragged
from nucleate.drawing_report import DrawingReport
from nucleate.errors import InputError
from nucleate.types import Float64, Int32, Int64

HOPELESS = 3  # if this many outlines are all outside the image, the file is in another frame


@dataclass(frozen=True, slots=True)
class OutlineFile:
    """The outlines of an annotation file.

    Attributes:
        outlines: vertices float64 (m, 2) as (x, y) in pixels, and offsets int64 (n + 1,).
        names: class name of each outline, "" without one.
        no_mask: number of annotations without an outline, such as points and lines.
        problems: sentences about problems that affect results.
        notes: sentences about findings that do not affect results.
    """

    outlines: tuple[Float64, Int64]
    names: list[str] = field(default_factory=list)
    no_mask: int = 0
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def without_regions(file: OutlineFile) -> OutlineFile:
    """Remove outlines of regions, which surround other outlines.

    They outline tissue, a tissue core or the whole image.
    """
    coords, offsets = file.outlines
    is_region = surround(coords, offsets)
    if is_region.any():
        rings = [coords[offsets[i] : offsets[i + 1]] for i in np.flatnonzero(~is_region)]
        names = [name for name, left in zip(file.names, is_region, strict=False) if not left]
        count = int(is_region.sum())
        message = (
            f"{count} {'outline surrounds' if count == 1 else 'outlines surround'} other outlines: "
            "regions, not nuclei. They are omitted"
        )
        file = replace(
            file, outlines=ragged(rings), names=names, problems=(*file.problems, message)
        )
    if are_boxes(*file.outlines):
        count = len(file.outlines[1]) - 1
        message = f"all {count} outlines are upright rectangles: boxes, not the outlines of nuclei"
        file = replace(file, problems=(*file.problems, message))
    return file


def draw_file(
    owner: object, file: OutlineFile, shape: tuple[int, int]
) -> tuple[Int32, Int64, DrawingReport]:
    """Draw the outlines of a file like `draw_counted`, and add the problems and notes of the file.

    Args:
        owner: subject of error messages.
        file: from a reader of outlines.
        shape: (H, W) of the image.

    Raises:
        InputError: all outlines are outside the image, or nothing has an outline.
    """
    labels, owners, drawn = draw_counted(file.outlines, shape)
    if drawn.outlines >= HOPELESS and drawn.outside == drawn.outlines:
        raise InputError(f"{owner}: {drawn.problems[0]}.")
    problems = (*file.problems, *drawn.problems)
    if file.no_mask:
        problems = (*problems, no_mask_message(file.no_mask))
    if file.no_mask and not drawn.outlines:
        raise InputError(f"{owner}: {no_mask_message(file.no_mask)}.")
    message = replace(drawn, no_mask=file.no_mask, problems=problems, notes=file.notes)
    return labels, owners, message


def no_mask_message(count: int) -> str:
    """Return the message about annotations without an outline.

    Example:
        >>> no_mask_message(2)[:38]
        '2 annotations have a box, a point or a'
    """
    have = "1 annotation has" if count == 1 else f"{count} annotations have"
    return (
        f"{have} a box, a point or a line, but no mask: nothing states where a nucleus ends. "
        "Annotate outlines or masks, or remove them"
    )


def kind_of_json(content: Any) -> str:  # noqa: ANN401
    """Return the program or format that a JSON file comes from, "" if unknown.

    Example:
        >>> kind_of_json({"shapes": [], "imagePath": "a.png"})
        'labelme JSON'
    """
    first = content[0] if isinstance(content, list) and content else content
    keys = set(content) if isinstance(content, dict) else set()
    inner = set(first) if isinstance(first, dict) else set()
    kinds = [
        ("labelme JSON", {"shapes", "imagePath"} <= keys or {"shapes", "imageData"} <= keys),
        ("a VIA project", "_via_img_metadata" in keys or "_via_settings" in keys),
        ("a COCO panoptic file", bool(_first(content, "annotations") & {"segments_info"})),
        ("a COCO file of key points", bool(_first(content, "annotations") & {"keypoints"})),
        ("a COCO file", {"images", "annotations"} <= keys),
        ("GeoJSON", "FeatureCollection" in str(keys and content.get("type"))),
        ("GeoJSON", inner >= {"type", "geometry"}),
        ("Label Studio JSON", "data" in inner and bool(inner & {"annotations", "completions"})),
        ("Label Studio JSON-MIN", {"image", "label"} <= inner or {"annotator"} <= inner),
        ("a list of COCO results", {"image_id", "category_id"} <= inner),
        ("JSON of HoVer-Net", "nuc" in keys),
        ("Supervisely JSON", {"objects", "size"} <= keys),
        ("a Labelbox export", "data_row" in inner or "Labeled Data" in inner),
        ("a VIA file of annotations", _is_via(content)),
    ]
    return next((kind for kind, fits in kinds if fits), "")


def kind_of_json_bytes(data: bytes) -> str:
    """Parse bytes as JSON and apply `kind_of_json`; "" if they are not JSON."""
    try:
        return kind_of_json(json.loads(data))
    except (ValueError, RecursionError):
        return ""


def _first(content: Any, key: str) -> set[str]:  # noqa: ANN401
    """Return the keys of the first record of a list in JSON content."""
    records = content.get(key) if isinstance(content, dict) else None
    first = records[0] if isinstance(records, list) and records else None
    return set(first) if isinstance(first, dict) and "segmentation" not in first else set()


def _is_via(content: Any) -> bool:  # noqa: ANN401
    values = list(content.values()) if isinstance(content, dict) else []
    return (
        bool(values) and isinstance(values[0], dict) and {"filename", "regions"} <= set(values[0])
    )

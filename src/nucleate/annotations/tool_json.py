"""JSON of labelme, Label Studio and VIA → images and annotations in COCO form.

Points are in pixels, corner origin; those of Label Studio in percent of the image.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from nucleate.annotations.coco import (
    MAX_BYTES,
    CocoFile,
    CocoImage,
    Id,
    identity,
    plain_path,
    read_coco,
)
from nucleate.annotations.outline_file import kind_of_json
from nucleate.errors import InputError
from nucleate.files import PathLike, read_bytes

LABELME = "labelme JSON"
_CIRCLE = 64  # vertices of circles and ellipses
_POLYGON = ("polygon", "", "None")  # as old and new versions of labelme write it

Shape = tuple[str, list[float]]  # class, and the flat outline; [] for points and lines
Found = list[tuple[dict[str, Any], list[Shape], list[str]]]  # record, shapes, problems


def read_annotations(path: PathLike) -> CocoFile:
    """Read a JSON file of labelme, Label Studio, VIA or COCO.

    Raises:
        InputError: see `read_coco`; or the shapes cannot be outlines.
    """
    try:
        content = json.loads(read_bytes(path, MAX_BYTES))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}). Export it again.") from error
    kind = kind_of_json(content)
    reader = _READERS.get(kind)
    if reader is None:
        return read_coco(path, content)
    try:
        return _as_coco(reader(path, content))
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
        said = f"{type(error).__name__}: {error}"[:160].rstrip(".")
        raise InputError(f"{path}: {kind} that is damaged ({said}). Export it again.") from error


def joined(files: Iterable[CocoFile]) -> CocoFile:
    """Join several files, such as the one file per image of labelme.

    Example:
        >>> joined([CocoFile([], ("a",), {}), CocoFile([], ("b",), {})]).categories
        ('a', 'b')
    """
    files = list(files)
    names = sorted({name for file in files for name in file.categories})
    images = [image for file in files for image in file.images]
    return CocoFile(images, tuple(names), {_id(name): i for i, name in enumerate(names)})


def _id(name: str) -> Id:
    """Return the id of a category that has only a name."""
    return identity(f"class {name}")


def _as_coco(found: Found) -> CocoFile:
    """Convert records, shapes and problems to COCO form; a category's id is its name."""
    images = []
    for record, shapes, problems in found:
        annotations = [
            {"id": i, "category_id": _id(name), "segmentation": [flat] if flat else []}
            for i, (name, flat) in enumerate(shapes)
        ]
        embedded = record.pop("embedded", None)
        images.append(CocoImage(record, annotations, tuple(problems), embedded))
    names = sorted({name for _, shapes, _ in found for name, _ in shapes}) or ["nucleus"]
    return CocoFile(images, tuple(names), {_id(name): i for i, name in enumerate(names)})


def _labelme(path: PathLike, content: Any) -> Found:  # noqa: ANN401
    """Read the image of a labelme file, which is embedded or beside the file."""
    shapes: list[Shape] = []
    for shape in content["shapes"]:
        kind = str(shape.get("shape_type", "polygon"))
        points = np.array(shape["points"], np.float64).reshape(-1, 2)
        outline: list[float] = []
        if kind == "mask":
            raise InputError(
                f"{path}: contains a mask of labelme's AI tool, which nucleate does not read. "
                "Change masks to polygons in labelme, and save."
            )
        if kind in _POLYGON and len(points) >= 3:
            outline = points.ravel().tolist()
        elif kind == "circle" and len(points) == 2:
            radius = float(np.hypot(*(points[1] - points[0])))
            outline = _round(points[0, 0], points[0, 1], radius, radius, 0.0)
        shapes.append((str(shape.get("label") or "nucleus"), outline))
    groups = Counter(s.get("group_id") for s in content["shapes"] if s.get("group_id") is not None)
    parts = sum(count for count in groups.values() if count > 1)
    record: dict[str, Any] = {
        "file_name": str(content.get("imagePath") or f"{PurePosixPath(path.name).stem}.png"),
        "height": content.get("imageHeight"), "width": content.get("imageWidth"),
    }  # fmt: skip
    if content.get("imageData"):
        record["embedded"] = _embedded(path, record["file_name"], content["imageData"])
    problems = [f"{parts} shapes share a group_id: each is read as a nucleus"] if parts else []
    return [(record, shapes, problems)]


def _embedded(path: PathLike, name: str, text: str) -> zipfile.Path:
    """Present an image embedded in a file's text as a file in an archive."""
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise InputError(f"{path}: imageData is not an image ({error}). Save it again.") from error
    archive = zipfile.ZipFile(io.BytesIO(), "w")
    archive.filename = str(path)
    name = plain_path(name).name or "imageData.png"
    archive.writestr(name, data)
    return zipfile.Path(archive, name)


def _label_studio(
    path: PathLike,
    content: Any,  # noqa: ANN401
) -> Found:
    """Read the images of Label Studio tasks."""
    found: Found = []
    for task in content if isinstance(content, list) else [content]:
        said = []
        drawn = task.get("annotations") or task.get("completions") or []
        drawn = [one for one in drawn if not one.get("was_cancelled")]
        if len(drawn) > 1:
            said.append(f"{len(drawn)} people annotated it: the first annotation is used")
        results = drawn[0]["result"] if drawn else []
        record: dict[str, Any] = {"file_name": _address(path, task["data"])}
        record |= {"height": None, "width": None}
        shapes = []
        for result in results:
            kind, value = str(result.get("type")).removesuffix("labels"), result.get("value") or {}
            if kind == "brush" or "rle" in value:
                raise InputError(
                    f"{path}: contains masks of Label Studio's brush, which nucleate does not read "
                    "from JSON. Export them as COCO with masks, or annotate polygons."
                )
            if kind not in _STUDIO:
                continue  # a choice or text for the image
            if result.get("image_rotation"):
                raise InputError(
                    f"{path}: annotated on an image that was rotated by "
                    f"{result['image_rotation']} degrees. Rotate the image itself, and annotate it."
                )
            size = float(result["original_width"]), float(result["original_height"])
            record["width"], record["height"] = int(size[0]), int(size[1])
            names = value.get(f"{kind}labels") or value.get("labels") or ["nucleus"]
            shapes.append((str(names[0]), _STUDIO[kind](value, size)))
        found.append((record, shapes, said))
    return found


def _address(path: PathLike, data: dict[str, Any]) -> str:
    """Return the address of a task's image: the only one, or the one named image."""
    texts = {key: str(v) for key, v in data.items() if isinstance(v, str) and "." in v}
    found = data.get("image") or (next(iter(texts.values())) if len(texts) == 1 else None)
    if not isinstance(found, str):
        raise InputError(f"{path}: a task has no image. Export the tasks with their images.")
    return found


def _percent(value: dict[str, Any], size: tuple[float, float]) -> list[float]:
    points = np.array(value["points"], np.float64).reshape(-1, 2) / 100 * size
    return points.ravel().tolist() if len(points) >= 3 else []


def _percent_round(value: dict[str, Any], size: tuple[float, float]) -> list[float]:
    wide, high = size
    return _round(
        value["x"] * wide / 100, value["y"] * high / 100, value["radiusX"] * wide / 100,
        value["radiusY"] * high / 100, np.deg2rad(float(value.get("rotation") or 0)),
    )  # fmt: skip


_STUDIO: dict[str, Callable[[dict[str, Any], tuple[float, float]], list[float]]] = {
    "polygon": _percent, "ellipse": _percent_round, "rectangle": lambda *_: [],
    "keypoint": lambda *_: [],
}  # fmt: skip


def _via(path: PathLike, content: Any) -> Found:  # noqa: ANN401
    """Read the images of a VIA project of version 1 or 2, or of its annotations alone."""
    found: Found = []
    for one in content.get("_via_img_metadata", content).values():
        regions = one["regions"]
        shapes = []
        for region in regions.values() if isinstance(regions, dict) else regions:
            attributes = region.get("region_attributes") or {}
            names = [
                str(value) for value in attributes.values() if isinstance(value, str) and value
            ]
            shapes.append((names[0] if names else "nucleus", _via_outline(region)))
        found.append(({"file_name": one["filename"], "height": None, "width": None}, shapes, []))
    return found


def _via_outline(region: dict[str, Any]) -> list[float]:
    """Return the flat outline of a VIA region, [] for points and lines."""
    shape = region["shape_attributes"]
    kind = shape["name"]
    if kind == "polygon":
        points = np.stack([shape["all_points_x"], shape["all_points_y"]], 1).astype(np.float64)
        return points.ravel().tolist() if len(points) >= 3 else []
    if kind == "circle":
        return _round(shape["cx"], shape["cy"], shape["r"], shape["r"], 0.0)
    if kind == "ellipse":
        turned = float(shape.get("theta") or 0.0)
        return _round(shape["cx"], shape["cy"], shape["rx"], shape["ry"], turned)
    return []


def _round(x: float, y: float, wide: float, high: float, turned: float) -> list[float]:
    """Return the flat outline of an ellipse, from its centre, radii and rotation.

    Example:
        >>> outline = np.reshape(_round(5, 5, 2, 1, 0), (-1, 2))
        >>> outline.min(0).round(6).tolist(), outline.max(0).round(6).tolist()
        ([3.0, 4.0], [7.0, 6.0])
    """
    angle = np.linspace(0, 2 * np.pi, _CIRCLE, endpoint=False)
    along, across = wide * np.cos(angle), high * np.sin(angle)
    points = np.stack(
        [
            x + along * np.cos(turned) - across * np.sin(turned),
            y + along * np.sin(turned) + across * np.cos(turned),
        ],
        1,
    )
    return points.ravel().tolist()


_READERS: dict[str, Callable[[PathLike, Any], Found]] = {
    LABELME: _labelme, "Label Studio JSON": _label_studio, "a VIA project": _via,
    "a VIA file of annotations": _via,
}  # fmt: skip

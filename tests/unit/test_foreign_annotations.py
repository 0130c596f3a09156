"""JSON of annotation tools, as they write it: read right, read with a problem, or named."""

import base64
import json

import numpy as np
import pytest
from PIL import Image

from nucleate.annotations.tool_json import read_annotations
from nucleate.datasets.loading import list_entries
from nucleate.errors import InputError
from tests.errors import says
from tests.synthetic import tissue

IMAGE = tissue(40, 56, 5, 3)[0]
SQUARE = [[3, 4], [13, 4], [13, 12], [3, 12.0]]
BENT = [[20, 20], [30, 22], [25, 34.0]]


def _folder(tmp_path, content, name="t.json", image="t.png"):
    if image:
        (tmp_path / image).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGE).save(tmp_path / image)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(json.dumps(content))
    return tmp_path


def _sample(root, **options):
    (entry,) = list_entries("coco", root, {"mpp": 0.5, **options})
    return entry.read()


def _labelme(*shapes, **more):
    listed = [{"label": "nucleus", "points": SQUARE, "shape_type": "polygon"}, *shapes]
    return {"version": "5.0", "shapes": listed, "imagePath": "t.png", "imageData": None,
            "imageHeight": 40, "imageWidth": 56, **more}  # fmt: skip


def _studio(*results, **more):
    def polygon(points):
        percent = [[100 * x / 56, 100 * y / 40] for x, y in points]
        value = {"points": percent, "closed": True, "polygonlabels": ["nucleus"]}
        return {"type": "polygonlabels", "original_width": 56, "original_height": 40,
                "image_rotation": 0, "value": value}  # fmt: skip

    found = [polygon(SQUARE), *results]
    return [{"id": 1, "data": {"image": "/data/upload/1/0a1b2c3d-t.png"},
             "annotations": [{"result": found, "was_cancelled": False}], **more}]  # fmt: skip


def _via(*shapes):
    def polygon(points):
        xs, ys = zip(*points, strict=True)
        return {"name": "polygon", "all_points_x": xs, "all_points_y": ys}

    regions = [
        {"shape_attributes": shape, "region_attributes": {"type": "nucleus"}}
        for shape in (polygon(SQUARE), *shapes)
    ]
    return {"t.png123": {"filename": "t.png", "size": 123, "regions": regions}}


TOOLS = {"labelme": _labelme(), "studio": _studio(), "via": _via(),
         "via project": {"_via_settings": {}, "_via_img_metadata": _via()}}  # fmt: skip


@pytest.mark.parametrize("tool", TOOLS)
def test_an_outline_is_read_where_it_is(tmp_path, tool):
    sample = _sample(_folder(tmp_path, TOOLS[tool]))
    expected = np.zeros((40, 56), np.int32)
    expected[4:12, 3:13] = 1
    np.testing.assert_array_equal(sample.labels, expected)
    assert sample.class_names == ("nucleus",)
    np.testing.assert_array_equal(sample.image, IMAGE)
    assert [p for p in sample.drawn.problems if "boxes" not in p] == []


@pytest.mark.parametrize(
    ("name", "path", "image"),
    [("json/t.json", "..\\images\\t.png", "images/t.png"), ("a/t.json", "..\\t.png", "t.png"),
     ("t.json", "C:\\Users\\x\\t.png", "t.png"), ("a/t.json", "../b/t.png", "b/t.png"),
     ("t.json", "t.png", "images/t.png")],
)  # fmt: skip
def test_labelme_finds_its_image_as_windows_writes_it(tmp_path, name, path, image):
    root = _folder(tmp_path, _labelme(imagePath=path), name, image)
    assert _sample(root).labels.sum() == 80


def test_labelme_names_the_file_beside_it_though_another_is_alike(tmp_path):
    root = _folder(tmp_path, _labelme(imagePath="..\\b\\t.png"), "a/t.json", "b/t.png")
    Image.fromarray(IMAGE[::-1]).save(tmp_path / "t.png")
    np.testing.assert_array_equal(_sample(root).image, IMAGE)


def test_labelme_contains_its_image(tmp_path):
    _folder(tmp_path, {}, image="x.png")
    data = base64.b64encode((tmp_path / "x.png").read_bytes()).decode()
    (tmp_path / "x.png").unlink()
    content = _labelme(imagePath="..\\gone\\t.png", imageData=data)
    np.testing.assert_array_equal(_sample(_folder(tmp_path, content, image=None)).image, IMAGE)
    with pytest.raises(InputError, match=says("imageData")):
        _sample(_folder(tmp_path, _labelme(imageData="!"), image=None))


def test_what_is_embedded_is_never_a_path(tmp_path):
    content = {"images": [{"id": 1, "file_name": "gone.png", "height": 40, "width": 56,
                           "embedded": str(tmp_path / "t.png")}],
               "annotations": [], "categories": []}  # fmt: skip
    with pytest.raises(InputError, match=says("gone.png", "missing")):
        _sample(_folder(tmp_path, content))


def test_labelme_of_several_images_is_one_data_set(tmp_path):
    for folder in ("a", "b"):
        _folder(tmp_path, _labelme(), f"{folder}/t.json", f"{folder}/t.png")
    other = _labelme({"label": "lymphocyte", "points": BENT})
    _folder(tmp_path, {**other, "imagePath": "u.png"}, "u.json", "u.png")
    found = list_entries("coco", tmp_path, {"mpp": 0.5})
    assert [e.name for e in found] == ["a/t", "b/t", "u"]
    samples = [e.read() for e in found]
    assert {s.class_names for s in samples} == {("lymphocyte", "nucleus")}
    assert sorted(s.classes.tolist() for s in samples) == [[1], [1], [1, 0]]


def test_round_shapes_are_read(tmp_path):
    circle = {"label": "nucleus", "points": [[40, 20], [45, 20]], "shape_type": "circle"}
    ellipse = {"x": 100 * 40 / 56, "y": 50, "radiusX": 100 * 5 / 56, "radiusY": 12.5, "rotation": 0}
    studio = {"type": "ellipselabels", "original_width": 56, "original_height": 40,
              "value": {**ellipse, "ellipselabels": ["nucleus"]}}  # fmt: skip
    shapes = [{"name": "circle", "cx": 40, "cy": 20, "r": 5},
              {"name": "ellipse", "cx": 40, "cy": 20, "rx": 5, "ry": 5, "theta": 1.0}]  # fmt: skip
    for i, content in enumerate([_labelme(circle), _studio(studio), *map(_via, shapes)]):
        root = _folder(tmp_path / str(i), content, image=f"{'0a1b2c3d-' * (i == 1)}t.png")
        labels = _sample(root).labels
        assert abs((labels == 2).sum() - np.pi * 25) < 4
        assert labels[20, 39] == labels[20, 40] == 2


BOXES = {
    "labelme": _labelme({"label": "a", "points": [[1, 1], [9, 9]], "shape_type": "rectangle"}),
    "studio": _studio({"type": "rectanglelabels", "original_width": 56, "original_height": 40,
                       "value": {"x": 1, "y": 1, "width": 9, "height": 9,
                                 "rectanglelabels": ["a"]}}),
    "via": _via({"name": "rect", "x": 1, "y": 1, "width": 9, "height": 9}),
}  # fmt: skip


@pytest.mark.parametrize("tool", BOXES)
def test_boxes_have_no_mask(tmp_path, tool):
    drawn = _sample(_folder(tmp_path, BOXES[tool])).drawn
    assert drawn.no_mask == 1
    assert any("no mask" in problem for problem in drawn.problems)


def _brush(kind="brushlabels"):
    return {"type": kind, "original_width": 56, "original_height": 40,
            "value": {"format": "rle", "rle": [0, 1], "brushlabels": ["a"]}}  # fmt: skip


REFUSED = {
    "brush": (_studio(_brush()), "brush"),
    "turned": (_studio({**_studio()[0]["annotations"][0]["result"][0], "image_rotation": 90}),
               "rotated by 90"),
    "no image": ([{"id": 1, "data": {}, "annotations": []}], "no image"),
    "masks of AI": (_labelme({"label": "a", "points": [[1, 1], [9, 9]], "shape_type": "mask",
                              "mask": "x"}), "mask of labelme"),
    "damaged": (_labelme({"label": "a"}), "damaged"),
    "another size": (_labelme(imageHeight=41), "56 × 41"),
    "JSON-MIN": ([{"id": 1, "image": "/data/upload/t.png", "label": []}], "JSON-MIN"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_read_is_named(tmp_path, case):
    content, said = REFUSED[case]
    with pytest.raises(InputError, match=says(said)):
        _sample(_folder(tmp_path, content))


def test_several_annotators_and_parts_of_one_object_are_problems(tmp_path):
    twice = _studio()
    twice[0]["annotations"] += [*twice[0]["annotations"], {"result": [], "was_cancelled": True}]
    drawn = _sample(_folder(tmp_path, twice)).drawn
    assert any("2 people" in problem for problem in drawn.problems)
    parts = [
        {"label": "a", "points": p, "group_id": 7} for p in (BENT, [[40, 2], [50, 2], [44, 9]])
    ]
    drawn = _sample(_folder(tmp_path, _labelme(*parts))).drawn
    assert any("2 shapes share a group_id" in problem for problem in drawn.problems)


def test_a_json_of_coco_is_still_one(tmp_path):
    content = {"images": [{"id": 1, "file_name": "t.png", "height": 40, "width": 56}],
               "categories": [{"id": 3, "name": "n"}],
               "annotations": [{"id": 1, "image_id": 1, "category_id": 3,
                                "segmentation": [np.ravel(SQUARE).tolist()]}]}  # fmt: skip
    root = _folder(tmp_path, content)
    assert read_annotations(root / "t.json").categories == ("n",)
    assert _sample(root).labels.sum() == 80

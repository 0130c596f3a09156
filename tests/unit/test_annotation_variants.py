"""Annotations as programs write them: each variant is read right, refused, or read with a word."""

import json

import numpy as np
import pytest
from PIL import Image

from nucleate.annotations.aperio_xml import read_aperio_regions
from nucleate.annotations.coco_masks import recorded, run_lengths
from nucleate.annotations.doubts import doubtful_labels
from nucleate.annotations.geojson import read_objects
from nucleate.annotations.label_images import read_labels
from nucleate.annotations.outline_file import draw_file, kind_of_json
from nucleate.curation.check import check
from nucleate.datasets import DATASETS
from nucleate.datasets.grouping import grouping
from nucleate.datasets.loading import list_entries
from nucleate.errors import InputError
from nucleate.evaluation.evaluate import evaluate_files
from nucleate.folders import renamed

SIZE = 64
CORNERS = [(x, y) for y in range(4, 60, 14) for x in range(4, 60, 14)]  # of 16 nuclei


def _ring(x, y, side=8.0):
    half = side / 2  # eight corners: no box
    return [
        [x + 2, y], [x + side - 2, y], [x + side, y + half], [x + side - 2, y + side],
        [x + 2, y + side], [x, y + half], [x + 2, y],
    ]  # fmt: skip


def _polygon(ring):
    return {"type": "Polygon", "coordinates": [ring]}


def _feature(geometry, kind=None, **more):
    properties = {} if kind is None else {"objectType": kind}
    return {"type": "Feature", "geometry": geometry, "properties": properties, **more}


def _nuclei(kind=None, scale=1.0, shift=0.0):
    rings = [(np.array(_ring(x, y)) * scale + shift).tolist() for x, y in CORNERS]
    return [_feature(_polygon(ring), kind) for ring in rings]


WHOLE = _polygon([[0, 0], [64, 0], [64, 64], [0, 64], [0, 0]])
MERGED = [f["geometry"]["coordinates"] for f in _nuclei()]
TWO_RINGS = [_polygon(_ring(4, 4, 12)), _polygon(_ring(6, 6, 6))]

GEOJSON = {  # features -> nuclei, and a word of the problem or note
    "plain": (_nuclei(), 16, ""),
    "parent first": ([_feature(WHOLE, "annotation"), *_nuclei("detection")], 16, "regions"),
    "parent last": ([*_nuclei("detection"), _feature(WHOLE, "annotation")], 16, "regions"),
    "parent of cells": ([*_nuclei("cell"), _feature(WHOLE, "annotation")], 16, "no nucleus"),
    "all of one type": ([_feature(WHOLE, "annotation"), *_nuclei("annotation")], 16, "surround"),
    "without types": ([_feature(WHOLE), *_nuclei()], 16, "surround"),
    "tissue core": ([_feature(WHOLE, "tma_core"), *_nuclei("annotation")], 16, "TMA cores"),
    "old ids": ([_feature(WHOLE, id="TMACoreObject"), *_nuclei()], 16, "TMA cores"),
    "merged": ([_feature({"type": "MultiPolygon", "coordinates": MERGED})], 16, "16 parts"),
    "collection": (
        [_feature({"type": "GeometryCollection",
                   "geometries": [f["geometry"] for f in _nuclei()]})], 16, "16 parts",
    ),
    "null geometry": ([_feature(None), *_nuclei()], 16, "no geometry"),
    "empty polygon": ([_feature({"type": "Polygon", "coordinates": []}), *_nuclei()], 16, "no geo"),
    "points": ([_feature({"type": "Point", "coordinates": [9, 9]}), *_nuclei()], 16, "no mask"),
    "cells": (
        [_feature(TWO_RINGS[0], "cell", nucleusGeometry=TWO_RINGS[1])], 1, "",
    ),
    "cell without": (
        [_feature(TWO_RINGS[0], "cell", nucleusGeometry=TWO_RINGS[1]),
         _feature(_polygon(_ring(40, 40)), "cell")], 1, "omitted",
    ),
    "one outside": ([*_nuclei(), _feature(_polygon(_ring(90, 4)))], 16, "1 of 17 outlines lie out"),
    "micrometres": (_nuclei(scale=0.25), 16, "micrometres"),
    "twice as large": (_nuclei(scale=2), 4, "12 of 16"),
    "relative": (_nuclei(scale=1 / 64), 0, "relative"),
    "boxes": (
        [_feature(_polygon([[x, y], [x + 8, y], [x + 8, y + 8], [x, y + 8]])) for x, y in CORNERS],
        16, "boxes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GEOJSON)
def test_geojson(tmp_path, name):
    features, count, word = GEOJSON[name]
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    labels, _, drawn = draw_file(path, read_objects(path), (SIZE, SIZE))
    assert len(np.unique(labels)) - 1 == count
    said = "; ".join(drawn.problems + drawn.notes)
    assert word in said if word else not said


@pytest.mark.parametrize("stated", ["Tumor", {"name": "Tumor"}, {"names": ["Tumor"]}])
def test_classes_are_read_however_they_are_written(tmp_path, stated):
    feature = _feature(_polygon(_ring(4, 4)))
    feature["properties"]["classification"] = stated
    (tmp_path / "a.geojson").write_text(json.dumps([feature]))
    assert read_objects(tmp_path / "a.geojson").names == ["Tumor"]


def test_a_frame_of_another_image_is_refused(tmp_path):
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(_nuclei(shift=47000)))
    with pytest.raises(InputError, match=r"16 of 16 outlines lie outside .*47004.*slide"):
        draw_file(path, read_objects(path), (SIZE, SIZE))


def _region(vertices, kind="0", negative="0", tag="Vertex"):
    inside = "".join(f'<{tag} X="{x}" Y="{y}"/>' for x, y in vertices)
    return f'<Region Type="{kind}" NegativeROA="{negative}"><Vertices>{inside}</Vertices></Region>'


XML = {  # regions -> nuclei, a word of the problem or note
    "polygon": (_region(_ring(4, 4)), 1, ""),
    "ellipse": (_region([(4, 4), (20, 12)], "2"), 1, ""),
    "ellipse of HALO": (_region([(4, 4), (20, 12)], "Ellipse", tag="V"), 1, ""),
    "rectangle": (_region([(4, 4), (20, 12)], "1"), 1, ""),
    "negative": (_region(_ring(4, 4)) + _region(_ring(0, 0, 60), negative="1"), 1, "negative"),
    "arrow": (_region(_ring(4, 4)) + _region(_ring(20, 4), "3"), 1, "arrows"),
    "ruler": (_region(_ring(4, 4)) + _region([(1, 1), (9, 9)], "4"), 1, "rulers"),
    "region": (
        _region(_ring(0, 0, 60)) + "".join(_region(_ring(*c)) for c in CORNERS), 16, "surround",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", XML)
def test_aperio_xml(tmp_path, name):
    regions, count, word = XML[name]
    path = tmp_path / "a.xml"
    path.write_text(
        f"<Annotations><Annotation><Regions>{regions}</Regions></Annotation></Annotations>"
    )
    labels, _, drawn = draw_file(path, read_aperio_regions(path), (SIZE, SIZE))
    assert len(np.unique(labels)) - 1 == count
    said = "; ".join(drawn.problems + drawn.notes)
    assert word in said if word else not said


def test_an_ellipse_has_its_area(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(f"<Annotations>{_region([(4, 4), (24, 14)], '2')}</Annotations>")
    labels = draw_file(path, read_aperio_regions(path), (SIZE, SIZE))[0]
    assert abs((labels > 0).sum() - np.pi * 10 * 5) < 6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<ASAP_Annotations/>", "ASAP"),
        ("<annotations/>", "CVAT"),
        ("<annotation/>", "Pascal VOC"),
        (f"<Annotations>{_region(_ring(4, 4), tag='Point')}</Annotations>", "another program"),
    ],
)
def test_xml_of_other_programs_is_named(tmp_path, text, said):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(InputError, match=said):
        read_aperio_regions(tmp_path / "a.xml")


def _coco(root, change=lambda content: None, file_name="t.png", on_disk="t.png"):
    """Write an image with 16 nuclei as polygons."""
    (root / "images").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3)).astype(np.uint8)
    Image.fromarray(noise).save(root / "images" / on_disk)
    annotations = [
        {"id": i, "image_id": 1, "category_id": 1, "bbox": [x, y, 8, 8],
         "segmentation": [np.ravel(_ring(x, y)).tolist()]} for i, (x, y) in enumerate(CORNERS)
    ]  # fmt: skip
    content = {
        "images": [{"id": 1, "file_name": file_name, "width": SIZE, "height": SIZE}],
        "categories": [{"id": 1, "name": "nucleus"}],
        "annotations": annotations,
    }
    change(content)
    (root / "a.json").write_text(json.dumps(content))


def _run_lengths(annotation):
    labels = np.zeros((SIZE, SIZE), np.int32)
    x, y = annotation["bbox"][:2]
    labels[y : y + 8, x : x + 8] = 1
    mask = recorded(run_lengths(labels)[1], labels.shape)["segmentation"]
    annotation |= {"segmentation": mask, "iscrowd": 1}


def _all_crowd(content):
    for annotation in content["annotations"]:
        _run_lengths(annotation)


def _half_crowd(content):
    for annotation in content["annotations"][::2]:
        _run_lengths(annotation)


def _zero_as_text(content):
    for annotation in content["annotations"]:
        annotation["iscrowd"] = "0"


def _one_crowd(content):
    labels = np.zeros((SIZE, SIZE), np.int32)
    labels[:, 32:40], labels[:, 50:60] = 1, 1
    mask = recorded(run_lengths(labels)[1], labels.shape)["segmentation"]
    content["annotations"][0] |= {"segmentation": mask, "iscrowd": 1}


def _via(content):
    content["categories"] = [{"id": i, "name": "ab"[i % 2]} for i in range(1, 5)]
    for i, annotation in enumerate(content["annotations"]):
        annotation |= {"image_id": "1", "category_id": 1 + i % 4}
        annotation["segmentation"] = annotation["segmentation"][0]


def _some_boxes(content):
    for i, annotation in enumerate(content["annotations"][:5]):
        annotation["segmentation"] = []
        if i:
            del annotation["segmentation"]


def _text_ids(content):
    content["images"][0]["id"] = "5f2a"
    for annotation in content["annotations"]:
        annotation["image_id"] = "5f2a"


def _region_around(content):
    whole = [0, 0, 64, 0, 64, 63, 0, 63]
    content["annotations"].insert(0, {"id": 99, "image_id": 1, "category_id": 1,
                                      "segmentation": [whole]})  # fmt: skip


COCO = {  # change -> nuclei, a word of the problem
    "plain": (lambda content: None, 16, ""),
    "every mask is a crowd": (_all_crowd, 16, "16 of 16 annotations are crowd"),
    "every second mask is a crowd": (_half_crowd, 16, "8 of 16 annotations are crowd"),
    "zero as text": (_zero_as_text, 16, ""),
    "one crowd": (_one_crowd, None, "areas to ignore"),
    "VIA 2": (_via, 16, ""),
    "text as ids": (_text_ids, 16, ""),
    "some boxes": (_some_boxes, 11, "5 annotations have a box"),
    "a region": (_region_around, 1, "16 of 17 outlines have no pixel"),
}


@pytest.mark.parametrize("name", COCO)
def test_coco(tmp_path, name):
    change, count, word = COCO[name]
    _coco(tmp_path, change)
    report = check(list_entries("coco", tmp_path, {"mpp": 0.5}), DATASETS["coco"].card)
    assert count is None or report.rows[0]["labels"] == count
    said = "; ".join(report.problems + report.notes)
    of_notes = [p for p in report.problems if " images: " not in p]  # not of the drawn pixels
    assert word in said if word else not of_notes


def test_crowds_are_what_the_option_says(tmp_path):
    _coco(tmp_path, _all_crowd)
    sample = list_entries("coco", tmp_path, {"crowds": "ignore"})[0].read()
    assert sample.labels.max() == 0
    assert sample.ignore.sum() == 16 * 64


def test_categories_of_one_name_are_one(tmp_path):
    _coco(tmp_path, _via)
    sample = list_entries("coco", tmp_path, {})[0].read()
    assert sample.class_names == ("a", "b") or sample.class_names == ("b", "a")
    assert set(sample.classes.tolist()) == {0, 1}


def test_boxes_alone_are_refused(tmp_path):
    def boxes(content):
        for annotation in content["annotations"]:
            annotation["segmentation"] = []

    _coco(tmp_path, boxes)
    with pytest.raises(InputError, match="16 annotations have a box"):
        list_entries("coco", tmp_path, {})[0].read()


@pytest.mark.parametrize(
    ("written", "on_disk", "name"),
    [
        ("images\\t.png", "t.png", "t"),
        ("C:\\data\\t.png", "t.png", "data/t"),
        ("..\\..\\media\\upload\\4\\t.png", "t.png", "media/upload/4/t"),
        ("/data/local-files/?d=a/my%20t.png", "my t.png", "a/my t"),
        ("0a1b2c3d-t.png", "t.png", "0a1b2c3d-t"),
        ("T.PNG", "t.png", "T"),
        ("e\u0301.png", "\u00e9.png", "e\u0301"),
    ],
)
def test_names_of_other_systems(tmp_path, written, on_disk, name):
    _coco(tmp_path, file_name=written, on_disk=on_disk)
    entries = list_entries("coco", tmp_path, {})
    assert [entry.name for entry in entries] == [name]
    assert entries[0].read().labels.max() == 16


def test_copies_of_one_image_are_one_group():
    names = [f"a_jpg.rf.{digit * 32}" for digit in "0ab"]
    assert {grouping(None)(name) for name in names} == {"a"}


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({"objects": [], "size": {}}, "Supervisely"),
        ([{"image": "a.png", "label": []}], "JSON-MIN"),
        ([{"image_id": 1, "category_id": 1}], "COCO results"),
    ],
)
def test_other_json_is_named(tmp_path, content, kind):
    assert kind in kind_of_json(content)
    _coco(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=kind):
        list_entries("coco", tmp_path, {})
    with pytest.raises(InputError, match=kind):
        read_objects(tmp_path / "a.json")


def test_endings_are_named_where_nothing_is_found(tmp_path):
    _coco(tmp_path)
    with pytest.raises(InputError, match=r"looks for \.geojson.*1 \.json file"):
        list_entries("qupath", tmp_path, {})
    (tmp_path / "labels").mkdir()
    (tmp_path / "a.json").rename(tmp_path / "labels" / "t.json")
    with pytest.raises(InputError, match=r"1 \.json file"):
        evaluate_files(tmp_path / "labels", tmp_path / "labels")
    with pytest.raises(InputError, match=r"no label image.*1 \.json file"):
        list_entries("folder", tmp_path, {})


def _labels():
    labels = np.zeros((SIZE, SIZE), np.uint8)
    for i, (x, y) in enumerate(CORNERS):
        labels[y : y + 8, x : x + 8] = i + 1
        labels[y, x] = 0
    return labels


@pytest.mark.parametrize("voc", [False, True])
def test_a_palette_is_no_colour(tmp_path, voc):
    labels = _labels()
    if voc:
        labels[0] = 255
    image = Image.fromarray(labels).convert("P")
    image.putdata(labels.ravel().tolist())
    palette = np.random.default_rng(0).integers(0, 255, (256, 3))
    palette[255] = (224, 224, 192) if voc else (1, 2, 3)
    image.putpalette(palette.astype(np.uint8).ravel().tolist())
    image.save(tmp_path / "a.png")
    if voc:
        with pytest.warns(UserWarning, match="border"):
            read = read_labels(tmp_path / "a.png")
    else:
        read = read_labels(tmp_path / "a.png")
    assert (read == _labels()).all()


LABELS = {  # label images -> a word of the doubt
    "nuclei": (_labels(), ""),
    "mask": ((_labels() > 0) * 255, "one label in 16 pieces: a mask"),
    "types": (np.where(_labels() > 0, _labels() % 3 + 1, 0), "3 labels in 16 pieces"),
    "background is 1": (_labels() + 1, "background"),
    "numbers used twice": (np.where(_labels() > 8, _labels() - 8, _labels()), "several pieces"),
    "empty": (np.zeros((8, 8)), ""),
}


@pytest.mark.parametrize("name", LABELS)
def test_label_images_that_are_something_else(tmp_path, name):
    labels, word = LABELS[name]
    said = "; ".join(doubtful_labels(labels.astype(np.int32)))
    assert word in said if word else not said
    np.save(tmp_path / "truth.npy", labels.astype(np.int32))
    np.save(tmp_path / "pred.npy", labels.astype(np.int32))
    printed = evaluate_files(tmp_path / "pred.npy", tmp_path / "truth.npy").about.get(
        "warnings", []
    )
    assert bool(printed) == bool(word)


def test_names_that_differ_in_case_or_unicode_form_pair_up():
    assert renamed({"e\u0301": 1, "B": 2}, ["\u00e9", "b"]) == {"\u00e9": 1, "b": 2}
    assert renamed({"A": 1, "a": 2}, ["a"]) == {"A": 1, "a": 2}
    assert renamed({"AB": 1}, ["ab", "Ab"]) == {"AB": 1}  # which one is unknown

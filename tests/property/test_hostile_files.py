"""Readers of strangers' files: no crash, no hang, no memory blow-up, only the project's errors."""

import gzip
import io
import json
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import roifile
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nucleate.annotations.aperio_xml import read_aperio_xml
from nucleate.annotations.coco import draw_coco, read_coco
from nucleate.annotations.coco_masks import recorded
from nucleate.annotations.drawing import draw_counted
from nucleate.annotations.geojson import read_geojson
from nucleate.annotations.imagej import read_imagej_rois
from nucleate.datasets.hovernet import read_typed
from nucleate.errors import NucleateError
from nucleate.geometry.outlines import trace
from nucleate.stain.normalise import read_normaliser
from tests.data.monuseg import xml_of
from tests.synthetic import tissue

LABELS = tissue(48, 48, 5, 3)[1]
XY, OFFSETS, _ = trace(LABELS)
OUTLINES = [XY[OFFSETS[i] : OFFSETS[i + 1]] for i in range(len(OFFSETS) - 1)]
PEAK_BYTES = 1 << 29


def _mat():
    buffer = io.BytesIO()
    kinds = np.ones((len(OUTLINES), 1))
    scipy.io.savemat(buffer, {"inst_map": LABELS.astype(float), "inst_type": kinds})
    return buffer.getvalue()


def _packed_mat():
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"inst_map": LABELS.astype(float)}, do_compression=True)
    return buffer.getvalue()


def _geojson():
    features = [
        {"type": "Feature", "properties": {"classification": {"name": "a"}},
         "geometry": {"type": "Polygon", "coordinates": [o.tolist()]}}
        for o in OUTLINES
    ]  # fmt: skip
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


def _coco():
    return json.dumps(
        {
            "images": [{"id": 1, "file_name": "a.png", "height": 48, "width": 48}],
            "categories": [{"id": 1, "name": "nucleus"}],
            "annotations": [
                {"id": i, "image_id": 1, "category_id": 1, "iscrowd": i % 2,
                 "segmentation": [o.reshape(-1).tolist()]} for i, o in enumerate(OUTLINES)
            ] + [
                {"id": 90, "image_id": 1, "category_id": 1,
                 "segmentation": recorded([9, 3, 40, 7, 2245], (48, 48))["segmentation"]},
                {"id": 91, "image_id": 1, "category_id": 1,
                 "segmentation": {"size": [48, 48], "counts": [5, 7, 2292]}},
            ],
        }
    ).encode()  # fmt: skip


def _rois():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for i, outline in enumerate(OUTLINES):
            archive.writestr(f"{i}.roi", roifile.ImagejRoi.frompoints(outline).tobytes())
    return buffer.getvalue()


def _draw_all_coco(path):
    content = read_coco(path)
    return [
        draw_coco("x", image, content.position_of)
        for image in content.images
        if image.record["height"] * image.record["width"] <= 1 << 20
    ]


READERS = {  # name of the file -> a good one, and what reads it
    "a.xml": (xml_of(OUTLINES).encode(), lambda p: draw_counted(read_aperio_xml(p), (48, 48))),
    "a.geojson": (_geojson(), lambda p: draw_counted(read_geojson(p), (48, 48))),
    "a.geojson.gz": (gzip.compress(_geojson()), read_geojson),
    "a.roi": (roifile.ImagejRoi.frompoints(OUTLINES[0]).tobytes(), read_imagej_rois),
    "a.zip": (_rois(), read_imagej_rois),
    "a.mat": (_mat(), lambda p: read_typed(p, 7)),
    "b.mat": (_packed_mat(), lambda p: read_typed(p, 7)),
    "a.json": (_coco(), _draw_all_coco),
    "stain.json": (b'{"method": "macenko", "target": {}, "blend": 1}', read_normaliser),
}
relaxed = settings(
    max_examples=60,
    derandomize=True,  # the same files every time: a build must not fail by chance
    deadline=5_000,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def damages(draw, length):
    """Return up to eight (position, byte) changes, a cut and an insertion."""
    place = st.integers(0, max(0, length - 1))
    changes = draw(st.lists(st.tuples(place, st.integers(0, 255)), max_size=8))
    return changes, draw(st.none() | place), draw(place), draw(st.binary(max_size=12))


def read_it(name, data, folder):
    """Read hostile bytes; anything but the project's own error is a failure."""
    path = Path(folder) / name
    path.write_bytes(data)
    tracemalloc.start()
    try:
        READERS[name][1](path)
    except NucleateError as error:
        text = str(error)
        assert name in text or "annotation" in text
        assert "\n" not in text
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < PEAK_BYTES


@pytest.mark.parametrize("name", sorted(READERS))
def test_the_good_file_is_read(tmp_path, name):
    if name != "stain.json":
        path = tmp_path / name
        path.write_bytes(READERS[name][0])
        assert len(READERS[name][1](path)) > 0


@pytest.mark.parametrize("name", sorted(READERS))
@relaxed
@given(data=st.data())
def test_damaged_bytes(tmp_path, name, data):
    good = bytearray(READERS[name][0])
    changes, cut, at, more = data.draw(damages(len(good)))
    for place, value in changes:
        good[place] = value
    good[at:at] = more
    read_it(name, bytes(good[:cut]), tmp_path)


@pytest.mark.parametrize("name", sorted(READERS))
@relaxed
@given(data=st.binary(max_size=400))
def test_any_bytes(tmp_path, name, data):
    read_it(name, data, tmp_path)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["type", "coordinates", "counts", "size", "x"]), inner)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("name", ["a.geojson", "a.json", "stain.json"])
@relaxed
@given(data=st.data())
def test_any_value_in_any_place(tmp_path, name, data):
    """Replace one value anywhere in the tree of a good file."""
    tree = json.loads(READERS[name][0])
    at, path = tree, []
    while isinstance(at, dict | list) and at:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        path.append((at, data.draw(st.sampled_from(keys))))
        at = at[path[-1][1]]
        if data.draw(st.booleans()):
            break
    owner, key = path[-1]
    owner[key] = data.draw(values)
    read_it(name, json.dumps(tree).encode(), tmp_path)


def test_bombs_are_refused(tmp_path):
    """Files that are small and claim to be enormous."""
    huge = 1 << 31
    bombs = {
        "a.json": json.dumps(
            {"images": [{"id": 1, "file_name": "a", "height": huge, "width": huge}],
             "categories": [], "annotations": []}
        ).encode(),
        "a.xml": b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'
        b"<Annotations>&b;</Annotations>",
        "a.geojson": b"[" * 100_000,
        "a.mat": _cell_bomb(),
    }  # fmt: skip
    for name, data in bombs.items():
        (tmp_path / name).write_bytes(data)
        tracemalloc.start()
        with pytest.raises(NucleateError):
            READERS[name][1](tmp_path / name)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < PEAK_BYTES, name


@pytest.mark.parametrize("claim", ["data", "name"])
def test_what_a_matlab_element_claims_is_not_set_aside(tmp_path, claim):
    """SciPy alone sets 3 GiB aside for these 18 KiB."""
    data = bytearray(_mat())
    at = (
        data.find(b"inst_map")
        if claim == "name"
        else data.find(struct.pack("<II", 9, 8 * 48**2)) + 8
    )
    data[at - 4 : at] = struct.pack("<I", 3 << 30)
    read_it("a.mat", bytes(data), tmp_path)


def _cell_bomb():
    """A MATLAB file whose inst_map is a cell array that claims 2**31 - 1 cells."""
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"inst_map": np.array([[1, "a"]], dtype=object)})
    data = bytearray(buffer.getvalue())
    at = data.find((2).to_bytes(4, "little"), 128 + 24)  # the dimensions 1, 2
    data[at : at + 4] = (2**31 - 1).to_bytes(4, "little")
    return bytes(data)

import gzip
import json

import numpy as np
import pytest

from nucleate.annotations.aperio_xml import read_aperio_xml
from nucleate.annotations.drawing import draw
from nucleate.annotations.geojson import read_geojson
from nucleate.errors import InputError
from tests.data.monuseg import xml_of
from tests.errors import says

SQUARE = [[1, 1], [3, 1], [3, 3], [1, 3]]

BOMB = """<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;">]><Annotations>&c;</Annotations>"""
OUTSIDE = """<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>
<Annotations>&e;</Annotations>"""


def test_xml_is_drawn_by_the_pixel_centre_rule(tmp_path):
    (tmp_path / "a.xml").write_text(xml_of([SQUARE, [[0, 0], [1, 1]]]))  # the second has 2 vertices
    labels = draw(read_aperio_xml(tmp_path / "a.xml"), (4, 4))
    assert labels.sum() == 4
    assert (labels[1:3, 1:3] == 1).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "entities"),
        (OUTSIDE, "entities"),
        ("<Annotations><Region>", "not valid XML"),
        ("", "empty"),
        ('<A><Region><Vertex X="1"/></Region></A>', "no readable X and Y"),
        ('<A><Region><Vertex X="a" Y="b"/></Region></A>', "no readable X and Y"),
        ("<svg/>", "not an Aperio annotation"),
        ('<?xml version="1.0" encoding="foo"?><Annotations/>', "not valid XML"),
        (xml_of([[["nan", 0], [1, 1], [2, 0]]]), "coordinates"),
        (xml_of([[[1e300, 0], [1, 1], [2, 0]]]), "coordinates"),
    ],
)
def test_bad_xml_is_one_clear_sentence(tmp_path, text, said):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(InputError, match=said):
        read_aperio_xml(tmp_path / "a.xml")


def _feature(geometry):
    return {"type": "Feature", "geometry": geometry, "properties": {}}


@pytest.mark.parametrize("packed", [False, True])
def test_geojson_of_qupath_is_read(tmp_path, packed):
    ring = [*SQUARE, SQUARE[0]]
    small = [[0, 0], [0.5, 0], [0.5, 0.5], [0, 0]]
    content = {
        "type": "FeatureCollection",
        "features": [
            _feature({"type": "Polygon", "coordinates": [ring]}),
            _feature(
                {"type": "MultiPolygon", "coordinates": [[small], [(np.array(ring) + 3).tolist()]]}
            ),
            _feature({"type": "Point", "coordinates": [1, 1]}),
        ],
    }
    path = tmp_path / ("a.geojson.gz" if packed else "a.geojson")
    data = json.dumps(content).encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    labels = draw(read_geojson(path), (8, 8))
    assert np.unique(labels).tolist() == [0, 1, 2]
    assert (labels[4:6, 4:6] == 2).all()


def _ring(coordinates):
    return '{"features": [{"geometry": {"type": "Polygon", "coordinates": ' + coordinates + "}}]}"


def test_damaged_gzip(tmp_path):
    data = bytearray(gzip.compress(b'{"features": []}' * 50))
    data[15] ^= 255
    (tmp_path / "a.geojson.gz").write_bytes(bytes(data))
    with pytest.raises(InputError, match=says("gzip")):
        read_geojson(tmp_path / "a.geojson.gz")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"features": [1]}', "not GeoJSON"),
        ('{"features": [{"geometry": {"type": "Polygon", "coordinates": [5]}}]}', "not GeoJSON"),
        ('{"features": 5}', "not GeoJSON"),
        (_ring("[[1, 2, 3]]"), "not GeoJSON"),
        (_ring("[[[1" + "0" * 400 + ", 2], [1, 1], [2, 2]]]"), "not GeoJSON"),
    ],
)
def test_bad_geojson_is_one_clear_sentence(tmp_path, text, said):
    (tmp_path / "a.geojson").write_text(text)
    with pytest.raises(InputError, match=said):
        read_geojson(tmp_path / "a.geojson")

"""Every export format: what is written is what was found, and other programs can read it."""

import csv
import json
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import tifffile
from PIL import Image

from nucleate import segment
from nucleate.annotations.drawing import draw
from nucleate.annotations.geojson import read_geojson
from nucleate.annotations.label_images import read_labels
from nucleate.errors import InputError, OutputError
from nucleate.features import COLUMNS, no_nuclei
from nucleate.files import atomic
from nucleate.readers.array import ArraySource
from nucleate.readers.remote import Mirror
from nucleate.results.formats import EXPORTERS
from nucleate.results.names import PARQUET
from nucleate.results.parquet import open_nuclei, writer
from nucleate.slides.outputs import Outputs
from nucleate.types import Frame
from tests.conftest import painted
from tests.errors import says
from tests.synthetic import tissue


@pytest.fixture
def found(oracle, tmp_path_factory):
    _, labels = tissue(180, 220, 40)
    image = painted(labels)
    nuclei = segment(image, oracle, mpp=0.25)
    return kept(tmp_path_factory, nuclei), ArraySource(image, 0.25, "tile.png"), labels


def kept(tmp_path_factory, nuclei):
    path = tmp_path_factory.mktemp("result") / f"tile{PARQUET}"
    with writer(path, nuclei, {"source": "tile.png"}) as file:
        half = np.arange(len(nuclei)) < len(nuclei) // 2
        file.write(nuclei.take(half))
        file.write(nuclei.take(~half))
    return open_nuclei(path)


@pytest.mark.parametrize("name", sorted(EXPORTERS))
def test_no_nuclei_is_a_valid_file(tmp_path, tmp_path_factory, name):
    source = ArraySource(np.full((30, 40, 3), 255, np.uint8), 0.25)
    path = tmp_path / f"x{EXPORTERS[name].suffix}"
    nothing = kept(tmp_path_factory, no_nuclei(Frame(40, 30, 0.25), ("nucleus",)))
    if name == "spatialdata":
        with pytest.raises(InputError, match=says("has no nuclei", "csv")):
            EXPORTERS[name].write(nothing, source, path)
        return
    EXPORTERS[name].write(nothing, source, path)
    assert path.stat().st_size > 0


@pytest.mark.parametrize("name", sorted(EXPORTERS.keys() - {"spatialdata"}))  # its own names
def test_same_result_same_bytes(tmp_path, found, name):
    nuclei, source, _ = found
    for i in range(2):
        EXPORTERS[name].write(nuclei, source, tmp_path / f"{i}{EXPORTERS[name].suffix}")
    one, other = (_contents(path) for path in sorted(tmp_path.iterdir()))
    assert one == other


def _contents(path):
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [file.read_bytes() for file in files if file.is_file()]


def test_labels_are_the_nuclei(tmp_path, found):
    nuclei, source, labels = found
    EXPORTERS["labels"].write(nuclei, source, tmp_path / "a.labels.tif")
    back = read_labels(tmp_path / "a.labels.tif")
    assert ((back > 0) == (labels > 0)).all()
    with tifffile.TiffFile(tmp_path / "a.labels.tif") as file:
        assert file.pages[0].dtype == np.int32
        assert file.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert file.pages[0].tags["XResolution"].value[0] / file.pages[0].tags["XResolution"].value[
            1
        ] == pytest.approx(40_000)


def test_the_overlay_of_a_large_image_is_a_jpeg(tmp_path, found):
    nuclei, source, _ = found
    for name in (".overlay.png", ".overlay.jpg"):
        EXPORTERS["overlay"].write(nuclei, source, tmp_path / name)
    pixels = []
    for name, kind in ((".overlay.png", "PNG"), (".overlay.jpg", "JPEG")):
        with Image.open(tmp_path / name) as image:
            assert image.format == kind
            pixels.append(np.asarray(image).astype(int))
    assert np.abs(pixels[0] - pixels[1]).mean() < 20


def test_large_images_get_the_suffix_of_large_images():
    place = Outputs(Mirror(Path("out"), None), "tile", None)
    assert place.files()["overlay"] == "tile.overlay.png"
    assert replace(place, is_large=True).files()["overlay"] == "tile.overlay.jpg"
    assert replace(place, is_large=True).files()["csv"] == place.files()["csv"]


def test_overlay_is_the_image_with_outlines(tmp_path, found):
    nuclei, source, _ = found
    EXPORTERS["overlay"].write(nuclei, source, tmp_path / "a.png")
    overlay = np.asarray(Image.open(tmp_path / "a.png"))
    image = source.read(0, 0, source.width, source.height)
    changed = (overlay != image).any(-1).mean()
    assert overlay.shape == image.shape
    assert 0.01 < changed < 0.5


def test_tables_hold_a_row_per_nucleus(tmp_path, found):
    nuclei, source, _ = found
    EXPORTERS["csv"].write(nuclei, source, tmp_path / "a.csv")
    table = pyarrow.parquet.read_table(nuclei.path)
    names = ["id", "x", "y", "bbox", *COLUMNS, "score", "class", "geometry"]
    assert table.column_names == names
    assert table.num_rows == nuclei.count > 10
    facts = json.loads(table.schema.metadata[b"nucleate"])
    assert facts["mpp"] == 0.25
    assert (facts["width"], facts["height"]) == (220, 180)
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [int(r["id"]) for r in rows] == table["id"].to_pylist()
    box = table["bbox"].combine_chunks()
    x, x0, x1 = (c.to_numpy() for c in (table["x"], box.field("xmin"), box.field("xmax")))
    assert ((x >= x0) & (x <= x1)).all()
    assert list(rows[0]) == ["id", "x", "y", "x0", "y0", "x1", "y1", *COLUMNS, "score", "class"]


def test_geojson_is_what_qupath_documents_and_comes_back(tmp_path, found):
    nuclei, source, labels = found
    path = tmp_path / "a.geojson"
    EXPORTERS["geojson"].write(nuclei, source, path)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["type"] == "FeatureCollection"
    assert len(content["features"]) == nuclei.count
    ids = {uuid.UUID(f["id"]) for f in content["features"]}
    assert len(ids) == nuclei.count
    for feature in content["features"]:
        assert feature["type"] == "Feature"
        ring = feature["geometry"]["coordinates"][0]
        assert feature["geometry"]["type"] == "Polygon"
        assert ring[0] == ring[-1]
        assert len(ring) >= 4
        properties = feature["properties"]
        assert properties["objectType"] == "detection"
        assert all(np.isfinite(v) for v in properties["measurements"].values())
        assert "Nucleus: Area µm^2" in properties["measurements"]
    assert ((draw(read_geojson(path), labels.shape) > 0) == (labels > 0)).all()


def _write_half(path):
    with atomic(path) as temporary:
        temporary.write_text("half")
        raise ValueError("stop")


def test_half_a_file_never_has_a_final_name(tmp_path):
    path = tmp_path / "out" / "a.txt"
    with pytest.raises(ValueError, match="stop"):
        _write_half(path)
    assert list(path.parent.iterdir()) == []


def test_full_disk_is_one_clear_sentence_and_keeps_the_earlier_file(tmp_path, monkeypatch):
    import errno
    import os

    path = tmp_path / "a.txt"
    path.write_text("earlier")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=says("disk", "full")), atomic(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "earlier"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]

"""What a user of Python types: segment, look, filter, save, read, convert, measure."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

import nucleate
from nucleate.errors import ConfigError, InputError
from tests.conftest import painted
from tests.errors import says
from tests.synthetic import tissue

LABELS = tissue(120, 150, 20)[1]
IMAGE = painted(LABELS)


@pytest.fixture
def nuclei(oracle):
    return nucleate.segment(IMAGE, oracle, mpp=0.25)


def test_columns_and_rows(nuclei):
    areas = nuclei["area_um2"]
    large = nuclei[areas > np.median(areas)]
    assert 0 < len(large) < len(nuclei)
    assert (large["area_um2"] > np.median(areas)).all()
    assert nuclei[:3]["id"].tolist() == [1, 2, 3]
    assert len(nuclei[0]) == 1
    np.testing.assert_array_equal(nuclei[[2, 0]]["id"], [3, 1])
    assert ((nuclei["x"] > 0) & (nuclei["x"] < 150)).all()
    with pytest.raises(InputError, match=says("area", "area_um2")):
        _ = nuclei["area"]


@pytest.mark.parametrize(
    "name", ["a.parquet", "a.nuclei.parquet", "a.csv", "a.geojson", "a.geojson.gz", "a.tif"]
)
def test_the_ending_says_the_format(nuclei, tmp_path, name):
    nuclei.save(tmp_path / name)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_saved_and_read_is_the_same(nuclei, tmp_path):
    nuclei.save(str(tmp_path / "a.parquet"))
    again = nucleate.read(str(tmp_path / "a.parquet"))
    np.testing.assert_array_equal(again.coords_xy, nuclei.coords_xy)
    assert again.frame == nuclei.frame
    assert {k: v.tolist() for k, v in again.features.items()} == {
        k: v.tolist() for k, v in nuclei.features.items()
    }


def test_labels_and_outlines_are_those_that_the_command_writes(nuclei, tmp_path):
    nuclei.save(tmp_path / "a.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), nuclei.to_labels())
    assert nucleate.evaluate(nuclei, LABELS).means()["aji"]["mean"] == 1
    nuclei.save(tmp_path / "a.geojson")
    assert len(json.loads((tmp_path / "a.geojson").read_text())["features"]) == len(nuclei)
    nuclei.save(tmp_path / "a.png", IMAGE)
    with Image.open(tmp_path / "a.png") as drawn:
        assert drawn.size == (150, 120)


def test_what_cannot_be_saved_is_said(nuclei, tmp_path):
    with pytest.raises(InputError, match=says("a.xyz", "unknown format")):
        nuclei.save(tmp_path / "a.xyz")
    with pytest.raises(InputError, match=says("a.png", "image=")):
        nuclei.save(tmp_path / "a.png")
    with pytest.raises(InputError, match=says("150 × 120", "segmented")):
        nuclei.save(tmp_path / "a.png", IMAGE[:50])
    assert not list(tmp_path.iterdir())


def test_tables_of_other_libraries(nuclei):
    table = nuclei.to_dataframe()
    assert len(table) == len(nuclei)
    np.testing.assert_allclose(table["area_um2"], nuclei["area_um2"])
    shapes = nuclei.to_geopandas()
    np.testing.assert_allclose(shapes.geometry.centroid.x, nuclei["x"], atol=0.5)
    found = nuclei.to_anndata()
    assert found.shape == (len(nuclei), len(nuclei.features))
    np.testing.assert_allclose(found.obsm["spatial"][:, 1], nuclei["y"], atol=1e-3)


def test_evaluate_takes_arrays_nuclei_and_files(nuclei, tmp_path):
    assert nucleate.evaluate(LABELS, LABELS).means()["pq"]["mean"] == 1
    assert "f1_detection" not in nucleate.evaluate(LABELS, LABELS).means()
    assert nucleate.evaluate(LABELS, LABELS, mpp=0.25).means()["f1_detection"]["mean"] == 1
    nuclei.save(tmp_path / "pred.parquet")
    nuclei.save(tmp_path / "truth.tif")
    report = nucleate.evaluate(tmp_path / "truth.tif", tmp_path / "truth.tif")
    assert report.means()["aji"]["mean"] == 1
    with pytest.raises(InputError, match=says("path", "read")):
        nucleate.evaluate(LABELS, tmp_path / "truth.tif")
    with pytest.raises(InputError, match=says("0.25", "0.5")):
        nucleate.evaluate(nuclei, LABELS, mpp=0.5)


def test_thresholds_device_and_progress(oracle):
    told = []
    nucleate.segment(IMAGE, oracle, mpp=0.25, tile_px=192, progress=lambda *t: told.append(t))
    assert told[-1][0] == told[-1][1] > 0
    assert len(nucleate.segment(IMAGE, oracle, mpp=0.25, progress=True)) == LABELS.max()
    with pytest.raises(ConfigError, match=says("loaded already", "load_model")):
        nucleate.segment(IMAGE, oracle, mpp=0.25, device="cpu")
    with pytest.raises(ConfigError, match=says("no threshold", "foregound")):
        nucleate.segment(IMAGE[:64, :64], mpp=0.25, thresholds={"foregound": 0.5})


def test_thresholds_replace_those_of_the_card():
    image = tissue(128, 128, 12)[0]
    few = nucleate.segment(image, mpp=0.25, thresholds={"min_area": 1e5})
    assert len(few) == 0


def test_segment_files_is_the_command(oracle, tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    rows = nucleate.segment_files(
        str(tmp_path), tmp_path / "out", oracle, mpp=0.25, formats=["geojson"]
    )
    assert [row["status"] for row in rows] == ["done"]
    assert rows[0]["nuclei"] == LABELS.max()
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {"a.geojson", "a.nuclei.parquet", "summary.json"}
    assert "mtl-small" in nucleate.list_models()


def test_glass_is_skipped_if_asked_for(oracle):
    image = np.full((2048, 2048, 3), 240, np.uint8)
    told = []
    nucleate.segment(
        image, oracle, mpp=0.25, tile_px=512, tissue_mask=True, progress=lambda *t: told.append(t)
    )
    assert told == []

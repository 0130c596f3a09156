"""What a user of Python types: segment, look, filter, save, read, convert, measure."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

import nucleate
from nucleate.errors import ConfigError, InputError, NucleateError
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
    printed = []
    nucleate.segment(IMAGE, oracle, mpp=0.25, tile_px=192, progress=lambda *t: printed.append(t))
    assert printed[-1][0] == printed[-1][1] > 0
    assert len(nucleate.segment(IMAGE, oracle, mpp=0.25, progress=True)) == LABELS.max()
    with pytest.raises(ConfigError, match=says("already loaded", "load_model")):
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
    printed = []
    nucleate.segment(
        image,
        oracle,
        mpp=0.25,
        tile_px=512,
        tissue_mask=True,
        progress=lambda *t: printed.append(t),
    )
    assert printed == []


WRONG = {  # what people type -> a call, and what the one sentence has to name
    "floating-point image": (lambda: nucleate.segment(IMAGE / 255, mpp=0.25), ("float64", "uint8")),
    "channels first": (lambda: nucleate.segment(IMAGE.transpose(2, 0, 1), mpp=0.25), ("moveaxis",)),
    "a batch": (lambda: nucleate.segment(IMAGE[None], mpp=0.25), ("shape", "three colour")),
    "a list": (lambda: nucleate.segment(IMAGE.tolist(), mpp=0.25), ("list", "one image")),
    "a grey image": (lambda: nucleate.segment(IMAGE[..., 0], mpp=0.25), ("grey-scale", "RGB")),
    "no resolution": (lambda: nucleate.segment(IMAGE), ("mpp=…", "0.25")),
    "text for mpp": (lambda: nucleate.segment(IMAGE, mpp="0.25"), ("'0.25'", "number")),
    "mpp for model": (lambda: nucleate.segment(IMAGE, 0.25), ("float", "mpp=0.25")),
    "a device": (lambda: nucleate.segment(IMAGE, mpp=0.25, device="gpu"), ("'gpu'", "cuda")),
    "a precision": (lambda: nucleate.segment(IMAGE, mpp=0.25, precision="fp16"), ("fp16", "f16")),
    "a threshold": (lambda: nucleate.segment(IMAGE, mpp=0.25, thresholds=0.5), ("dict",)),
    "floating-point labels": (lambda: nucleate.evaluate(LABELS / 1, LABELS), ("pred", "float64")),
    "labels in a list": (lambda: nucleate.evaluate(LABELS, LABELS.tolist()), ("truth", "asarray")),
    "PIL labels": (lambda: nucleate.evaluate(Image.fromarray(LABELS), LABELS), ("pred", "asarray")),
    "a mask": (lambda: nucleate.evaluate(LABELS > 0, LABELS), ("mask", "components")),
    "a path of labels": (lambda: nucleate.score_labels("a.png", LABELS), ("str", "read_labels")),
    "an array to read": (lambda: nucleate.read_image(IMAGE), ("ndarray", "path")),
    "labels to read": (lambda: nucleate.read_labels(LABELS), ("ndarray", "path")),
    "a dict to train": (lambda: nucleate.train({"name": "a"}), ("dict", "load_recipe")),
    "a list as sample": (lambda: nucleate.Sample([[1]], None, "a", "a"), ("image", "list")),
}  # fmt: skip


@pytest.mark.parametrize("slip", WRONG)
def test_a_slip_gets_one_sentence(slip):
    call, words = WRONG[slip]
    with pytest.raises(NucleateError, match=says(*words)):
        call()


def test_other_forms_of_one_image_give_the_same(oracle, nuclei):
    opaque = np.dstack([IMAGE, np.full(LABELS.shape, 255, np.uint8)])
    for image in (
        Image.fromarray(IMAGE),
        opaque,
        np.asfortranarray(IMAGE),
        IMAGE[::-1][::-1],
    ):
        found = nucleate.segment(image, oracle, mpp=np.float32(0.25))
        np.testing.assert_array_equal(found.coords_xy, nuclei.coords_xy)
    for labels in (LABELS.astype(np.uint16), LABELS.astype(np.int64), LABELS[None]):
        assert nucleate.evaluate(labels, LABELS).means()["aji"]["mean"] == 1


def test_plot_takes_what_segment_takes_and_refuses_the_same(nuclei):
    nuclei.plot(Image.fromarray(IMAGE))
    nuclei.plot(IMAGE.astype(np.uint16) * 257, column="area_um2")
    for image, words in (
        ("tile.png", ("path", "read_image")),
        (np.moveaxis(IMAGE, -1, 0), ("moveaxis",)),
        (IMAGE / 255, ("float64",)),
        (IMAGE[:50], ("150 × 50", "150 × 120")),
    ):
        with pytest.raises(InputError, match=says(*words)):
            nuclei.plot(image)


def test_one_format_may_be_a_word(oracle, tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    rows = nucleate.segment_files(tmp_path / "a.png", tmp_path / "out", oracle, 0.25, formats="csv")
    assert rows[0]["status"] == "done"
    assert (tmp_path / "out" / "a.nuclei.csv").is_file()

"""The plugin as napari meets it: manifest, layers, widget; drawn offscreen, without OpenGL."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from nucleate import segment
from nucleate.errors import InputError
from nucleate.napari_plugin import layers, widget
from nucleate.results.parquet import open_nuclei
from tests.errors import says
from tests.synthetic import tissue

IMAGE, _ = tissue(160, 200, 25)
pytestmark = pytest.mark.filterwarnings("ignore")  # napari's own


def _napari(module):
    """Return a module of napari, which takes seconds to import: not while tests are collected."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(f"napari.{module}")


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Return the file of nuclei that `nucleate segment` writes."""
    from PIL import Image as Pillow

    from nucleate.inference.loading import load_model
    from nucleate.slides.outputs import BatchOptions
    from nucleate.slides.segment_many import run_batch

    folder = tmp_path_factory.mktemp("napari")
    Pillow.fromarray(IMAGE).save(folder / "a.png")
    options = BatchOptions(mpp=0.25, formats=())
    run_batch([folder / "a.png"], folder / "out", load_model(), options, print, print)
    return folder / "out" / "a.nuclei.parquet"


def test_the_manifest_is_found_and_what_it_names_is_there():
    from npe2 import PluginManifest

    manifest = PluginManifest.from_distribution("nucleate")
    manifest.validate_imports()
    assert {c.id for c in manifest.contributions.commands} == {
        "nucleate.find_nuclei", "nucleate.open_result", "nucleate.example",
    }  # fmt: skip


def test_a_result_opens_as_labels_with_features(result):
    viewer = _napari("components").ViewerModel()
    assert layers.reader("a.tif") is None
    for data, options, kind in layers.reader(str(result))(str(result)):
        viewer._add_layer_from_data(data, options, kind)
    (layer,) = viewer.layers
    found = open_nuclei(result).read()
    assert set(np.unique(layer.data)) - {0} == set(found.ids)
    assert layer.features["index"].tolist() == found.ids.tolist()
    assert layer.features["area_um2"].tolist() == found.features["area_um2"].tolist()
    assert tuple(layer.scale) == (0.25, 0.25)
    assert {str(unit) for unit in layer.units} == {"micrometer"}


@pytest.mark.slow
def test_outlines_lie_on_the_labels(result):
    found = open_nuclei(result).read()
    data, options, kind = layers.outline_layer(found, "a")
    viewer = _napari("components").ViewerModel()
    viewer._add_layer_from_data(data, options, kind)
    (layer,) = viewer.layers
    assert layer.nshapes == len(found) > 5
    drawn = layer.to_labels(IMAGE.shape[:2]) > 0
    labels = layers.label_layer(found, "a")[0] > 0
    assert (drawn & labels).sum() / (drawn | labels).sum() > 0.85  # napari draws borders too


def test_the_widget_finds_what_segment_finds():
    pytest.importorskip("qtpy.QtWidgets", exc_type=ImportError)  # it needs libraries of the system
    program = Path(__file__).with_name("napari_widget.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", f"tests.integration.{program.stem}"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
    )  # fmt: skip
    assert "as it should be" in done.stdout, done.stderr


def test_the_scale_of_a_layer_is_taken_where_it_has_a_unit():
    image = _napari("layers").Image
    layer = image(IMAGE, rgb=True, name="a", scale=(250, 250), units=("nm", "nm"))
    data, options, _ = widget.find_nuclei(layer)[0]
    assert options["scale"] == (0.25, 0.25)
    assert data.max() == len(segment(IMAGE, mpp=0.25))
    with pytest.raises(InputError, match=r"0\.25 um/px.*0\.5\b"):
        widget.find_nuclei(layer, 0.5)
    with pytest.raises(InputError, match="scale is in pixels"):
        widget.find_nuclei(_napari("layers").Image(IMAGE, rgb=True, name="a"))


@pytest.mark.parametrize("pixels", [IMAGE[..., 0], IMAGE / 255.0], ids=["one channel", "floats"])
def test_other_layers_are_refused_in_one_sentence(pixels):
    layer = _napari("layers").Image(pixels, rgb=pixels.ndim == 3, name="a")
    with pytest.raises(InputError, match=says("RGB", "8-bit")):
        widget.find_nuclei(layer, 0.25)


def test_what_is_too_large_names_another_way(monkeypatch):
    found = segment(IMAGE, mpp=0.25)
    monkeypatch.setattr(layers, "MOST_PIXELS", 100)
    monkeypatch.setattr(layers, "MOST_OUTLINES", 3)
    with pytest.raises(InputError, match="nucleate view"):
        layers.label_layer(found, "a")
    with pytest.raises(InputError, match="labels only"):
        layers.outline_layer(found, "a")


def test_the_example_has_its_scale():
    ((pixels, options, kind),) = layers.example()
    assert (pixels.shape[2], kind) == (3, "image")
    assert options["scale"] == pytest.approx((0.499, 0.499))

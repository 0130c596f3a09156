"""One engine: Python, the command, the page server, `evaluate` and a Dask worker find the same."""

import time
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from nucleate import segment
from nucleate.datasets.base import Entry
from nucleate.datasets.loading import at_mpp
from nucleate.evaluation.evaluate import predictions
from nucleate.inference.pipeline import EngineOptions
from nucleate.readers.array import ArraySource
from nucleate.readers.images import read_image
from nucleate.readers.reader import Reader
from nucleate.results.parquet import open_nuclei
from nucleate.slides.cluster import connect
from nucleate.slides.outputs import BatchOptions
from nucleate.slides.segment_many import run_batch
from nucleate.slides.worker import ModelSpec
from nucleate.types import Sample
from nucleate.viewer.queue import Limits, Queue
from tests.synthetic_slide import glass_with_tissue, tissue_block, write_slide

SPEC = ModelSpec("mtl-small", "cpu", threads=1)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Return name -> (file, mpp to give, whether it is an image)."""
    folder = tmp_path_factory.mktemp("inputs")
    image = tissue_block().image
    Image.fromarray(image[:1000, :1000]).save(folder / "tile.png")
    half = cv2.resize(image[:1200, :1600], (800, 600), interpolation=cv2.INTER_AREA)
    Image.fromarray(half).save(folder / "scan20x.jpg", quality=85)
    wide = np.full((3000, 5000, 3), 244, np.uint8)
    wide[1400:2600, 400:2400] = cv2.resize(image[:600, :1000], (2000, 1200))  # an 80x scan
    wide[200:1000, 3000:4900] = cv2.resize(image[100:500, 100:1050], (1900, 800))
    Image.fromarray(wide).save(folder / "large.png", compress_level=1)
    glass_with_tissue(folder / "glass.tif")
    write_slide(folder / "damaged.tif", 4608, 1536, tissue_block(), damaged=(3, 3))  # two tiles
    return {
        "tile": (folder / "tile.png", 0.25, True), "scan20x": (folder / "scan20x.jpg", 0.5, True),
        "large": (folder / "large.png", 0.125, True), "glass": (folder / "glass.tif", None, False),
        "damaged": (folder / "damaged.tif", None, False),
    }  # fmt: skip


@pytest.fixture(scope="module")
def workers():
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None,
        silence_logs=50,
    ) as cluster:  # fmt: skip
        yield cluster


def _same(one, other):
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_array_equal(one.offsets, other.offsets)
    np.testing.assert_array_equal(one.coords_xy, other.coords_xy)
    np.testing.assert_array_equal(one.scores, other.scores)
    assert list(one.features) == list(other.features)
    for name, column in one.features.items():
        np.testing.assert_array_equal(column, other.features[name], err_msg=name)


@pytest.mark.filterwarnings("ignore")  # of Dask's server, in its threads
@pytest.mark.parametrize("name", ["tile", "scan20x", "large", "glass", "damaged"])
def test_all_ways_give_the_same_nuclei(name, inputs, workers, tmp_path, nucleate, monkeypatch):
    path, mpp, is_image = inputs[name]
    if not is_image:  # read tile by tile, as a slide is
        monkeypatch.setattr("nucleate.readers.tiff.is_large", lambda _: True)
    model = SPEC.load()
    with warnings.catch_warnings(record=True) as printed:
        warnings.simplefilter("always")
        found = segment(path, model, mpp)
    assert len(found) > 100
    lost = name == "damaged"
    assert any("could not be read" in str(w.message) for w in printed) == lost
    words = [] if mpp is None else ["--mpp", str(mpp)]
    code, _, err = nucleate(
        "segment", path, *words, "-o", tmp_path / "cli", "--formats", "parquet", "--threads", "1"
    )
    assert code == (3 if lost else 0), err
    _same(open_nuclei(tmp_path / "cli" / f"{path.stem}.nuclei.parquet").read(), found)
    options = BatchOptions(mpp=mpp, formats=())
    with connect(workers.scheduler_address, None, SPEC) as cluster:
        run_batch([path], tmp_path / "dask", cluster.model(), options, cluster=cluster)
    _same(open_nuclei(tmp_path / "dask" / f"{path.stem}.nuclei.parquet").read(), found)
    if is_image:
        _same(_served(path, mpp, model, tmp_path), found)
        image, _ = read_image(path)
        sample = Sample(image, np.zeros(image.shape[:2], np.int32), path.name, "a", mpp)
        entry = Entry(path.name, "a", lambda: sample)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scores without ground truth are not numbers
            (prediction,) = predictions(model, [entry], EngineOptions())
        _same(prediction.nuclei, found)


def _served(path, mpp, model, folder):
    """Return what the page server finds."""
    (folder / "served").mkdir()
    queue = Queue(model, Limits(), folder / "served", time.monotonic)
    try:
        number = queue.add(path.name, path.read_bytes(), mpp)
        until = time.monotonic() + 300
        while queue.job(number).state not in ("done", "failed"):
            assert time.monotonic() < until
            time.sleep(0.05)
        job = queue.job(number)
        assert job.state == "done", job.error
        (table,) = job.shown.layers.values()
        return open_nuclei(table.file.path).read()
    finally:
        queue.close()


@pytest.mark.parametrize("mpp", [0.25, 0.35, 0.5, 1.0])
@pytest.mark.parametrize("own", [0.25, 0.35, 0.5])
def test_training_and_inference_see_the_same_pixels(own, mpp):
    image = tissue_block().image[:301, :407]
    labels = np.zeros(image.shape[:2], np.int32)
    labels[40:60, 40:60] = 1
    trained = at_mpp(Sample(image, labels, "a", "a", own), mpp)
    reader = Reader(ArraySource(image), own)
    grid = reader.grid(mpp)
    seen = reader.read((0, 0, grid.width, grid.height), mpp)
    np.testing.assert_array_equal(trained.image, seen)
    assert trained.labels.shape == seen.shape[:2]
    part = reader.read((16, 8, 80, 64), mpp)
    np.testing.assert_allclose(seen[8:64, 16:80].astype(int), part, atol=1)  # rounding

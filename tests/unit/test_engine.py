"""The engine, with an oracle for a network: every nucleus once, whatever the tiles."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nucleate import load_model, postprocess, segment
from nucleate.errors import ConfigError, InputError
from nucleate.geometry.outlines import centroids_xy, rasterise
from nucleate.inference.backends import Model
from nucleate.inference.engine import run
from nucleate.inference.inputs import as_reader
from nucleate.inference.pipeline import EngineOptions
from nucleate.inference.segment import find_nuclei
from nucleate.inference.tiling import plan
from nucleate.inference.units import plan_units
from nucleate.readers.array import ArraySource
from nucleate.readers.images import as_image, read_image
from nucleate.readers.reader import Reader
from nucleate.results.parquet import open_nuclei, writer
from nucleate.slides.unit_files import UnitFiles, left_out
from tests.conftest import OracleBackend, oracle_card, painted
from tests.errors import says
from tests.synthetic import scattered, tissue


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 900),
    st.integers(1, 900),
    st.sampled_from([64, 128, 160, 300]),
    st.sampled_from([0, 5, 16, 24]),
    st.sampled_from([8, 16, 32]),
)
def test_cores_cover_the_image_once_and_reads_are_aligned(width, height, tile, halo, align):
    if tile - tile % align <= 2 * (halo + -halo % align):
        with pytest.raises(ConfigError, match="no core"):
            plan(width, height, tile, halo, align)
        return
    covered = np.zeros((height, width), int)
    for t in plan(width, height, tile, halo, align):
        x0, y0, x1, y1 = t.core
        covered[y0:y1, x0:x1] += 1
        assert all(v % align == 0 for v in t.read)
        assert t.read[2] - t.read[0] <= tile
        for low, high, read_low, read_high, size in (
            (x0, x1, t.read[0], t.read[2], width), (y0, y1, t.read[1], t.read[3], height),
        ):  # fmt: skip
            assert read_low == 0 or read_low <= low - halo
            assert read_high >= size or read_high >= high + halo
    assert (covered == 1).all()


@pytest.mark.parametrize("tile", [192, 256, 320, 512, 1024])
@pytest.mark.parametrize("batch", [1, 4])
def test_reassembly_is_exact(oracle, tile, batch):
    _, labels = tissue(700, 530, 500, seed=2)
    options = EngineOptions(tile, batch)
    found = find_nuclei(ArraySource(painted(labels), 0.25), oracle, None, options)
    back, _ = rasterise(found.nuclei.coords_xy, found.nuclei.offsets, labels.shape)
    assert len(found.nuclei) == labels.max()
    assert found.cut == 0
    pairs = {(int(a), int(b)) for a, b in zip(labels.ravel(), back.ravel(), strict=True)}
    assert len(pairs) == labels.max() + 1  # a one-to-one renumbering


def test_order_and_ids_do_not_depend_on_the_tiles(oracle):
    _, labels = tissue(600, 600, 300, seed=3)
    results = [
        find_nuclei(ArraySource(painted(labels), 0.25), oracle, None, EngineOptions(tile)).nuclei
        for tile in (192, 256, 1024)
    ]
    for other in results[1:]:
        np.testing.assert_array_equal(results[0].coords_xy, other.coords_xy)
        for name, column in results[0].features.items():
            np.testing.assert_allclose(column, other.features[name], rtol=1e-5, err_msg=name)


class WobblingOracle(OracleBackend):
    """Sees every tile shifted by up to one pixel: tiles disagree, as real networks do."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __call__(self, batch):
        maps = super().__call__(batch)["foreground"]
        return {
            "foreground": np.stack([np.roll(m, self.rng.integers(-1, 2, 2), (0, 1)) for m in maps])
        }


def test_nothing_is_lost_or_doubled_when_tiles_disagree(oracle):
    labels = scattered(1200, 1200, step=14, size=10)
    wobbling = Model(oracle_card(), WobblingOracle())
    found = find_nuclei(ArraySource(painted(labels), 0.25), wobbling, None, EngineOptions(192))
    assert abs(len(found.nuclei) - labels.max()) <= 0.001 * labels.max()


def test_views_that_hide_each_other_are_one_nucleus(oracle):
    """A clump that one tile sees whole and its neighbour in parts must not be counted twice."""
    labels = np.zeros((400, 700), np.int32)
    labels[100:140, 150:190], labels[100:140, 190:230] = 1, 2  # over the border at x = 192

    class Merging(OracleBackend):
        def __call__(self, batch):
            maps = super().__call__(batch)["foreground"]
            if not self.merged:
                maps[maps == 2] = 1
            self.merged = True
            return {"foreground": maps}

    backend = Merging()
    backend.merged = False
    nuclei = find_nuclei(
        ArraySource(painted(labels), 0.25), Model(oracle_card(), backend), None, EngineOptions(256)
    ).nuclei
    _, contested = rasterise(nuclei.coords_xy, nuclei.offsets, labels.shape)
    assert contested <= 0.5 * 40 * 40


def test_object_larger_than_a_tile_sees_is_reported(oracle):
    labels = np.zeros((600, 600), np.int32)
    labels[100:500, 100:500] = 1
    found = find_nuclei(ArraySource(painted(labels), 0.25), oracle, None, EngineOptions(256))
    assert 0 < found.cut <= len(found.nuclei)


def _components(maps, thresholds):
    return cv2.connectedComponents((maps["foreground"] > 100).view(np.uint8))[1].astype(np.int32)


@pytest.mark.parametrize("mpp", [0.125, 0.2, 0.4, 0.5])
def test_other_resolutions_are_resampled_and_come_back_in_level_0(monkeypatch, mpp):
    monkeypatch.setitem(
        postprocess.DECODERS,
        "pieces",
        postprocess.Decoder(("foreground",), {}, {}, postprocess.one_layer(_components)),
    )
    model = Model(oracle_card(decoder="pieces"), OracleBackend())
    step = round(6 / mpp)  # squares of 4 um, 6 um apart
    squares = scattered(480, 480, step, step * 2 // 3)
    image = painted((squares > 0).astype(np.int32) * 200)
    nuclei = segment(image, model, mpp=mpp, tile_px=256)
    assert len(nuclei) == squares.max()
    assert nuclei.frame.width == 480
    area = float(np.median(nuclei.features["area_um2"]))
    assert area == pytest.approx((step * 2 // 3 * mpp) ** 2, rel=0.05)
    true_xy = np.array([[x, y] for y in range(0, 480 - step * 2 // 3, step)
                        for x in range(0, 480 - step * 2 // 3, step)])  # fmt: skip
    np.testing.assert_allclose(nuclei.boxes_xyxy[:, :2], true_xy, atol=1.01)


@pytest.mark.parametrize("tile", [192, 1024])
def test_objects_of_the_colour_of_ink_are_left_out_and_counted_once(monkeypatch, tmp_path, tile):
    """Not by default: only if a model or the user sets the threshold."""
    monkeypatch.setitem(
        postprocess.DECODERS,
        "pieces",
        postprocess.Decoder(("foreground",), {}, {}, postprocess.one_layer(_components)),
    )
    squares = scattered(400, 400, step=14, size=10)
    colours = np.array([[0, 0, 0], [110, 80, 150], [20, 90, 160], [12, 10, 14]], np.uint8)
    kind = np.where(squares == 0, 0, 1 + squares % 3)  # a nucleus, blue ink, black
    source, options = ArraySource(colours[kind], 0.25), EngineOptions(tile)
    nuclei, blue, black = np.bincount(1 + np.arange(1, squares.max() + 1) % 3)[1:]

    def model(**thresholds):
        return Model(oracle_card(decoder="pieces", thresholds=thresholds), OracleBackend())

    whole = find_nuclei(source, model(), None, options)
    assert (len(whole.nuclei), whole.ink) == (squares.max(), 0)
    found = find_nuclei(source, model(ink=0.5), None, options)
    assert (len(found.nuclei), found.ink) == (nuclei, blue + black)
    assert f"objects of the colour of ink, or black, left out: {found.ink}" in found.notes()
    x, y = centroids_xy(found.nuclei.coords_xy, found.nuclei.offsets).astype(int).T
    assert (kind[y, x] == 1).all()

    reader, files = (
        Reader(source, 0.25),
        UnitFiles(tmp_path, "job", whole.nuclei.frame, ("nucleus",)),
    )
    units = plan_units(reader, model().card, options, None)
    run(reader, model(ink=0.5), options, files, units)
    assert left_out(tmp_path, units, "job") == ([], found.ink)


@pytest.mark.parametrize("scale", [0.5, 0.77, 2.0])
def test_a_working_pixel_has_one_value_whichever_tile_reads_it(scale):
    image, _ = tissue(150, 130, 20)
    slide = Reader(ArraySource(image), 0.25)
    whole = slide.read((0, 0, 64, 64), 0.25 / scale)
    part = slide.read((16, 32, 48, 64), 0.25 / scale)
    np.testing.assert_allclose(whole[32:64, 16:48].astype(int), part, atol=1)


def test_constant_in_constant_out():
    slide = Reader(ArraySource(np.full((50, 70, 3), 137, np.uint8)), 0.25)
    for scale in (0.3, 1.0, 1.7):
        tile = slide.read((0, 0, 128, 128), 0.25 / scale)
        assert (tile == 137).all()


def test_resolution_is_never_guessed(oracle):
    image = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(InputError, match=says("mpp", "--suggest-mpp", "--mpp")):
        segment(image, oracle)
    for mpp in (500, 0, -1, 1e-9, float("nan"), float("inf")):
        with pytest.raises(InputError, match=r"0\.02 to 20"):
            segment(image, oracle, mpp=mpp)
    for stated, mpp, ratio in ((0.26, None, 1.0), (0.25, 0.5, 2.0)):
        slide = as_reader(ArraySource(image, stated), oracle.card, mpp, override_mpp=True)
        assert slide.grid(oracle.card.mpp).asked_per_level0 == ratio


def test_a_file_that_states_another_resolution_is_refused_or_overridden(oracle, tmp_path):
    image = painted(tissue(64, 64, 9)[1])
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, image, photometric="rgb", resolution=(4e4, 4e4), resolutionunit=3)
    with pytest.raises(InputError, match=r"a\.tif.*0\.25 um/px.*0\.5\b.*--override-mpp"):
        segment(path, oracle, mpp=0.5)
    assert segment(path, oracle, mpp=0.26).frame.mpp == 0.25  # within 5 %: that of the file
    assert segment(path, oracle, mpp=0.5, override_mpp=True).frame.mpp == 0.5


def test_an_image_without_nuclei_has_all_columns(oracle, tmp_path):
    labels = np.zeros((64, 64), np.int32)
    none = segment(painted(labels), oracle, mpp=0.25)
    labels[10:20, 10:20] = 1
    one = segment(painted(labels), oracle, mpp=0.25)
    assert len(none) == 0
    assert list(none.features) == list(one.features)
    assert [c.dtype for c in none.features.values()] == [c.dtype for c in one.features.values()]
    with writer(tmp_path / "none.parquet", none, {}):
        pass
    assert list(open_nuclei(tmp_path / "none.parquet").read().features) == list(one.features)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (17, 2000)])
def test_any_image_size(oracle, shape):
    labels = np.zeros(shape, np.int32)
    labels[0, 0] = 5
    nuclei = segment(painted(labels), oracle, mpp=0.25, tile_px=256)
    assert len(nuclei) == 1
    assert nuclei.boxes_xyxy.tolist() == [[0, 0, 1, 1]]


def test_tiles_are_as_large_as_the_card_says_unless_the_user_chooses(oracle):
    read = []

    class Watched(OracleBackend):
        def __call__(self, batch):
            read.append(batch.shape[1])
            return super().__call__(batch)

    model = Model(replace(oracle.card, tile_px=512), Watched())
    image = painted(np.zeros((1000, 700), np.int32))
    for chosen, largest in ((None, 512), (256, 256), (2048, 1008)):
        read.clear()
        segment(image, model, mpp=0.25, tile_px=chosen)
        assert max(read) == largest


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((5, 5), np.uint8), "grey-scale"),
        (np.zeros((5, 5, 3), np.float32), "float32.*8 or 16 bits"),
        (np.zeros((0, 5, 3), np.uint8), "no pixels"),
        (np.zeros((3, 50, 60), np.uint8), "channels first.*moveaxis"),
        (np.zeros((2, 5, 5, 3), np.uint8), "shape"),
        (Image.new("L", (5, 5)), "grey-scale"),
        (Image.new("I;16", (5, 5)), "grey-scale"),
        ([np.zeros((5, 5, 3), np.uint8)], "one image.*segment_files"),
        ({}, "dict.*PIL image"),
    ],
)
def test_what_is_no_image(oracle, given, said):
    with pytest.raises(InputError, match=said):
        segment(given, oracle, mpp=0.25)


def test_an_image_in_memory_is_taken_as_from_a_file(oracle, tmp_path):
    image = painted(tissue(60, 80, 9)[1])
    image[-1, -1] = 255  # so that 16 bits are used to the full
    opaque = np.concatenate([image, np.full((60, 80, 1), 255, np.uint8)], axis=2)
    clear = np.concatenate([image, np.full((60, 80, 1), 7, np.uint8)], axis=2)
    expected = segment(image, oracle, mpp=0.25)
    palette = Image.fromarray(image).quantize(256)
    pillow = Image.fromarray(image)
    deep = image.astype(np.uint16) * 257
    others = opaque, deep, pillow, Image.fromarray(opaque), palette, pillow.convert("RGBX")
    for other in others:
        found = segment(other, oracle, mpp=0.25)
        np.testing.assert_array_equal(found.coords_xy, expected.coords_xy)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    np.testing.assert_array_equal(as_image("x", clear), read_image(tmp_path / "clear.png")[0])


def test_components_are_the_same_before_and_after_the_engine():
    """A ring with something inside: outlines have no holes, so the decoder fills them."""
    from nucleate.geometry.outlines import rasterise, trace
    from nucleate.postprocess import components

    ring = np.zeros((60, 60), np.float32)
    ring[5:55, 5:55] = 1
    ring[8:52, 8:52] = 0
    ring[25:35, 25:35] = 1
    labels = components({"foreground": ring}, {"foreground": 0.5, "min_area": 1})
    assert labels.max() == 1
    coords, offsets, _ = trace(labels)
    np.testing.assert_array_equal(rasterise(coords, offsets, (60, 60))[0], labels)


def test_processes_beside_each_other_are_not_pinned_to_the_same_cores():
    backend = load_model(device="cpu", threads=1).backend
    assert backend._compiled.get_property("ENABLE_CPU_PINNING") is False

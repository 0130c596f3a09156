"""Slides: nothing lost, nothing twice, whatever the tiles, and however often killed."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from skimage.measure import label

from nucleate import postprocess
from nucleate.errors import ConfigError, InputError
from nucleate.geometry.labels import boxes_areas
from nucleate.inference import units
from nucleate.inference.backends import Model
from nucleate.inference.pipeline import EngineOptions
from nucleate.inference.segment import find_nuclei
from nucleate.readers.opening import open_source
from nucleate.results.parquet import open_nuclei
from nucleate.slides import segment_one
from nucleate.slides.outputs import BatchOptions
from nucleate.slides.segment_many import run_batch
from tests.conftest import OracleBackend, oracle_card
from tests.errors import says
from tests.synthetic_slide import glass_with_tissue, painted_block, tissue_block, write_slide


def _decode(maps, thresholds):
    return label(np.rint(maps["foreground"]).astype(np.int32), connectivity=1).astype(np.int32)


@pytest.fixture
def oracle(monkeypatch):
    decoder = postprocess.Decoder(("foreground",), {}, {}, postprocess.one_layer(_decode))
    monkeypatch.setitem(postprocess.DECODERS, "oracle", decoder)
    monkeypatch.setattr(units, "UNIT_PX", 1232)
    return Model(oracle_card(halo_px=128), OracleBackend())


@pytest.fixture(scope="module")
def painted_slide(tmp_path_factory):
    """Return a slide from whose colours the oracle reads the nuclei, and boxes and areas of all."""
    path = tmp_path_factory.mktemp("slides") / "painted.tif"
    block = painted_block(tissue_block())
    width, height = 3060, 2820
    write_slide(path, width, height, block, lossless=True, glass=(0, 0, 0))
    whole = np.tile(block.labels, (2, 2))[:height, :width]
    truth = label(whole, connectivity=1).astype(np.int32)
    boxes, areas = boxes_areas(truth, int(truth.max()))
    return path, sorted(map(tuple, np.column_stack([boxes, areas]).tolist()))


def _found(path):
    nuclei = open_nuclei(path).read()
    areas = np.rint(nuclei.features["area_um2"] / 0.25**2)
    return sorted(map(tuple, np.column_stack([nuclei.boxes_xyxy, areas]).astype(int).tolist()))


def _run(path, out, model, tile=624, **changes):
    options = BatchOptions(formats=(), engine=EngineOptions(tile), **changes)
    return run_batch([path], out, model, options)["sources"][0]


@pytest.mark.parametrize("tile", [464, 1232])
def test_all_nuclei_come_back_exactly_once(tmp_path, oracle, painted_slide, tile):
    path, truth = painted_slide
    row = _run(path, tmp_path / "out", oracle, tile)
    assert _found(tmp_path / "out" / row["files"]["parquet"]) == truth
    assert len(truth) > 2500
    assert [p.name for p in (tmp_path / "out").iterdir()] != []
    assert not list((tmp_path / "out").glob(".*"))


def test_units_are_what_one_image_is(tmp_path, oracle, painted_slide):
    """Ids, order and neighbours do not tell where the units were, but for the order."""
    path, _ = painted_slide
    row = _run(path, tmp_path / "out", oracle)
    found = open_nuclei(tmp_path / "out" / row["files"]["parquet"]).read()
    whole = find_nuclei(open_source(path), oracle, None, EngineOptions(624)).nuclei
    assert found.ids.tolist() == list(range(1, len(whole) + 1))
    keys = [np.lexsort(t.boxes_xyxy.T) for t in (found, whole)]
    assert found.features.keys() == whole.features.keys()
    for name in found.features:
        one, other = found.features[name][keys[0]], whole.features[name][keys[1]]
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4, err_msg=name)


class Failing(OracleBackend):
    """Stops after some tiles, as if the machine had."""

    def __init__(self, tiles):
        self.left = tiles

    def __call__(self, batch):
        self.left -= 1
        if self.left < 0:
            raise InputError("stopped")
        return super().__call__(batch)


def test_resume_yields_the_same_bytes(tmp_path, oracle, painted_slide, monkeypatch):
    path, _ = painted_slide
    monkeypatch.setattr(segment_one, "RASTER_PIXELS", 1000)
    changes = {"tissue_mask": False}
    _run(path, tmp_path / "whole", oracle, 464, **changes)
    for tiles in (7, 23):
        failing = Model(oracle.card, Failing(tiles))
        with pytest.raises(InputError, match="stopped"):
            _run(path, tmp_path / "out", failing, 464, resume=True, **changes)
        assert not list(tmp_path.glob("out/*.parquet"))
    row = _run(path, tmp_path / "out", oracle, 464, resume=True, **changes)
    assert "units were already segmented" in row["notes"][0]
    name = row["files"]["parquet"]
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    before = (tmp_path / "out" / name).stat().st_mtime_ns
    row = _run(path, tmp_path / "out", oracle, 464, resume=True, **changes)
    assert row["notes"] == ["already segmented"]
    assert (tmp_path / "out" / name).stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("change", "said"),
    [({"tile": 624}, "another tile px"), ({"mpp": 0.24}, "another mpp"),
     ({"card": {"thresholds": {"x": 2.0}}}, "another thresholds"),
     ({"card": {"name": "other"}}, "another model"), ({"touch": True}, "another source")],
)  # fmt: skip
def test_only_the_same_goes_on(tmp_path, oracle, monkeypatch, change, said):
    monkeypatch.setattr(segment_one, "RASTER_PIXELS", 1000)
    decoder = postprocess.Decoder(
        ("foreground",), {"x": 1.0}, {}, postprocess.one_layer(lambda m, t: _decode(m, t))
    )
    monkeypatch.setitem(postprocess.DECODERS, "oracle", decoder)
    path = tmp_path / "a.png"
    image = painted_block(tissue_block()).image[:1560, :1560]
    Image.fromarray(image).save(path)
    with pytest.raises(InputError, match="stopped"):
        _run(path, tmp_path / "out", Model(oracle.card, Failing(12)), 464, mpp=0.25, resume=True,
             tissue_mask=False)  # fmt: skip
    if change.get("touch"):
        Image.fromarray(np.ascontiguousarray(image[::-1])).save(path)
    card = oracle_card(halo_px=128, **change.get("card", {}))
    with pytest.raises(ConfigError, match=said):
        _run(path, tmp_path / "out", Model(card, OracleBackend()), change.get("tile", 464),
             mpp=change.get("mpp", 0.25), resume=True, tissue_mask=False)  # fmt: skip


def test_what_cannot_be_read_is_left_out_and_said(tmp_path, nucleate, monkeypatch):
    monkeypatch.setattr(segment_one, "RASTER_PIXELS", 1000)
    path = tmp_path / "a.tif"
    write_slide(path, 3072, 3072, tissue_block(), damaged=(6, 6))
    monkeypatch.setattr("nucleate.readers.tiff.is_large", lambda _: True)
    code, out, err = nucleate("segment", path, "-o", tmp_path / "out", "--tile-px", "1024")
    assert code == 3
    assert "nuclei in 1 source" in out
    assert says("tiles", "read").search(err)
    row = json.loads((tmp_path / "out" / "summary.json").read_text())["sources"][0]
    assert row["status"] == "incomplete"
    assert 1 <= len(row["lost"]) <= 4
    assert any(e["box"][0] <= 1600 <= e["box"][2] and e["box"][1] <= 1600 <= e["box"][3]
               for e in row["lost"])  # fmt: skip
    assert "cannot be read" in row["lost"][0]["reason"]
    assert row["nuclei"] > 1500
    image = np.asarray(Image.open(tmp_path / "out" / "a.overview.png"))
    assert image.shape[1] > image.shape[0] > 900
    assert row["tissue_mm2"] == pytest.approx(0.59, rel=0.05)
    assert row["features"]["area_um2"]["q50"] > 10


def test_a_slide_that_vanishes_stops_the_run_and_can_go_on(tmp_path, oracle, painted_slide,
                                                           monkeypatch):  # fmt: skip
    monkeypatch.setattr(segment_one, "RASTER_PIXELS", 1000)
    monkeypatch.setattr("nucleate.readers.tiff.is_large", lambda _: True)
    path, truth = tmp_path / "a.tif", painted_slide[1]
    data = painted_slide[0].read_bytes()
    path.write_bytes(data)

    class Vanishing(Failing):
        def __call__(self, batch):
            self.left -= 1
            if self.left == 0:
                path.unlink()
            return OracleBackend.__call__(self, batch)

    with pytest.raises(InputError, match="is missing"):
        _run(path, tmp_path / "out", Model(oracle.card, Vanishing(20)), 464, tissue_mask=False)
    assert not list((tmp_path / "out").glob("*.parquet"))
    path.write_bytes(data)
    row = _run(path, tmp_path / "out", oracle, 464, tissue_mask=False, resume=True)
    assert "units were already segmented" in row["notes"][0]
    assert _found(tmp_path / "out" / row["files"]["parquet"]) == truth


@pytest.mark.slow
def test_decoding_in_processes_is_the_same(tmp_path):
    path = tmp_path / "a.tif"
    write_slide(path, 1800, 1500, tissue_block())
    for name, count in (("thread", 0), ("processes", 2)):
        done = subprocess.run(
            [sys.executable, "-m", "nucleate", "segment", str(path), "-o", str(tmp_path / name),
             "--tile-px", "768", "--decoders", str(count), "--formats", "parquet"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    one, other = (pq.read_table(tmp_path / n / "a.nuclei.parquet") for n in ("thread", "processes"))
    assert len(one) > 500
    for name in one.column_names:
        assert one[name].combine_chunks() == other[name].combine_chunks() or name == "nearest_um"


@pytest.mark.slow
def test_killed_again_and_again(tmp_path):
    """SIGKILL at random moments, with --resume after each: the table of the undisturbed run."""
    path = glass_with_tissue(tmp_path / "a.tif")
    command = [sys.executable, "-m", "nucleate", "segment", str(path),
               "--tile-px", "1024", "--formats", "parquet", "--resume", "-o"]  # fmt: skip
    quiet = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    started = time.monotonic()
    assert subprocess.run([*command, str(tmp_path / "whole")], **quiet, check=False).returncode == 0
    usual = time.monotonic() - started
    rng = np.random.default_rng(1)
    kills = 0
    for _ in range(4):
        process = subprocess.Popen([*command, str(tmp_path / "out")], **quiet)
        try:
            process.wait(float(rng.uniform(0.3, 1.0)) * usual)
            break
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
    assert kills
    assert subprocess.run([*command, str(tmp_path / "out")], **quiet, check=False).returncode == 0
    one, other = (pq.read_table(tmp_path / n / "a.nuclei.parquet") for n in ("whole", "out"))
    assert one.schema.equals(other.schema)
    assert one.to_pandas().drop(columns="bbox").equals(other.to_pandas().drop(columns="bbox"))
    assert not list((tmp_path / "out").glob(".*"))


def test_too_little_memory_is_said_before_the_start(tmp_path, nucleate):
    path = tmp_path / "a.png"
    Image.fromarray(tissue_block().image[:300, :300]).save(path)
    words = ["segment", path, "-o", tmp_path / "out", "--mpp", "0.25", "--max-memory"]
    for limit, said in (("10M", "Lower --tile-px"), ("many", "Write a number and a unit")):
        code, _, err = nucleate(*words, limit)
        assert code == 2
        assert said in err
        assert not (tmp_path / "out").exists()
    assert nucleate(*words, "20G")[0] == 0


def test_what_cannot_be_written_is_said_before_the_start(tmp_path, nucleate, monkeypatch):
    covered = np.zeros((8, 8), bool)
    write_slide(tmp_path / "a.tif", 24_000, 23_000, tissue_block(), covered=covered)
    words = ["segment", tmp_path / "a.tif", "-o", tmp_path / "out", "--formats"]
    code, _, err = nucleate(*words, "overlay")
    assert code == 2
    assert says("too many", "overlay").search(err)
    monkeypatch.setitem(sys.modules, "zarr", None)
    code, _, err = nucleate(*words, "ome-zarr")
    assert code == 2
    assert "extra 'export'" in err
    assert "'zarr>=3.0'" in err
    assert not (tmp_path / "out").exists()


def test_a_slide_of_glass_has_no_nuclei(tmp_path, nucleate):
    write_slide(tmp_path / "a.tif", 11_000, 9_500, tissue_block(), covered=np.zeros((4, 4), bool))
    code, out, _ = nucleate("segment", tmp_path / "a.tif", "-o", tmp_path / "out")
    assert code == 0
    assert "0 nuclei in 1 source" in out
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "a.nuclei.parquet", "a.overview.png", "summary.json",
    }  # fmt: skip
    row = json.loads((tmp_path / "out" / "summary.json").read_text())["sources"][0]
    assert row["features"]["area_um2"]["mean"] is None
    assert row["nuclei_per_mm2_of_tissue"] == 0


def test_thin_nuclei_along_a_seam_stand_once(tmp_path, oracle, monkeypatch):
    """Two units see a nucleus beside their seam, one of them beyond its core: one view stays."""
    monkeypatch.setattr(segment_one, "RASTER_PIXELS", 1000)

    class Shifting(OracleBackend):
        """Sees every tile a pixel too far left or right: tiles disagree."""

        count = 0

        def __call__(self, batch):
            maps = super().__call__(batch)["foreground"]
            self.count += 1
            return {"foreground": np.roll(maps, 1 if self.count % 2 else -1, axis=2)}

    labels = np.zeros((900, 3000), np.int32)
    number = 0
    for x in range(20, 2970, 18):
        for y in range(20, 880, 40):
            number += 1
            labels[y : y + 30, x : x + 5] = number
    path = tmp_path / "a.png"
    colours = np.stack([labels & 255, (labels >> 8) & 255, labels >> 16], -1).astype(np.uint8)
    Image.fromarray(colours).save(path)
    monkeypatch.setattr(units, "UNIT_PX", 512)
    model = Model(oracle.card, Shifting())
    row = _run(path, tmp_path / "out", model, 512, mpp=0.25, tissue_mask=False)
    found = open_nuclei(tmp_path / "out" / row["files"]["parquet"]).read()
    centres = found.boxes_xyxy.reshape(-1, 2, 2).mean(axis=1)
    apart = np.abs(centres[:, None] - centres[None, :]).max(axis=2) + np.eye(len(centres)) * 99
    twice = int((apart < 3).sum() / 2)
    assert twice == 0
    assert abs(len(found) - number) <= 0.01 * number


def test_what_another_run_left_is_never_mixed_in(tmp_path, oracle, painted_slide, monkeypatch):
    """A file of a unit that is damaged, or of another job, is done again."""
    monkeypatch.setattr(segment_one, "RASTER_PIXELS", 1000)
    path, truth = painted_slide
    for tiles in (12, 25):
        failing = Model(oracle.card, Failing(tiles))
        with pytest.raises(InputError, match="stopped"):
            _run(path, tmp_path / "out", failing, 464, tissue_mask=False, resume=True)
    files = sorted((tmp_path / "out" / ".painted.units").glob("unit-*.parquet"))
    files[0].write_bytes(files[0].read_bytes()[:-200])
    other = Model(oracle_card(halo_px=128, name="other"), Failing(12))
    with pytest.raises(InputError, match="stopped"):
        _run(path, tmp_path / "other", other, 464, tissue_mask=False)
    foreign = next((tmp_path / "other" / ".painted.units").glob("unit-*.parquet"))
    files[1].write_bytes(foreign.read_bytes())
    row = _run(path, tmp_path / "out", oracle, 464, tissue_mask=False, resume=True)
    assert _found(tmp_path / "out" / row["files"]["parquet"]) == truth


def test_damage_inside_of_a_unit_is_one_sentence_and_fixed(
    tmp_path, oracle, painted_slide, monkeypatch
):
    monkeypatch.setattr(segment_one, "RASTER_PIXELS", 1000)
    path, truth = painted_slide
    with pytest.raises(InputError, match="stopped"):
        _run(path, tmp_path / "out", Model(oracle.card, Failing(20)), 464, tissue_mask=False)
    file = min((tmp_path / "out" / ".painted.units").glob("unit-*.parquet"))
    data = bytearray(file.read_bytes())
    data[100:2000] = b"\xff" * 1900
    file.write_bytes(data)
    with pytest.raises(InputError, match="is damaged"):
        _run(path, tmp_path / "out", oracle, 464, tissue_mask=False, resume=True)
    row = _run(path, tmp_path / "out", oracle, 464, tissue_mask=False, resume=True)
    assert _found(tmp_path / "out" / row["files"]["parquet"]) == truth


@pytest.mark.slow
def test_a_new_run_after_an_older_one_goes_on_with_its_own(
    tmp_path, oracle, painted_slide, monkeypatch
):
    monkeypatch.setattr(segment_one, "RASTER_PIXELS", 1000)
    path, _ = painted_slide
    _run(path, tmp_path / "out", oracle, 624, tissue_mask=False)
    with pytest.raises(InputError, match="stopped"):
        _run(path, tmp_path / "out", Model(oracle.card, Failing(20)), 464, tissue_mask=False)
    row = _run(path, tmp_path / "out", oracle, 464, tissue_mask=False, resume=True)
    assert "units were already segmented" in row["notes"][0]
    assert open_nuclei(tmp_path / "out" / "painted.nuclei.parquet").facts["job"]["tile_px"] == 464
    assert not list((tmp_path / "out").glob(".*"))


def test_folders_of_results_are_written_again(tmp_path, nucleate):
    (tmp_path / "in").mkdir()
    Image.fromarray(tissue_block().image[:300, :300]).save(tmp_path / "in" / "a.png")
    out = tmp_path / "in" / "a"
    words = ["segment", tmp_path / "in" / "a.png", "-o", out, "--mpp", "0.25", "--formats"]
    for more in ([], [], ["--resume"]):
        assert nucleate(*words, "ome-zarr,csv", *more)[0] == 0
    assert nucleate("segment", tmp_path / "in", "-o", tmp_path / "b", "--mpp", "0.25")[0] == 0
    assert {p.name for p in (tmp_path / "b").iterdir()} == {
        "a.nuclei.parquet", "a.labels.tif", "a.overlay.png", "a.nuclei.csv", "a.geojson",
        "summary.json",
    }  # fmt: skip


def test_damage_far_away_hides_no_tissue(tmp_path):
    from nucleate.quality.tissue import survey
    from nucleate.readers.reader import Reader
    from nucleate.readers.tiff import TiffSource

    areas = []
    for damaged in (None, (7, 9)):
        write_slide(tmp_path / "a.tif", 6144, 6144, tissue_block(), damaged=damaged, levels=1)
        areas.append(survey(Reader(TiffSource(tmp_path / "a.tif"), 0.25)).mm2)
    assert areas[1] == pytest.approx(areas[0], rel=0.01)

"""Reading slides: levels, grids, damage; one pixel has one value anyone who reads it."""

import shutil

import cv2
import numpy as np
import pytest
import tifffile
from PIL import ImageCms

from nucleate.errors import InputError
from nucleate.readers.array import ArraySource
from nucleate.readers.associated import read_extras
from nucleate.readers.opening import open_source
from nucleate.readers.openslide import OpenSlideSource
from nucleate.readers.reader import Reader
from nucleate.readers.source import RegionError
from nucleate.readers.tiff import TiffSource
from tests.errors import says
from tests.synthetic import tissue
from tests.synthetic_slide import Block, mirrored, write_slide


@pytest.fixture(scope="module")
def block():
    image, labels = tissue(256, 256, 120, seed=4)
    image = cv2.GaussianBlur(image, (0, 0), 2)  # no scanner's image changes from pixel to pixel
    return Block(mirrored(image), mirrored(labels))


def _truth(block, width, height):
    rows, columns = np.arange(height) % 512, np.arange(width) % 512
    return block.image[rows][:, columns]


@pytest.mark.parametrize("ome", [False, True])
@pytest.mark.parametrize("lossless", [False, True])
def test_tiff_is_read_region_by_region_as_openslide_reads_it(tmp_path, block, ome, lossless):
    path = tmp_path / "a.tif"
    write_slide(path, 2300, 1900, block, ome=ome, lossless=lossless)
    own = TiffSource(path)
    assert (own.width, own.height, own.mpp) == (2300, 1900, 0.25)
    assert own.downsamples == (1.0, 4.0)
    truth = _truth(block, 2300, 1900)
    for x0, y0, x1, y1 in ((0, 0, 2300, 1900), (255, 250, 520, 700), (2200, 1800, 2300, 1900)):
        region = own.read(x0, y0, x1, y1)
        if lossless:
            np.testing.assert_array_equal(region, truth[y0:y1, x0:x1])
        else:
            assert np.abs(region.astype(int) - truth[y0:y1, x0:x1]).mean() < 3
            np.testing.assert_array_equal(region, OpenSlideSource(path).read(x0, y0, x1, y1))
    np.testing.assert_array_equal(own.read(0, 0, 575, 475, 1), tifffile.imread(path, level=1))


def test_beyond_the_image_it_is_mirrored_as_often_as_needed():
    rng = np.random.default_rng(0)
    for _ in range(300):
        high, wide = rng.integers(1, 40, 2).tolist()
        image = rng.integers(0, 256, (high, wide, 3), dtype=np.uint8)
        x0, y0 = rng.integers(-60, 60, 2).tolist()
        x1, y1 = x0 + int(rng.integers(1, 120)), y0 + int(rng.integers(1, 120))
        columns, rows = np.arange(x0, x1) % (2 * wide), np.arange(y0, y1) % (2 * high)
        columns = np.where(columns < wide, columns, 2 * wide - 1 - columns)
        rows = np.where(rows < high, rows, 2 * high - 1 - rows)
        found = Reader(ArraySource(image), 0.25).read((x0, y0, x1, y1), 0.25)
        np.testing.assert_array_equal(found, image[rows][:, columns])


def test_a_large_tiff_is_read_in_pieces_and_a_small_one_whole(tmp_path, block):
    write_slide(tmp_path / "large.tif", 9000, 8000, block)
    write_slide(tmp_path / "small.tif", 900, 800, block)
    assert isinstance(open_source(tmp_path / "large.tif"), TiffSource)
    assert isinstance(open_source(tmp_path / "small.tif"), ArraySource)


def test_a_strip_is_a_piece_too(tmp_path):
    image, _ = tissue(300, 400, 50)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", rowsperstrip=64)
    np.testing.assert_array_equal(
        TiffSource(tmp_path / "a.tif").read(100, 50, 350, 290), image[50:290, 100:350]
    )


@pytest.mark.parametrize(
    ("asked", "level", "scale"),
    [(0.25, 0, 1.0), (0.255, 0, 1.0), (0.5, 0, 0.5), (1.0, 1, 1.0), (1.03, 1, 1.0), (2.0, 1, 0.5),
     (4.0, 2, 1.0), (64.0, 2, 1 / 16), (0.125, 0, 2.0)],
)  # fmt: skip
def test_the_coarsest_level_that_is_fine_enough_is_read(asked, level, scale):
    source = ArraySource(np.zeros((1600, 3200, 3), np.uint8))
    source.downsamples = (1.0, 4.0, 16.0)
    source.level_sizes = ((3200, 1600), (800, 400), (200, 100))
    grid = Reader(source, 0.25).grid(asked)
    assert grid.level == level
    assert grid.asked_per_read == pytest.approx(scale)
    assert grid.width == round(3200 * grid.asked_per_level0)


def test_levels_lie_on_each_other(tmp_path, block):
    """The same place has the same colour at every resolution, to the edge of the slide."""
    path = tmp_path / "a.tif"
    write_slide(path, 4444, 3333, block, lossless=True)
    slide = Reader(TiffSource(path), 0.25)
    whole = cv2.GaussianBlur(_truth(block, 4444, 3333), (0, 0), 6)
    for mpp in (1.0, 2.0):
        grid = slide.grid(mpp)
        step = round(1 / grid.asked_per_level0)
        x1, y1 = grid.width - 8, grid.height - 8
        near_end = (x1 - 100, y1 - 100, x1, y1)
        found = cv2.GaussianBlur(slide.read(near_end, mpp), (0, 0), 6 / step)
        columns = ((np.arange(x1 - 100, x1) + 0.5) * step).astype(int)
        rows = ((np.arange(y1 - 100, y1) + 0.5) * step).astype(int)
        expected = whole[rows][:, columns].astype(int)
        shifted = whole[rows][:, columns - 3 * step].astype(int)
        error = np.abs(found.astype(int) - expected)[8:-8, 8:-8].mean()
        assert error < 4 < np.abs(found.astype(int) - shifted)[8:-8, 8:-8].mean()


def test_an_overview_is_the_image(tmp_path, block):
    covered = np.zeros((10, 12), bool)
    covered[2:5, 3:9] = True
    path = tmp_path / "a.tif"
    write_slide(path, 6000, 5000, block, covered=covered)
    seen = Reader(TiffSource(path), 0.25).overview(8.0)
    assert seen.shape == (156, 188, 3)
    tissue_there = cv2.resize(covered.view(np.uint8), (192, 160), interpolation=0)[:156, :188] > 0
    assert seen[~tissue_there].mean() > 225 > seen[tissue_there].mean()


def test_a_damaged_tile_is_one_region_that_cannot_be_read(tmp_path, block):
    path = tmp_path / "a.tif"
    write_slide(path, 2000, 2000, block, damaged=(2, 3))
    for source in (TiffSource(path), OpenSlideSource(path)):
        with pytest.raises(RegionError, match="cannot be read"):
            source.read(500, 700, 900, 1000)
        assert source.read(0, 0, 500, 500).shape == (500, 500, 3)  # the rest still can
        with pytest.raises(RegionError):
            source.read(600, 800, 700, 900)


def test_a_slide_that_is_gone_is_no_damaged_tile(tmp_path, block):
    path = tmp_path / "a.tif"
    write_slide(path, 2000, 2000, block)
    source = TiffSource(path)
    path.unlink()
    with pytest.raises(InputError, match="is missing") as caught:
        source.read(0, 0, 500, 500)
    assert not isinstance(caught.value, RegionError)


def test_a_tiff_without_colours_is_no_slide(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((64, 64), np.uint16))
    with pytest.raises(InputError, match=says("TIFF", "8-bit", "RGB")):
        TiffSource(tmp_path / "a.tif")
    (tmp_path / "b.tif").write_bytes(b"II*\0" + b"\xff" * 40)
    with pytest.raises(InputError, match=says("read", "TIFF")):
        TiffSource(tmp_path / "b.tif")


@pytest.mark.parametrize("version", [2, 3])
def test_ome_zarr(tmp_path, version):
    import zarr

    image, _ = tissue(300, 400, 50)
    root = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=version)
    for i, level in enumerate((image, image[::2, ::2])):
        data = np.ascontiguousarray(np.moveaxis(level, -1, 0))
        root.create_array(str(i), data=data, chunks=(1, 64, 64))
    axes = [{"name": "c", "type": "channel"}] + [
        {"name": a, "type": "space", "unit": "micrometer"} for a in "yx"
    ]
    datasets = [
        {"path": str(i), "coordinateTransformations": [
            {"type": "scale", "scale": [1, 0.25 * 2**i, 0.25 * 2**i]}
        ]}
        for i in range(2)
    ]  # fmt: skip
    multiscales = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    if version == 3:
        root.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    else:
        root.attrs["multiscales"] = multiscales
    source = open_source(tmp_path / "a.zarr")
    assert (source.width, source.height, source.mpp, source.downsamples) == (400, 300, 0.25, (1, 2))
    np.testing.assert_array_equal(source.read(10, 20, 350, 290), image[20:290, 10:350])
    np.testing.assert_array_equal(source.read(0, 0, 200, 150, 1), image[::2, ::2])
    shutil.rmtree(tmp_path / "a.zarr")
    with pytest.raises(InputError, match="is missing"):
        source.read(0, 0, 10, 10)
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(InputError, match=says("read", "OME-Zarr")):
        open_source(tmp_path / "empty.zarr")


def test_what_stands_beside_the_pixels_is_kept_apart(tmp_path, block, nucleate):
    path = tmp_path / "a.tif"
    write_slide(path, 900, 800, block)
    code, out, _ = nucleate("data", "slide", path)
    assert code == 0
    assert "900 × 800 pixels, 0.25 um/px" in out
    assert "ImageDescription = nucleate synthetic slide a.tif" in out
    assert "colour profile: none" in out
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image, _ = tissue(64, 64, 5)
    tifffile.imwrite(tmp_path / "b.tif", image, photometric="rgb", iccprofile=profile)
    code, out, _ = nucleate("data", "slide", tmp_path / "b.tif", "-o", tmp_path / "extras")
    assert f"colour profile: {len(profile)} bytes" in out
    assert (tmp_path / "extras" / "b.icc").read_bytes() == profile
    np.testing.assert_array_equal(read_extras(tmp_path / "b.tif").source.read(0, 0, 64, 64), image)


@pytest.mark.data
def test_label_and_macro_of_a_real_slide(real_data, tmp_path, nucleate):
    slide = real_data / "slides" / "aperio_svs" / "CMU-1-Small-Region.svs"
    code, out, _ = nucleate("data", "slide", slide, "-o", tmp_path)
    assert code == 0
    assert {p.name.split(".")[1] for p in tmp_path.iterdir()} >= {"label", "macro", "thumbnail"}
    assert "aperio.AppMag = 20" in out


def test_where_there_is_no_bar_progress_is_a_line_now_and_then(tmp_path, capsys, monkeypatch):
    from nucleate.cli import terminal
    from nucleate.inference.pipeline import Done
    from nucleate.inference.tiling import Tile
    from nucleate.slides.eta import Progress

    monkeypatch.setattr(terminal, "_EVERY_S", 0.0)
    state = Progress(200, 0.25)
    state.add(Done(Tile((0, 0, 1000, 1000), (0, 0, 1000, 1000)), None, "", (0, 0, 0)))
    with terminal.Bar() as bar:
        bar.show(tmp_path / "a.svs", state)
    err = capsys.readouterr().err
    assert "a.svs: 1 of 200 tiles" in err
    assert "mm²/s, 0 nuclei" in err
    assert "left" in err


def test_dicom_files_of_one_slide_are_one_source(tmp_path, monkeypatch):
    from nucleate.slides import find_sources as sources

    names = ["a-0.dcm", "a-1.dcm", "b-0.dcm", "damaged.dcm", "plain.png"]
    for name in names:
        (tmp_path / name).write_bytes(b"DICM")
    series = {"a-0.dcm": "1", "a-1.dcm": "1", "b-0.dcm": "2"}
    monkeypatch.setattr(sources, "dicom_series", lambda path: series.get(path.name))
    found = [path.name for path in sources.find_sources([tmp_path])]
    assert found == ["a-0.dcm", "b-0.dcm", "damaged.dcm", "plain.png"]
    monkeypatch.undo()
    assert len(sources.find_sources([tmp_path])) == 5  # none can be opened: each will say so


@pytest.mark.data
def test_dicom_files_of_a_real_slide_are_one_source(real_data):
    from nucleate.slides.find_sources import find_sources

    found = find_sources([real_data / "slides" / "dicom_boxes"])
    assert [path.name for path in found] == ["boxes_0.dcm"]

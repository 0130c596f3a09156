"""Images and slides → tiles of tissue: who is left out, who is held out, what is refused."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from nucleate.config import SetConfig
from nucleate.errors import ConfigError, InputError
from nucleate.pretraining.corpus import TissueTile, draw_window, gather, shares_of, window_corners
from nucleate.pretraining.recipe import CorpusConfig, FolderConfig
from tests.data import folder
from tests.errors import says
from tests.synthetic import tissue

GLASS = (245, 244, 246)


def _config(**changes):
    content = {"folders": (FolderConfig(path="tiles", mpp=0.25),), "validation": 0.3}
    return CorpusConfig(**{**content, **changes})


@pytest.fixture
def tiles(tmp_path):
    """Six tiles of tissue, in two folders of the same file names."""
    for part in ("a", "b"):
        (tmp_path / "tiles" / part).mkdir(parents=True)
        for i in range(3):
            image = tissue(160, 160, 20, seed=i)[0]
            Image.fromarray(image).save(tmp_path / "tiles" / part / f"{i}.png")
    return tmp_path


def _read(corpus, part="train", window=96, tissue_share=0.5):
    said = []
    return corpus.read(part, window, tissue_share, said.append), said


def test_a_folder_of_tiles_is_split_by_file(tiles):
    corpus = gather(_config(), tiles)
    assert sorted(corpus.origins) == sorted(f"0:{p}/{i}.png" for p in "ab" for i in range(3))
    assert len(corpus.split.parts["validation"]) == 2
    train, said = _read(corpus)
    assert len(train) == 4
    assert said == []
    assert corpus.sources[0]["images"] == 6


def test_a_pattern_of_the_path_says_the_patient(tiles):
    config = _config(folders=(FolderConfig(path="tiles", mpp=0.25, group="^([ab])/"),))
    corpus = gather(config, tiles)
    assert {o.group for o in corpus.origins.values()} == {"a", "b"}
    parts = corpus.split.parts
    assert {name[2] for name in parts["train"]} != {name[2] for name in parts["validation"]}


def test_what_is_tested_on_is_left_out(tiles):
    everything = gather(_config(), tiles)
    groups = sorted(o.group for o in everything.origins.values())
    fewer = gather(_config(exclude=tuple(groups[:2])), tiles)
    assert sorted(o.group for o in fewer.origins.values()) == groups[2:]
    with pytest.raises(ConfigError, match=says("patient", "'nobody'")):
        gather(_config(exclude=("nobody",)), tiles)
    with pytest.raises(ConfigError, match="excludes every image"):
        gather(_config(exclude=tuple(groups)), tiles)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("TCGA-2Z-A9J9-01A-01-TS1.png", "tiles"),
        ("tcga-2z-a9j9-01a-01-ts1.png", "tiles"),
        ("TCGA-2Z-A9J9-01A-01-TS1/1.png", "tiles"),
        ("TCGA-2Z-A9J9-01A-01-TS1/1.png", "tiles/TCGA-2Z-A9J9-01A-01-TS1"),
        ("TCGA-2Z-A9J9-01A-01-TS1/1.png", "tiles/TCGA*/*.png"),
    ],
)
def test_official_test_images_are_refused_in_any_folder(tiles, name, path):
    file = tiles / "tiles" / name
    file.parent.mkdir(exist_ok=True)
    Image.fromarray(tissue(160, 160, 20, seed=9)[0]).save(file)
    with pytest.raises(InputError, match=says("official test")):
        gather(_config(folders=(FolderConfig(path=path, mpp=0.25),)), tiles)


def test_the_resolution_of_a_folder_contradicts_its_files(tiles):
    printed = {"photometric": "rgb", "resolution": (2e4, 2e4), "resolutionunit": 3}
    tifffile.imwrite(tiles / "one.tif", tissue(160, 160, 20)[0], **printed)
    one, name = {"path": "tiles/one.tif", "mpp": 0.25}, "0:tiles/one.tif"
    (tiles / "one.tif").rename(tiles / "tiles" / "one.tif")
    others = FolderConfig(path="tiles/a", mpp=0.25)
    with pytest.raises(InputError, match=r"0\.5 um/px.*0\.25.*override_mpp"):
        gather(_config(folders=(FolderConfig(**one), others)), tiles).origins[name].read()
    config = _config(folders=(FolderConfig(**one, override_mpp=True), others))
    (read,) = gather(config, tiles).origins[name].read()
    assert read.shape == (160, 160, 3)


def test_a_pattern_names_images_by_their_folders(tiles):
    config = _config(folders=(FolderConfig(path="tiles/*/*.png", mpp=0.25, group="/([ab])/"),))
    corpus = gather(config, tiles)
    assert sorted(corpus.origins)[0] == "0:tiles/a/0.png"
    assert {o.group for o in corpus.origins.values()} == {"a", "b"}
    with pytest.raises(ConfigError, match="does not match"):
        gather(_config(folders=(FolderConfig(path="tiles", mpp=0.25, group="a(9)?"),)), tiles)


def test_a_image_a_little_larger_than_a_tile_gives_few(tmp_path):
    (tmp_path / "tiles").mkdir()
    for i in range(3):
        Image.fromarray(tissue(140, 140, 20, seed=i)[0]).save(tmp_path / "tiles" / f"{i}.png")
    found, _ = _read(gather(_config(tile_px=128), tmp_path), window=64)
    assert len(found) == 2 * 2


def test_labels_of_a_data_set_are_not_needed(tmp_path):
    folder.make(tmp_path / "own", 4)
    config = _config(
        folders=(), sets=(SetConfig(name="folder", path="own", options={"mpp": 0.25}),)
    )
    corpus = gather(config, tmp_path)
    assert len(_read(corpus, window=64)[0]) == 2


def test_nothing_named_is_refused():
    with pytest.raises(ValueError, match=says("sets", "folders")):
        CorpusConfig()


def test_small_and_blank_images_are_left_out_and_named(tiles):
    Image.fromarray(np.full((160, 160, 3), GLASS, np.uint8)).save(tiles / "tiles" / "blank.png")
    Image.fromarray(tissue(40, 40, 3, seed=1)[0]).save(tiles / "tiles" / "small.png")
    corpus = gather(_config(validation=0.1), tiles)
    names = {"0:blank.png", "0:small.png"}
    assert names <= {*corpus.split.parts["train"], *corpus.split.parts["validation"]}
    said = [line for part in ("train", "validation") for line in _read(corpus, part)[1]]
    assert any("0:blank.png" in line and "50% tissue" in line for line in said)
    assert any("0:small.png" in line and "96 × 96" in line for line in said)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.full((160, 160, 3), GLASS, np.uint8), "contains enough tissue"),
        (tissue(40, 40, 3, seed=1)[0], "is large enough"),
    ],
)
def test_nothing_to_look_at_is_an_error(tmp_path, image, said):
    (tmp_path / "tiles").mkdir()
    for i in range(4):
        Image.fromarray(image).save(tmp_path / "tiles" / f"{i}.png")
    with pytest.raises(InputError, match=said):
        _read(gather(_config(), tmp_path))


def test_without_a_resolution_a_file_is_refused(tiles):
    corpus = gather(_config(folders=(FolderConfig(path="tiles"),)), tiles)
    with pytest.raises(InputError, match=says("resolution", "mpp")):
        _read(corpus)


@pytest.mark.parametrize("name", ["x.svs", "x.tif", "x.png"])
def test_a_damaged_file_is_refused(tiles, name):
    (tiles / "tiles" / name).write_bytes(b"II*\0 no image at all")
    corpus = gather(_config(), tiles)
    part = next(p for p, names in corpus.split.parts.items() if f"0:{name}" in names)
    with pytest.raises(InputError, match=name):
        _read(corpus, part)


def test_nothing_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=says("no such file")):
        gather(_config(), tmp_path)
    (tmp_path / "tiles").mkdir()
    with pytest.raises(InputError, match=says("or slide")):
        gather(_config(), tmp_path)


def test_of_large_images_tiles_of_tissue_are_drawn(tmp_path):
    """Tissue is in one corner; every tile contains some of it, on the working grid."""
    (tmp_path / "tiles").mkdir()
    for i in range(3):
        image = np.full((600, 900, 3), GLASS, np.uint8)
        image[:300, :300] = tissue(300, 300, 60, seed=i)[0]
        tifffile.imwrite(tmp_path / "tiles" / f"{i}.tif", image)
    config = _config(folders=(FolderConfig(path="tiles", mpp=0.5),), tile_px=256, tiles_per_slide=5)
    corpus = gather(config, tmp_path)
    found, _ = _read(corpus, window=64)
    assert {tile.image.shape for tile in found} == {(256, 256, 3)}  # 128 pixels at 0.5 um/px
    assert len(found) <= 2 * 5
    again, _ = _read(gather(config, tmp_path), window=64)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(found, again, strict=True))
    rng = np.random.default_rng(0)
    for _ in range(50):
        _, window = draw_window(found, shares_of(found), 64, rng)
        assert window.shape == (64, 64, 3)
        assert (np.abs(window.astype(int) - GLASS).sum(-1) > 30).mean() > 0.25


def test_tiles_that_do_not_fit_into_memory_are_refused(tiles, monkeypatch):
    from nucleate.pretraining import corpus as module

    monkeypatch.setattr(module, "_MOST_BYTES", 100_000)
    with pytest.raises(ConfigError, match="memory"):
        _read(gather(_config(), tiles))
    monkeypatch.setattr(module, "_MOST_BYTES", 1 << 28)
    with pytest.raises(ConfigError, match="memory"):
        _read(gather(_config(tiles_per_slide=4096), tiles))


def test_windows_are_drawn_by_area_and_reach_the_last_pixel():
    images = [tissue(100, 100, 10, seed=1)[0], tissue(200, 200, 40, seed=2)[0]]
    tiles = [
        TissueTile(image, str(i), window_corners(image, 96, 0.0)) for i, image in enumerate(images)
    ]
    assert [len(tile.corners_yx) for tile in tiles] == [1, 14 * 14]
    rng = np.random.default_rng(0)
    drawn = [draw_window(tiles, shares_of(tiles), 96, rng)[0] for _ in range(4000)]
    assert 5 < drawn.count(0) < 45  # 1 in 197

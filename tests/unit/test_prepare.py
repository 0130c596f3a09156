"""Preparing a data set: order of steps, what is fitted on whom, and reading it back."""

import json

import numpy as np
import pytest

from nucleate.config import StainConfig
from nucleate.curation.clean_labels import CraftOptions
from nucleate.curation.prepare import PrepareOptions, prepare
from nucleate.datasets.loading import list_entries
from nucleate.datasets.shards import MANIFEST
from nucleate.datasets.splits import Split
from nucleate.errors import ConfigError, InputError, OutputError
from tests.data import folder, in_memory, monuseg
from tests.errors import says
from tests.unit.test_stain import stained


@pytest.fixture
def tree(tmp_path):
    folder.make(tmp_path / "in", 4)
    return list_entries("folder", tmp_path / "in", {"mpp": 0.25, "group": "^(p[0-9]+)_"})


SPLIT = Split(
    {"train": ("p0_0", "p1_0", "p2_0"), "validation": ("p3_0",)},
    {f"p{i}_0": f"p{i}" for i in range(4)},
)


def test_without_options_only_labels_are_fixed(tree, tmp_path):
    assert prepare(tree, tmp_path / "out", PrepareOptions(craft=None)) == {"train": 4}
    for before, after in zip(tree, list_entries("shards", tmp_path / "out", {}), strict=True):
        np.testing.assert_array_equal(before.read().image, after.read().image)
        np.testing.assert_array_equal(before.read().labels, after.read().labels)


def test_zscore_uses_training_images_only(tree, tmp_path):
    prepare(tree, tmp_path / "out", PrepareOptions(scale="zscore"), SPLIT)
    pixels = np.concatenate([e.read().image.reshape(-1, 3) for e in tree[:3]]) / 255
    for part in ("train", "validation"):
        manifest = json.loads((tmp_path / "out" / part / MANIFEST).read_text())
        np.testing.assert_allclose(manifest["scaling"]["mean"], pixels.mean(axis=0), atol=1e-9)
        np.testing.assert_allclose(manifest["scaling"]["sd"], pixels.std(axis=0), atol=1e-9)
        assert manifest["about"]["split_sha256"] == SPLIT.digest
    with np.load(tmp_path / "out" / "train" / "shard-0000.npz") as shard:
        stored = np.concatenate([shard[f"{i}.image"].reshape(-1, 3) for i in range(3)])
    assert stored.dtype == np.float32
    np.testing.assert_allclose(stored.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(stored.std(axis=0), 1, atol=1e-4)
    back = list_entries("shards", tmp_path / "out" / "validation", {})[0].read()
    np.testing.assert_array_equal(back.image, tree[3].read().image)


def test_stain_reference_is_a_training_image(tmp_path):
    images = {f"p{i}_0": stained(i, red=0.7 + 0.1 * i, size=128) for i in range(4)}
    entries = in_memory(images)
    config = StainConfig(method="macenko")
    said = []
    prepare(entries, tmp_path / "out", PrepareOptions(stain=config), SPLIT, said.append)
    about = json.loads((tmp_path / "out" / "train" / MANIFEST).read_text())["about"]
    assert about["stain"]["fitted_on"][0] in SPLIT.parts["train"]
    assert "stain: macenko" in said[0]
    back = list_entries("shards", tmp_path / "out" / "validation", {})[0].read()
    assert np.abs(back.image.astype(int) - images["p3_0"]).mean() > 3


def test_resampling_and_sizes(tree, tmp_path):
    prepare(tree, tmp_path / "half", PrepareOptions(mpp=0.5))
    sample = list_entries("shards", tmp_path / "half", {})[0].read()
    assert sample.image.shape == (64, 64, 3)
    assert sample.mpp == 0.5
    prepare(tree, tmp_path / "wide", PrepareOptions(size=(32, 256)))
    sample = list_entries("shards", tmp_path / "wide", {})[0].read()
    assert sample.labels.shape == (32, 256)
    assert sample.mpp == pytest.approx(0.25 * (128 * 128 / (32 * 256)) ** 0.5)
    with pytest.raises(ConfigError, match="exclude each other"):
        PrepareOptions(mpp=0.5, size=(64, 64))


def test_copies_are_repeatable_and_for_training_only(tree, tmp_path):
    options = PrepareOptions(copies=2, seed=5)
    for out in ("a", "b"):
        assert prepare(tree, tmp_path / out, options, SPLIT) == {"train": 9, "validation": 1}
    first, second = (list_entries("shards", tmp_path / out / "train", {}) for out in ("a", "b"))
    assert [e.name for e in first][:3] == ["p0_0", "p0_0+1", "p0_0+2"]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.read().image, b.read().image)
        assert a.group == a.name.split("_")[0]
    assert np.abs(first[0].read().image.astype(int) - first[1].read().image).mean() > 1


def test_crafting_is_counted(tree, tmp_path):
    labels = np.load(tmp_path / "in" / "labels" / "p2_0.npy")
    labels[0, 0] = labels.max() + 1  # a speck
    np.save(tmp_path / "in" / "labels" / "p2_0.npy", labels)
    said = []
    prepare(
        tree, tmp_path / "out", PrepareOptions(craft=CraftOptions(min_area_px=4)), None, said.append
    )
    about = json.loads((tmp_path / "out" / MANIFEST).read_text())["about"]
    assert about["crafted"]["specks_dropped"] >= 1
    assert "specks dropped" in said[-1]


def test_official_test_images_are_prepared_as_test_only(tmp_path):
    monuseg.make(tmp_path / "m", monuseg.TRAIN[:2] + monuseg.TEST)
    entries = list_entries("monuseg", tmp_path / "m", {})
    with pytest.raises(InputError, match=says("official test")):
        prepare(entries, tmp_path / "out", PrepareOptions())
    groups = {e.name: e.group for e in entries}
    leaking = Split({"train": monuseg.TRAIN[:2], "validation": monuseg.TEST}, groups)
    with pytest.raises(InputError, match=says("official test")):
        prepare(entries, tmp_path / "out", PrepareOptions(), leaking)
    good = Split({"train": monuseg.TRAIN[:2], "test": monuseg.TEST}, groups)
    assert prepare(entries, tmp_path / "out", PrepareOptions(), good) == {"train": 2, "test": 1}


def test_nothing_half_written(tree, tmp_path):
    (tmp_path / "in" / "labels" / "p2_0.npy").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"p2_0\.npy"):
        prepare(tree, tmp_path / "out", PrepareOptions())
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").touch()
    with pytest.raises(OutputError, match="already exists"):
        prepare(tree[:1], tmp_path / "out", PrepareOptions())


def test_wrong_splits_and_options(tree, tmp_path):
    other = Split({"train": ("zzz",)}, {"zzz": "z"})
    with pytest.raises(ConfigError, match=says("split", "data", "missing")):
        prepare(tree, tmp_path / "out", PrepareOptions(), other)
    empty = Split({"validation": tuple(SPLIT.groups)}, SPLIT.groups)
    with pytest.raises(ConfigError, match=says("no training images")):
        prepare(tree, tmp_path / "out", PrepareOptions(), empty)
    for wrong in ({"copies": -1}, {"scale": "x"}, {"size": (1, 9)}):
        with pytest.raises(ConfigError):
            PrepareOptions(**wrong)


def test_maps_are_stored_beside_the_labels(tree, tmp_path):
    from nucleate.targets import encode

    heads = ("distance", "distance_in_image", "boundary")
    prepare(tree, tmp_path / "out", PrepareOptions(craft=None, maps=heads))
    with np.load(tmp_path / "out" / "shard-0000.npz") as shard:
        for head, target in encode(tree[1].read().labels, list(heads)).items():
            np.testing.assert_array_equal(shard[f"1.{head}"], target)
    with pytest.raises(ConfigError, match=says("'distance'")):
        PrepareOptions(maps=("distanc",))


def test_groups_of_the_split_are_held_against_the_data(tmp_path):
    folder.make(tmp_path / "in", 4)
    ungrouped = list_entries("folder", tmp_path / "in", {"mpp": 0.25})
    with pytest.raises(InputError, match=says("--option group")):
        prepare(ungrouped, tmp_path / "out", PrepareOptions(), SPLIT)


def test_shards_write_nowhere_else(tree, tmp_path):
    from nucleate.curation.convert import convert

    prepare(tree, tmp_path / "out", PrepareOptions())
    manifest = tmp_path / "out" / MANIFEST
    good = manifest.read_text()
    for name in ("/x", "../x", "a/../../x", "a//b", "a\\b", ""):
        manifest.write_text(good.replace('"p0_0"', json.dumps(name)))
        with pytest.raises(InputError, match=says("manifest.json", "file name")):
            list_entries("shards", tmp_path / "out", {})
    for wrong in ('"group": 5', '"group": ["a"]', '"class_names": null'):
        key = wrong.split(":")[0]
        records = json.loads(good)
        records["images"][0][key.strip('"')] = json.loads(wrong.split(": ")[1])
        manifest.write_text(json.dumps(records))
        with pytest.raises(InputError, match=says("a manifest")):
            list_entries("shards", tmp_path / "out", {})
    bad = in_memory({"../x_1": stained(1)})
    with pytest.raises(InputError, match=says("file name", "rename")):
        convert(bad, tmp_path / "conv", "folder")


def test_damaged_shards_are_refused(tree, tmp_path):
    prepare(tree, tmp_path / "out", PrepareOptions())
    shard = tmp_path / "out" / "shard-0000.npz"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 0xFF
    shard.write_bytes(bytes(data))
    entries = list_entries("shards", tmp_path / "out", {})
    with pytest.raises(InputError, match="damaged"):
        [entry.read() for entry in entries]
    manifest = tmp_path / "out" / MANIFEST
    good = json.loads(manifest.read_text())
    for wrong in (
        {"format": "x"}, {"images": [{}]}, {"scaling": {"kind": 1, "x": 2}}, {"files": 3},
        {"images": [good["images"][0]] * 2},
        {"images": [good["images"][0] | {"shard": "../../x"}]},
    ):  # fmt: skip
        manifest.write_text(json.dumps(good | wrong))
        with pytest.raises(InputError):
            list_entries("shards", tmp_path / "out", {})
    shard.unlink()
    manifest.write_text(json.dumps(good))
    with pytest.raises(InputError, match="is missing"):
        list_entries("shards", tmp_path / "out", {})

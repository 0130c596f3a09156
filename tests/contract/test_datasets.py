"""Every data set: the real reader on a generated tree of the real layout."""

import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from nucleate.config import DataConfig
from nucleate.curation.convert import TARGETS, convert
from nucleate.datasets import DATASETS
from nucleate.datasets.loading import at_mpp, collect, list_entries
from nucleate.errors import ConfigError, InputError, OutputError
from nucleate.readers.images import read_image
from nucleate.types import Sample
from tests.data import (
    coco,
    cryonuseg,
    folder,
    hovernet,
    monuseg,
    nuinsseg,
    pannuke,
    qupath,
    shards,
    tnbc,
)
from tests.errors import says

MAKERS = {
    "monuseg": monuseg.make, "cryonuseg": cryonuseg.make, "nuinsseg": nuinsseg.make,
    "tnbc": tnbc.make, "consep": hovernet.consep, "kumar": hovernet.kumar,
    "cpm17": hovernet.cpm17, "pannuke": pannuke.make, "coco": coco.make, "qupath": qupath.make,
    "shards": shards.make, "folder": folder.make,
}  # fmt: skip
OPTIONS = {
    "folder": {"mpp": 0.25, "group": "^(p[0-9]+)_"},
    "nuinsseg": {"mpp": 0.25},
    "coco": {"mpp": 0.25, "group": "_([0-9])$"},
    "qupath": {"mpp": 0.25, "classes": ["Tumor", "Stroma"]},
}
CLASSES = {  # data set -> names of the classes that its generated tree uses
    "consep": 7, "pannuke": 5, "coco": 2, "qupath": 2, "shards": 2,
}  # fmt: skip


def test_every_data_set_has_a_generated_tree():
    assert MAKERS.keys() == DATASETS.keys()


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("name", sorted(DATASETS))
def test_samples_are_what_was_annotated(tmp_path, name, packed):
    root = tmp_path / "tree"
    root.mkdir()
    truth = MAKERS[name](root)
    if packed:
        root = Path(shutil.make_archive(str(tmp_path / "tree"), "zip", root))
    if packed and name == "pannuke":  # arrays inside a zip file cannot be mapped into memory
        with pytest.raises(InputError, match="unpack them"):
            list_entries(name, root, {})
        return
    entries = list_entries(name, root, OPTIONS.get(name, {}))
    assert [entry.name for entry in entries] == sorted(truth)
    for entry in entries:
        sample = entry.read()
        assert isinstance(sample, Sample)
        assert sample.name == entry.name
        assert sample.group == entry.group
        assert sample.mpp == 0.25
        np.testing.assert_array_equal(sample.labels, truth[entry.name])
        assert sample.organ == entry.organ
        assert (sample.classes is not None) == (name in CLASSES)
        if sample.classes is not None:
            assert len(sample.class_names) == CLASSES[name]


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_card_says_licence_citation_and_source(name):
    card = DATASETS[name].card
    assert all((card.title, card.contents, card.licence, card.citation, card.where))


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_missing_folder_and_unknown_option(tmp_path, name):
    with pytest.raises(InputError, match=says("no such folder")):
        list_entries(name, tmp_path / "none", {})
    with pytest.raises(InputError, match="contains no"):
        list_entries(name, tmp_path, {})
    with pytest.raises(ConfigError, match=rf"{name}' has no option 'mpps'"):
        list_entries(name, tmp_path, {"mpps": 1})
    (tmp_path / "a.zip").write_bytes(b"PK no zip")
    with pytest.raises(InputError, match=says("folder", "zip")):
        list_entries(name, tmp_path / "a.zip", {})


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_card_states_what_the_reader_finds(tmp_path, name):
    """Organs, classes and mpp of the card are those of the samples."""
    MAKERS[name](tmp_path)
    card = DATASETS[name].card
    for entry in list_entries(name, tmp_path, OPTIONS.get(name, {})):
        sample = entry.read()
        if card.organs:
            assert sample.organ in card.organs
        if card.mpp is not None:
            assert sample.mpp == card.mpp
        if name in ("consep", "pannuke"):
            assert sample.class_names == card.classes


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_damaged_file_gets_one_sentence(tmp_path, name):
    """Each file of the tree in turn is empty, cut in half, of random bytes, or gone."""
    MAKERS[name](tmp_path)
    rng = np.random.default_rng(0)
    for file in sorted(p for p in tmp_path.rglob("*") if p.is_file()):
        good = file.read_bytes()
        for bad in (b"", good[: len(good) // 2], rng.bytes(200), None):
            if bad is None:
                file.unlink()
            else:
                file.write_bytes(bad)
            try:
                entries = list_entries(name, tmp_path, OPTIONS.get(name, {}))
                for entry in entries:
                    entry.read()
            except InputError as error:
                said = str(error)
                assert len(said) < 900
                assert "\n" not in said
        file.write_bytes(good)
    assert list_entries(name, tmp_path, OPTIONS.get(name, {}))


@pytest.mark.parametrize("form", sorted(TARGETS))
@pytest.mark.parametrize("name", sorted(DATASETS))
def test_conversion_there_and_back_is_exact(tmp_path, name, form):
    MAKERS[name](tmp_path / "tree")
    before = list_entries(name, tmp_path / "tree", OPTIONS.get(name, {}))
    tally = convert(before, tmp_path / "out", form)
    after = list_entries(form.removesuffix("-polygons"), tmp_path / "out", {})
    assert tally.images == len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        assert (new.name, new.group, new.organ) == (old.name, old.group, old.organ)
        a, b = old.read(), new.read()
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.labels, b.labels)
        assert (a.mpp, a.species, a.centre) == (b.mpp, b.species, b.centre)
        if a.classes is not None:
            np.testing.assert_array_equal(a.classes, b.classes)
            assert a.class_names == b.class_names
        if a.ignore is not None:
            np.testing.assert_array_equal(a.ignore, b.ignore)


def test_conversion_is_all_or_nothing(tmp_path):
    folder.make(tmp_path / "f")
    entries = list_entries("folder", tmp_path / "f", {})
    (tmp_path / "f" / "labels" / "p2_0.npy").write_bytes(b"broken")
    for form in TARGETS:
        with pytest.raises(InputError, match=r"p2_0\.npy"):
            convert(entries, tmp_path / form, form)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f"]
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="already exists"):
        convert(entries[:1], tmp_path / "there", "folder")
    with pytest.raises(ConfigError, match=says("'coco'")):
        convert(entries, tmp_path / "x", "cocoo")


def test_monuseg_group_is_the_patient_and_test_images_are_known(tmp_path):
    monuseg.make(tmp_path, monuseg.TRAIN + monuseg.TEST)
    by_name = {e.name: e for e in list_entries("monuseg", tmp_path, {})}
    assert by_name[monuseg.TRAIN[0]].group == "TCGA-A7-A13E"
    assert by_name[monuseg.TRAIN[0]].organ == "breast"
    assert by_name[monuseg.TEST[0]].test_only
    assert not by_name[monuseg.TRAIN[0]].test_only


def test_official_test_images_are_never_trained_on(tmp_path):
    monuseg.make(tmp_path, monuseg.TRAIN + monuseg.TEST)
    config = DataConfig.model_validate({"sets": [{"name": "monuseg", "path": "."}]})
    with pytest.raises(InputError, match=says("official test")):
        collect(config, tmp_path)


def test_monuseg_orphan(tmp_path):
    monuseg.make(tmp_path)
    (tmp_path / "Annotations" / f"{monuseg.TRAIN[0]}.xml").unlink()
    with pytest.raises(InputError, match=says("no annotation")):
        list_entries("monuseg", tmp_path, {})


def test_folder_orphans_sizes_and_floats(tmp_path):
    folder.make(tmp_path)
    labels = tmp_path / "labels" / "p0_0.png"
    Image.fromarray(np.zeros((5, 5), np.uint16)).save(labels)
    with pytest.raises(InputError, match=says("5 × 5", "128 × 128")):
        list_entries("folder", tmp_path, {})[0].read()
    np.save(tmp_path / "labels" / "p2_0.npy", np.zeros((128, 128), np.float32))
    with pytest.raises(InputError, match=says("be integers")):
        list_entries("folder", tmp_path, {})[2].read()
    labels.unlink()
    with pytest.raises(InputError, match=says("p0_0", "labels")):
        list_entries("folder", tmp_path, {})
    (tmp_path / "images" / "p0_0.png").unlink()
    (tmp_path / "images" / "p1_0.png").unlink()
    with pytest.raises(InputError, match=says("label", "p1_0")):
        list_entries("folder", tmp_path, {})


def test_folder_nested_at_will(tmp_path):
    folder.make(tmp_path / "site")
    (tmp_path / "site" / "images" / "deep").mkdir()
    shutil.move(tmp_path / "site" / "images" / "p0_0.png", tmp_path / "site" / "images" / "deep")
    (tmp_path / "site" / "labels" / "deep").mkdir()
    shutil.move(tmp_path / "site" / "labels" / "p0_0.png", tmp_path / "site" / "labels" / "deep")
    names = [e.name for e in list_entries("folder", tmp_path, {})]
    assert names == ["site/deep/p0_0", "site/p1_0", "site/p2_0"]


def test_folder_without_labels_is_unlabelled(tmp_path):
    folder.make(tmp_path)
    shutil.rmtree(tmp_path / "labels")
    assert list_entries("folder", tmp_path, {})[0].read().labels is None


@pytest.mark.parametrize(
    ("pattern", "said"),
    [("(", "not a valid regular expression"), ("x", "one group"), ("^(z)", "not match")],
)
def test_folder_group_pattern(tmp_path, pattern, said):
    folder.make(tmp_path)
    with pytest.raises(ConfigError, match=said):
        list_entries("folder", tmp_path, {"group": pattern})


def test_damaged_member_of_a_zip(tmp_path):
    monuseg.make(tmp_path / "t", monuseg.TRAIN[:1])
    path = tmp_path / "t.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in (tmp_path / "t").rglob("*.*"):
            archive.write(file, file.relative_to(tmp_path / "t"))
    data = bytearray(path.read_bytes())
    at = data.find(b"Annotations MicronsPerPixel")
    data[at : at + 10] = b"XXXXXXXXXX"
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match=says("archive", "again")):
        list_entries("monuseg", path, {})[0].read()


def test_sets_that_may_not_be_held_out_are_all_trained_on(tmp_path):
    monuseg.make(tmp_path / "m")
    folder.make(tmp_path / "f")
    config = DataConfig.model_validate(
        {
            "sets": [
                {"name": "monuseg", "path": "m"},
                {"name": "folder", "path": "f", "validate_on": False},
            ],
            "validation": 0.3,
        }
    )
    collection = collect(config, tmp_path)
    assert len(collection.split.parts["train"]) == 5
    assert all(name.startswith("0:TCGA") for name in collection.split.parts["validation"])


def test_test_images_are_known_in_any_folder(tmp_path):
    folder.make(tmp_path, 1)
    for part, suffix in (("images", "png"), ("labels", "png")):
        file = tmp_path / part / f"p0_0.{suffix}"
        file.rename(file.with_name(f"{monuseg.TEST[0]}.{suffix}"))
    assert list_entries("folder", tmp_path, {})[0].test_only


def test_resolution_of_a_folder_contradicts_its_images(tmp_path):
    folder.make(tmp_path, 1)
    image = read_image(tmp_path / "images" / "p0_0.png")[0]
    (tmp_path / "images" / "p0_0.png").unlink()
    printed = {"photometric": "rgb", "resolution": (2e4, 2e4), "resolutionunit": 3}
    tifffile.imwrite(tmp_path / "images" / "p0_0.tif", image, **printed)
    with pytest.raises(InputError, match=r"0\.5 um/px.*0\.25.*override_mpp"):
        list_entries("folder", tmp_path, {"mpp": 0.25})[0].read()
    options = {"mpp": 0.25, "override_mpp": True}
    assert list_entries("folder", tmp_path, options)[0].read().mpp == 0.25


def test_images_and_labels_may_be_links_to_folders(tmp_path):
    folder.make(tmp_path / "store")
    (tmp_path / "t").mkdir()
    for part in ("images", "labels"):
        (tmp_path / "t" / part).symlink_to(tmp_path / "store" / part)
    entries = list_entries("folder", tmp_path / "t", {})
    assert [entry.name for entry in entries] == ["p0_0", "p1_0", "p2_0"]
    assert entries[0].read().labels.max() > 0


def test_links_and_odd_zip_names_do_not_lead_in_circles(tmp_path):
    folder.make(tmp_path / "t")
    (tmp_path / "t" / "images" / "loop").symlink_to(".")
    with pytest.warns(UserWarning, match="leads back"):
        assert len(list_entries("folder", tmp_path / "t", {})) == 3
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as archive:
        archive.writestr("//images/a.png", b"x")
    with pytest.raises(InputError, match="unsafe"):
        list_entries("folder", tmp_path / "odd.zip", {})


def test_split_without_a_part_is_refused(tmp_path):
    from nucleate.datasets.splits import Split, write_split

    folder.make(tmp_path / "f", 2)
    names = ("0:p0_0", "0:p1_0")
    groups = {name: f"Your own folder:{name[2:]}" for name in names}
    write_split(tmp_path / "s.json", Split({"train": names}, groups))
    config = DataConfig.model_validate(
        {"sets": [{"name": "folder", "path": "f"}], "split": "s.json"}
    )
    with pytest.raises(ConfigError, match=says("no images", "validation")):
        collect(config, tmp_path)


def test_nuinsseg_regions_and_label_images_agree(tmp_path):
    truth = nuinsseg.make(tmp_path)
    for entry in list_entries("nuinsseg", tmp_path, {"outlines": True}):
        sample = entry.read()
        np.testing.assert_array_equal(sample.labels > 0, truth[entry.name] > 0)
        assert sample.drawn.outlines == truth[entry.name].max()
        assert sample.ignore[:20, :30].all()
        assert not sample.ignore[20:].any()
        assert sample.species in ("human", "mouse")
    plain = list_entries("nuinsseg", tmp_path, {"vague": False})[0].read()
    assert plain.ignore is None
    assert {e.organ for e in list_entries("nuinsseg", tmp_path, {})} == {
        "bladder", "cerebellum", "muscle tibia",
    }  # fmt: skip


def test_cryonuseg_rounds_differ_and_masks_alone_are_refused(tmp_path):
    truth = cryonuseg.make(tmp_path)
    name = next(iter(truth))
    second = list_entries("cryonuseg", tmp_path, {"annotation": "biologist-2"})[0].read()
    np.testing.assert_array_equal(second.labels, np.roll(truth[name], 1, axis=1))
    with pytest.raises(ConfigError, match=says("'biologist'")):
        list_entries("cryonuseg", tmp_path, {"annotation": "biologst"})
    for folder_ in tmp_path.rglob("label masks modify"):
        folder_.rename(folder_.with_name("mask binary"))
    with pytest.raises(InputError, match=says("binary", "masks")):
        list_entries("cryonuseg", tmp_path, {})


def test_tnbc_in_plain_folders(tmp_path):
    truth = tnbc.make(tmp_path / "t")
    for part, target in (("Slide", "images"), ("GT", "labels")):
        (tmp_path / "plain" / target).mkdir(parents=True)
        for file in (tmp_path / "t").glob(f"{part}_*/*.png"):
            shutil.copy(file, tmp_path / "plain" / target)
    entries = list_entries("tnbc", tmp_path / "plain", {})
    assert [e.group for e in entries] == ["TNBC-01", "TNBC-01", "TNBC-02"]
    np.testing.assert_array_equal(entries[0].read().labels, truth["01_1"])


def test_consep_types_that_do_not_fit(tmp_path):
    hovernet.consep(tmp_path)
    with pytest.raises(ConfigError, match=says("7 types", "4")):
        list_entries("consep", tmp_path, {"types": 5})
    with pytest.raises(InputError, match=says("types", "1 to 4")):
        list_entries("consep", tmp_path, {"types": 4})[0].read()


def test_types_by_vote_where_the_list_is_of_no_use(tmp_path):
    import scipy.io

    from nucleate.datasets.hovernet import read_typed

    labels = np.array([[5, 5, 5, 9]])
    content = {"inst_map": labels, "inst_type": np.ones((5, 1)), "type_map": [[2, 2, 1, 3]]}
    scipy.io.savemat(tmp_path / "a.mat", content)
    assert read_typed(tmp_path / "a.mat", 7)[1].tolist() == [1, 2]
    del content["type_map"]
    scipy.io.savemat(tmp_path / "a.mat", content)
    with pytest.raises(InputError, match=says("type", "nucleus")):
        read_typed(tmp_path / "a.mat", 7)
    scipy.io.savemat(tmp_path / "a.mat", {"inst_map": np.array([[1.5]])})
    with pytest.raises(InputError, match=says("be integers")):
        read_typed(tmp_path / "a.mat", 7)


def test_pannuke_damage_is_said(tmp_path):
    pannuke.make(tmp_path)
    base = tmp_path / "Fold 1"
    np.save(base / "images" / "fold1" / "types.npy", np.array([{}, {}], dtype=object))
    with pytest.raises(InputError, match=says("types.npy", "read")):
        list_entries("pannuke", tmp_path, {})
    np.save(base / "images" / "fold1" / "types.npy", np.array(["Breast"] * 3))
    with pytest.raises(InputError, match=says("shape 3", "2")):
        list_entries("pannuke", tmp_path, {})
    np.save(base / "images" / "fold1" / "types.npy", np.array(["Breast"] * 2))
    masks = np.load(base / "masks" / "fold1" / "masks.npy")
    masks[0, 0, 0, 0] = 0.5
    np.save(base / "masks" / "fold1" / "masks.npy", masks)
    with pytest.raises(InputError, match=says("mask", "tile 0", "whole numbers")):
        list_entries("pannuke", tmp_path, {})[0].read()
    (base / "masks" / "fold1" / "masks.npy").unlink()
    with pytest.raises(InputError, match=says("fold1", "masks.npy")):
        list_entries("pannuke", tmp_path, {})
    assert {e.group for e in list_entries("pannuke", tmp_path / "Fold 2", {"group": "tile"})} == {
        "fold2_00000", "fold2_00001",
    }  # fmt: skip


def test_coco_crowds_overlaps_and_missing_images(tmp_path):
    import json

    coco.make(tmp_path)
    path = tmp_path / "annotations.json"
    content = json.loads(path.read_text())
    square = [0, 0, 10, 0, 10, 10, 0, 10]
    content["annotations"] = [
        {"id": 1, "image_id": 7, "category_id": 3, "segmentation": [square]},
        {"id": 2, "image_id": 7, "category_id": 4, "segmentation": [[x + 5 for x in square]]},
        {"id": 3, "image_id": 7, "category_id": 3, "segmentation": [square]},
        {"id": 4, "image_id": 7, "category_id": 3, "iscrowd": 1,
         "segmentation": [[x + 50 for x in square]]},
        {"id": 5, "image_id": 7, "category_id": 3,
         "segmentation": [[x + 20 for x in square], [x + 40 for x in square]]},
    ]  # fmt: skip
    path.write_text(json.dumps(content))
    sample = list_entries("coco", tmp_path, {})[0].read()
    assert np.bincount(sample.labels.ravel())[1:].tolist() == [100, 75, 200]
    assert sample.classes.tolist() == [0, 1, 0]
    assert (sample.drawn.outlines, sample.drawn.contested_px, sample.drawn.hidden) == (4, 125, 1)
    assert sample.ignore.sum() == 100
    bow = [0, 0, 10, 10, 10, 0, 0, 10]  # crosses itself: two triangles, by the even-odd rule
    content["annotations"][0]["segmentation"] = [bow]
    content["annotations"][2]["segmentation"] = []  # a box alone
    path.write_text(json.dumps(content))
    sample = list_entries("coco", tmp_path, {})[0].read()
    assert 40 <= (sample.labels[:10, :10] == 1).sum() <= 60
    assert (sample.drawn.outlines, sample.drawn.hidden, sample.drawn.no_mask) == (4, 0, 1)
    content["images"][0]["width"] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=says("COCO", "129 × 128", "Export")):
        list_entries("coco", tmp_path, {})[0].read()
    content["images"][0]["width"] -= 1
    content["annotations"][0]["segmentation"] = {"size": [9, 9], "counts": [81]}
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=says("mask", "annotation 1", "damaged")):
        list_entries("coco", tmp_path, {})[0].read()
    content["images"][0]["file_name"] = "../../etc/passwd"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="is missing"):
        list_entries("coco", tmp_path, {})
    shutil.copy(path, tmp_path / "b.json")
    with pytest.raises(InputError, match=says("2 possible COCO files")):
        list_entries("coco", tmp_path, {})


def awkward(root):
    """Write a folder with nuclei in two pieces, with a hole, of one pixel, on the border."""
    truth = folder.make(root)
    name = next(iter(truth))
    labels = np.zeros_like(truth[name])
    labels[2:8, 2:8], labels[20:25, 2:8] = 1, 1
    labels[30:40, 30:40] = 2
    labels[33:36, 33:36] = 0
    labels[34, 34] = 3
    labels[-4:, -4:] = 4
    labels[50, 50], labels[51, 51] = 5, 5
    truth[name] = labels
    for file in (root / "labels").glob(f"{name}.*"):
        file.unlink()
    np.save(root / "labels" / f"{name}.npy", labels)
    return truth


@pytest.mark.parametrize("form", ["coco", "coco-polygons"])
def test_our_coco_is_that_of_pycocotools(tmp_path, form):
    """Masks, boxes and areas that we write are what the reference implementation reads."""
    import contextlib
    import io

    from pycocotools.coco import COCO

    truth = awkward(tmp_path / "f")
    convert(list_entries("folder", tmp_path / "f", {}), tmp_path / "c", form)
    with contextlib.redirect_stdout(io.StringIO()):
        read = COCO(tmp_path / "c" / "annotations.json")
    for record in read.loadImgs(read.getImgIds()):
        labels = truth[record["file_name"].removesuffix(".png")]
        found = read.loadAnns(read.getAnnIds(imgIds=record["id"]))
        assert len(found) == labels.max()
        for value, annotation in enumerate(found, 1):
            mask = read.annToMask(annotation)
            np.testing.assert_array_equal(mask > 0, labels == value)
            rows, columns = np.nonzero(mask)
            assert annotation["area"] == mask.sum()
            assert annotation["bbox"] == [
                columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1,
            ]  # fmt: skip


@pytest.mark.parametrize("form", ["coco", "coco-polygons"])
def test_our_coco_is_what_the_loaders_of_detectron2_and_mmdetection_ask_for(tmp_path, form):
    """Their demands, as their loaders state them; neither is installed here.

    Detectron2, `load_coco_json`: categories 1..n, annotations with separate ids that name their
    image, no `ignore`, box of numbers, polygons with an even number of at least 6 coordinates, or
    run lengths. MMDetection, `CocoDataset`: a box of at least one pixel that is in the image, a
    positive area, a known category; `iscrowd` is ignored.
    """
    import json

    nuinsseg.make(tmp_path / "n")
    sets = {
        "n": list_entries("nuinsseg", tmp_path / "n", OPTIONS.get("nuinsseg", {})),
        "f": (awkward(tmp_path / "f"), list_entries("folder", tmp_path / "f", {}))[1],
    }
    kinds = set()
    for name, entries in sets.items():
        convert(entries, tmp_path / f"{name}-coco", form)
        content = json.loads((tmp_path / f"{name}-coco" / "annotations.json").read_text())
        categories = [c["id"] for c in content["categories"]]
        assert categories == list(range(1, len(categories) + 1))
        images = {p["id"]: p for p in content["images"]}
        assert len(images) == len(content["images"])
        ids = [a["id"] for a in content["annotations"]]
        assert len(set(ids)) == len(ids)
        for image in images.values():
            assert (tmp_path / f"{name}-coco" / "images" / image["file_name"]).is_file()
        for a in content["annotations"]:
            image = images[a["image_id"]]
            assert a["category_id"] in categories
            assert a["iscrowd"] in (0, 1)
            assert "ignore" not in a
            assert a["area"] > 0
            x, y, w, h = a["bbox"]
            assert min(w, h) >= 1
            assert 0 <= x <= x + w <= image["width"]
            assert 0 <= y <= y + h <= image["height"]
            kinds.add((type(a["segmentation"]).__name__, a["iscrowd"]))
            if isinstance(a["segmentation"], dict):
                assert a["segmentation"]["size"] == [image["height"], image["width"]]
                assert isinstance(a["segmentation"]["counts"], str)
            else:
                assert all(len(p) >= 6 and len(p) % 2 == 0 for p in a["segmentation"])
    polygons = {("list", 0)} if form == "coco-polygons" else set()
    assert kinds == {("dict", 0), ("dict", 1)} | polygons  # a hole, and vague areas


def test_qupath_classes(tmp_path):
    qupath.make(tmp_path)
    assert list_entries("qupath", tmp_path, {})[0].read().classes is None
    with pytest.raises(InputError, match=says("'Stroma'", "classes")):
        list_entries("qupath", tmp_path, {"classes": ["Tumor"]})[0].read()
    with pytest.raises(ConfigError, match=says("list", "names")):
        list_entries("qupath", tmp_path, {"classes": "Tumor"})


def test_folder_description_is_checked(tmp_path):
    folder.make(tmp_path)
    path = tmp_path / "nucleate.json"
    for bad in (
        "{", "[]", '{"format": "x"}', '{"format": "nucleate-folder-1", "images": [1]}',
        '{"format": "nucleate-folder-1", "images": {"p0_0": {"organ": 3}}}',
        '{"format": "nucleate-folder-1", "images": {"p0_0": {"classes": ["x"]}}}',
    ):  # fmt: skip
        path.write_text(bad)
        with pytest.raises(InputError, match=r"nucleate\.json"):
            list_entries("folder", tmp_path, {})
    path.write_text(
        '{"format": "nucleate-folder-1", "images": {"p0_0": {"classes": [0], '
        '"class_names": ["a"]}}}'
    )
    with pytest.raises(InputError, match=says("1 classes")):
        list_entries("folder", tmp_path, {})[0].read()


def test_official_test_parts_are_known_in_every_layout(tmp_path):
    from nucleate.config import DataConfig as Config
    from nucleate.datasets.loading import list_sets
    from nucleate.datasets.schemes import SchemeOptions, split_by
    from nucleate.datasets.splits import write_split

    hovernet._make(tmp_path, "Train", ("train_1", "train_2", "train_3"), 7, 64)
    hovernet._make(tmp_path, "Test", ("test_1",), 7, 64)
    sets = {"sets": [{"name": "consep", "path": "."}]}
    config = Config.model_validate(sets)
    with pytest.raises(InputError, match=says("official test")):
        collect(config, tmp_path)
    entries = list(list_sets(config.sets, tmp_path / config.root)[0].values())
    with pytest.raises(InputError, match=says("official test")):
        split_by("kfold", entries, SchemeOptions(folds=2))
    made = split_by("official", entries, SchemeOptions())["official"]
    assert made.parts["test"] == ("0:Test/test_1",)
    write_split(tmp_path / "s.json", made)
    found = collect(Config.model_validate(sets | {"split": "s.json"}), tmp_path)
    assert len(found.split.parts["train"]) == 2


def test_monuseg_test_barcodes_are_known_by_every_reader(tmp_path):
    hovernet._make(tmp_path, "train", monuseg.TEST, 0, 64)
    assert list_entries("kumar", tmp_path, {})[0].test_only


def test_a_tcga_patient_is_one_in_a_folder_too(tmp_path):
    folder.make(tmp_path, 2)
    for part in ("images", "labels"):
        for k, file in enumerate(sorted((tmp_path / part).iterdir())):
            file.rename(file.with_name(f"TCGA-18-5592-01Z-00-DX1_{k}{file.suffix}"))
    assert {e.group for e in list_entries("folder", tmp_path, {})} == {"TCGA-18-5592"}


def test_description_counts_from_where_it_lies(tmp_path):
    hovernet.consep(tmp_path / "c")
    convert(list_entries("consep", tmp_path / "c", {}), tmp_path / "out" / "deep", "folder")
    found = list_entries("folder", tmp_path / "out", {})
    assert [e.group for e in found] == ["train_1", "train_2"]
    assert found[0].read().class_names[0] == "other"


def test_images_without_nuclei_have_no_classes(tmp_path):
    import scipy.io

    from nucleate.datasets.hovernet import read_typed

    content = {"inst_map": np.zeros((4, 4)), "inst_type": np.zeros((0, 1))}
    scipy.io.savemat(tmp_path / "a.mat", content)
    labels, classes = read_typed(tmp_path / "a.mat", 7)
    assert not labels.any()
    assert classes.shape == (0,)


def test_coco_names_below_images_come_back(tmp_path):
    import json

    coco.make(tmp_path / "c")
    path = tmp_path / "c" / "annotations.json"
    content = json.loads(path.read_text())
    for record in content["images"]:
        record["file_name"] = f"images/{record['file_name']}"
    path.write_text(json.dumps(content))
    entries = list_entries("coco", tmp_path / "c", {})
    assert entries[0].name == "slide_0"
    convert(entries, tmp_path / "f", "folder")
    assert len(list_entries("folder", tmp_path / "f", {})) == 3


def test_coco_cannot_hold_unlabelled_images_and_keeps_differing_classes(tmp_path):
    from dataclasses import replace

    folder.make(tmp_path / "u")
    shutil.rmtree(tmp_path / "u" / "labels")
    with pytest.raises(InputError, match=says("COCO cannot")):
        convert(list_entries("folder", tmp_path / "u", {}), tmp_path / "x", "coco")
    hovernet.consep(tmp_path / "c")
    a, b = list_entries("consep", tmp_path / "c", {})
    sample = b.read()
    renamed = replace(sample, class_names=tuple(reversed(sample.class_names)))
    convert([a, replace(b, read=lambda: renamed)], tmp_path / "y", "coco")
    back = list_entries("coco", tmp_path / "y", {})[1].read()
    for before, after in zip(renamed.classes, back.classes, strict=True):
        assert renamed.class_names[before] == back.class_names[after]


@pytest.mark.parametrize("wrong", ["abc", -1, 0, float("nan"), True])
def test_an_impossible_mpp_is_refused_by_every_reader(tmp_path, wrong):
    for name in sorted(DATASETS.keys() - {"shards"}):
        with pytest.raises(InputError, match="mpp"):
            list_entries(name, tmp_path, {"mpp": wrong})


def test_three_monuseg_images_are_at_20x(tmp_path):
    small = "TCGA-HE-7129-01Z-00-DX1"
    truth = monuseg.make(tmp_path, (small, monuseg.TRAIN[1]))
    read = {e.name: e.read() for e in list_entries("monuseg", tmp_path, {})}
    assert {name: s.mpp for name, s in read.items()} == {small: 0.5, monuseg.TRAIN[1]: 0.25}
    larger = at_mpp(read[small], 0.25)
    assert larger.image.shape == (256, 256, 3)
    # every pixel became a square of four, in labels and image alike
    np.testing.assert_array_equal(larger.labels[::2, ::2], read[small].labels)
    np.testing.assert_array_equal(larger.labels[1::2, 1::2], larger.labels[::2, ::2])
    back = cv2.resize(larger.image, (128, 128), interpolation=cv2.INTER_AREA)
    assert np.abs(back.astype(int) - read[small].image).mean() < 4
    shifted = [np.roll(back, 1, axis).astype(int) for axis in (0, 1)]
    near = np.abs(back.astype(int) - read[small].image).mean()
    assert all(np.abs(s - read[small].image).mean() > 2 * near for s in shifted)
    assert truth[small].max() == larger.labels.max()


def test_folder_with_ignored_areas_and_types(tmp_path):
    truth = folder.make(tmp_path, count=1)["p0_0"]
    for name in ("ignore", "types"):
        (tmp_path / name).mkdir()
    vague = np.zeros(truth.shape, np.uint8)
    vague[:20] = 255
    Image.fromarray(vague).save(tmp_path / "ignore" / "p0_0.png")
    kinds = np.where(truth > 0, truth % 2 + 1, 0).astype(np.uint8)
    Image.fromarray(kinds).save(tmp_path / "types" / "p0_0.png")
    plain = list_entries("folder", tmp_path, {})[0].read()
    assert plain.classes is None
    np.testing.assert_array_equal(plain.ignore, vague > 0)
    options = {"classes": ["even", "odd"]}
    read = list_entries("folder", tmp_path, options)[0].read()
    assert read.class_names == ("even", "odd")
    assert read.classes.tolist() == [i % 2 for i in range(1, truth.max() + 1)]
    with pytest.raises(InputError, match=says("type 2", "names 1")):
        list_entries("folder", tmp_path, {"classes": ["one"]})[0].read()
    with pytest.raises(ConfigError, match=says("list of names")):
        list_entries("folder", tmp_path, {"classes": "one"})
    Image.fromarray(kinds * 0).save(tmp_path / "types" / "p0_0.png")
    with pytest.raises(InputError, match=says("no type", "classes")):
        list_entries("folder", tmp_path, options)[0].read()


def test_folder_with_a_table_of_resolutions(tmp_path):
    folder.make(tmp_path)
    (tmp_path / "groups.csv").write_text("name,group,mpp_guess\np0_0,pink,0.15\np1_0,purple,0.33\n")
    table = {"mpp_table": "groups.csv"}
    read = {e.name: e.read().mpp for e in list_entries("folder", tmp_path, {**table, "mpp": 0.5})}
    assert read == {"p0_0": 0.15, "p1_0": 0.33, "p2_0": 0.5}
    pink = list_entries("folder", tmp_path, {**table, "only": ["pink"]})
    assert [e.name for e in pink] == ["p0_0"]
    with pytest.raises(ConfigError, match=says("'pnik'", "pink")):
        list_entries("folder", tmp_path, {**table, "only": ["pnik"]})
    with pytest.raises(ConfigError, match=says("mpp_table")):
        list_entries("folder", tmp_path, {"only": ["pink"]})
    with pytest.raises(InputError, match=says("table", "other.csv")):
        list_entries("folder", tmp_path, {"mpp_table": "other.csv"})
    for wrong in ("name\np0_0\n", "name,mpp\np0_0,far\n", "mpp\n0.2\n"):
        (tmp_path / "groups.csv").write_text(wrong)
        with pytest.raises(InputError, match=says("columns name and mpp")):
            list_entries("folder", tmp_path, table)


@pytest.mark.data
def test_real_counts_are_those_of_their_cards(real_data):
    from nucleate.curation.check import check

    found = {}
    for name, place, options in (
        ("cryonuseg", "CryoNuSeg", {}),
        ("cryonuseg", "CryoNuSeg", {"annotation": "biologist-2"}),
        ("cryonuseg", "CryoNuSeg", {"annotation": "bioinformatician"}),
        ("tnbc", "TNBC", {}),
        ("consep", "CoNSeP", {"types": 4}),
        ("monuseg", "MoNuSeg/MoNuSeg 2018 Training Data.zip", {}),
    ):
        entries = list_entries(name, real_data / place, options)
        report = check(entries, DATASETS[name].card)
        found[name, options.get("annotation")] = (report.images, report.nuclei, report.part)
    assert found == {
        ("cryonuseg", None): (30, 7_592, "biologist"),
        ("cryonuseg", "biologist-2"): (30, 8_036, "biologist-2"),
        ("cryonuseg", "bioinformatician"): (30, 8_242, "bioinformatician"),
        ("tnbc", None): (50, 4_028, "all"),
        ("consep", None): (27, 15_555, "Train"),
        ("monuseg", None): (30, 16_959, "training"),
    }


@pytest.mark.data
def test_real_sets_in_plain_folders(real_data):
    crops = [e.read() for e in list_entries("folder", real_data / "MoNuSAC61", {
        "mpp": 0.25, "classes": ["epithelial", "lymphocyte", "neutrophil"]})]  # fmt: skip
    assert len(crops) == 61
    assert sum(len(s.classes) for s in crops) == 10_496
    assert any(s.ignore.any() for s in crops)
    options = {"mpp_table": "groups.csv", "only": ["purple-on-light", "he-pink"]}
    glass = [e.read().mpp for e in list_entries("folder", real_data / "DSB2018-tissue", options)]
    assert (len(glass), set(glass)) == (42, {0.25, 0.15})


@pytest.mark.data
def test_real_nuinsseg_sample(real_data):
    """Labels, regions and vague areas of two tiles, without their images."""
    from nucleate.datasets.nuinsseg import read_truth, read_vague

    base = real_data / "NuInsSeg-sample"
    for name, count in (("human_bladder_01", 24), ("human_bladder_02", None)):
        labels, _ = read_truth(base / "GT" / f"{name}.tif", (512, 512))
        vague = read_vague(base / "amb_masks" / f"{name}.png", labels)
        assert vague.any()
        assert count is None or labels.max() == count


@pytest.mark.data
def test_real_monuseg_counts(real_data):
    from nucleate.geometry.labels import compact

    found = {}
    for name in ("MoNuSeg 2018 Training Data", "MoNuSegTestData", "extra7"):
        entries = list_entries("monuseg", real_data / "MoNuSeg" / f"{name}.zip", {})
        found[name] = (len(entries), sum(len(compact(e.read().labels)[1]) for e in entries))
    # one of the 16,959 outlines lies wholly under earlier ones
    assert found == {
        "MoNuSeg 2018 Training Data": (30, 16_958),
        "MoNuSegTestData": (14, 6_697),
        "extra7": (7, 7_174),
    }

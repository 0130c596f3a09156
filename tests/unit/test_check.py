"""Checks of data sets: what is wrong is found, what is right is not complained about."""

import cv2
import numpy as np
import pytest
from PIL import Image

from nucleate.curation.check import alike, check, image_hash
from nucleate.curation.inspect import inspect_entries
from nucleate.datasets import DATASETS
from nucleate.datasets.base import DatasetCard
from nucleate.datasets.loading import list_entries
from nucleate.errors import InputError
from tests.data import folder, hovernet, monuseg
from tests.errors import says
from tests.synthetic import tissue

CARD = DatasetCard("t", "c", "l", "c", "w", size=(128, 128), parts={"all": (3, None)})


def test_a_sound_set_has_no_problems(tmp_path):
    truth = folder.make(tmp_path)
    report = check(list_entries("folder", tmp_path, {"mpp": 0.25}), CARD)
    assert report.problems == []
    assert report.part == "all"
    assert report.nuclei == sum(len(np.unique(labels)) - 1 for labels in truth.values())


def test_duplicates_are_found_also_when_recompressed_and_resized(tmp_path):
    image = tissue(128, 128, 14, 1)[0]
    coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 70])[1]
    copies = {
        "a": image,
        "jpeg": cv2.imdecode(coded, cv2.IMREAD_COLOR),
        "smaller": cv2.resize(image, (96, 96), interpolation=cv2.INTER_AREA),
        "brighter": np.clip(image.astype(int) + 8, 0, 255).astype(np.uint8),
        "other": tissue(128, 128, 14, 2)[0],
        "flipped": image[:, ::-1].copy(),
    }
    pairs = alike({name: image_hash(copy) for name, copy in copies.items()})
    assert pairs == [
        ("a", "brighter"), ("a", "jpeg"), ("a", "smaller"), ("brighter", "jpeg"),
        ("brighter", "smaller"), ("jpeg", "smaller"),
    ]  # fmt: skip
    assert alike({}) == []


def test_what_is_wrong_is_said(tmp_path):
    folder.make(tmp_path)
    Image.fromarray(tissue(96, 128, 5, 9)[0]).save(tmp_path / "images" / "p9_0.png")
    labels = np.zeros((96, 128), np.int32)
    labels[:20, :20], labels[50:60, 50:60], labels[80, 80] = 7, 7, 9
    np.save(tmp_path / "labels" / "p9_0.npy", labels)
    (tmp_path / "labels" / "p1_0.tif").write_bytes(b"II*\0broken")
    report = check(list_entries("folder", tmp_path, {}), CARD)
    said = "\n".join(report.problems + report.notes)
    assert "p1_0.tif: cannot be read as TIFF" in said
    assert "1 images are not 128 × 128 pixels but, for example, 128 × 96" in said
    assert "no published part (all: 3 images)" in said
    assert "p9_0: ids run to 9 for 2 nuclei" in said
    assert "1 labels are in several pieces" in said
    assert "1 pieces are smaller than 10 pixels" in said
    assert "p0_0: states no resolution" in said


def test_where_nothing_can_be_read_the_first_error_is_raised(tmp_path):
    """As `segment` does: nothing was done (exit code 2), not something with problems (3)."""
    folder.make(tmp_path)
    for file in (tmp_path / "images").iterdir():
        file.write_bytes(b"II*\0broken")
    entries = list_entries("folder", tmp_path, {})
    with pytest.raises(InputError, match=says("p0_0", "cannot be read as TIFF")):
        check(entries, CARD)
    with pytest.raises(InputError, match=says("p0_0", "cannot be read as TIFF")):
        inspect_entries(entries, CARD)


def test_inspect_finds_every_problem_that_check_finds(tmp_path):
    folder.make(tmp_path)
    image = tissue(96, 128, 5, 9)[0]
    labels = np.zeros((96, 128), np.int32)
    labels[:20, :20], labels[50:60, 50:60], labels[80, 80] = 7, 7, 9
    for name in ("p9_0", "p9_1"):  # twice the same tissue, of another size
        Image.fromarray(image).save(tmp_path / "images" / f"{name}.png")
        np.save(tmp_path / "labels" / f"{name}.npy", labels)
    (tmp_path / "labels" / "p1_0.tif").write_bytes(b"II*\0broken")
    entries = list_entries("folder", tmp_path, {})
    problems, found = check(entries, CARD).problems, inspect_entries(entries, CARD)
    assert len(problems) >= 4
    assert found.conflicts[: len(problems)] == problems
    assert found.unread == 1
    assert found.images == len(entries) - 1


def test_empty_images_are_not_the_same_tissue(tmp_path):
    folder.make(tmp_path, 1)
    for name, level in (("white", 255), ("black", 0)):
        Image.fromarray(np.full((64, 64, 3), level, np.uint8)).save(
            tmp_path / "images" / f"{name}.png"
        )
        np.save(tmp_path / "labels" / f"{name}.npy", np.zeros((64, 64), np.int32))
    report = check(list_entries("folder", tmp_path, {}), DATASETS["folder"].card)
    assert report.problems == []


def test_patients_in_two_parts_are_a_problem(tmp_path):
    hovernet.kumar(tmp_path)
    source = tmp_path / "train"
    for part, ending in (("Images", "png"), ("Labels", "mat")):
        target = tmp_path / "test_same" / part
        target.mkdir(parents=True)
        file = source / part / f"TCGA-A7-A13E-01Z-00-DX1.{ending}"
        (target / f"TCGA-A7-A13E-01Z-00-DX2.{ending}").write_bytes(file.read_bytes())
    report = check(list_entries("kumar", tmp_path, {}), DATASETS["kumar"].card)
    said = "\n".join(report.problems)
    assert "group 'TCGA-A7-A13E' has images in test and train" in said
    assert "show the same tissue" in said


def test_overlapping_outlines_are_counted(tmp_path):
    monuseg.make(tmp_path, monuseg.TRAIN[:1])
    square = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in ((0, 0), (20, 0), (20, 20), (0, 20)))
    region = f"<Region><Vertices>{square}</Vertices></Region>"
    path = tmp_path / "Annotations" / f"{monuseg.TRAIN[0]}.xml"
    path.write_text(f"<Annotations><Annotation>{region * 2}</Annotation></Annotations>")
    report = check(list_entries("monuseg", tmp_path, {}), DATASETS["monuseg"].card)
    assert report.nuclei == 2
    assert report.rows[0]["contested_px"] == 400
    assert any("1 outlines are wholly under others" in note for note in report.notes)
    assert any("400 pixels belong" in note for note in report.notes)

"""An image that cannot be what it is said to be gets a warning; one that can be gets none."""

import cv2
import numpy as np
import pytest

from nucleate.inference.loading import load_model
from nucleate.inference.pipeline import EngineOptions
from nucleate.inference.segment import find_nuclei, segment
from nucleate.inference.suggest_mpp import contact_sheet, suggest_mpp
from nucleate.models.card import DEFAULT_MODEL, EXAMPLE
from nucleate.quality.glimpse import glimpse
from nucleate.quality.plausibility import doubts_about_sample
from nucleate.quality.scale import most_plausible
from nucleate.readers.array import ArraySource
from nucleate.readers.images import read_image
from nucleate.readers.reader import Reader
from nucleate.readers.source import RegionError
from nucleate.stain.deconvolution import STAINS_TO_OD, to_stains
from tests.synthetic import tissue

MPP = 0.499


@pytest.fixture(scope="module")
def model():
    return load_model(DEFAULT_MODEL, device="cpu", threads=1)


@pytest.fixture(scope="module")
def example():
    return np.ascontiguousarray(read_image(EXAMPLE)[0][:512, :512])


def grey(image):
    return np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


def fluorescent(image):
    """Nuclei that shine blue on black."""
    haematoxylin = np.clip(to_stains(image)[..., 0] - 0.9, 0, 1)
    return np.stack([0 * haematoxylin, 0 * haematoxylin, 255 * haematoxylin], -1).astype(np.uint8)


def dab(image):
    """Brown where eosin was, on blue nuclei."""
    stains = to_stains(image)
    brown = np.stack([0.5 * stains[..., 0], 0 * stains[..., 0], 2 * stains[..., 1]], -1)
    light = 255 * np.exp(-cv2.transform(brown, STAINS_TO_OD.T))
    return np.clip(light, 0, 255).astype(np.uint8)


def ink(image):
    """Green strokes and dots on glass."""
    drawn = np.full_like(image, 240)
    for x in range(20, 500, 40):
        cv2.circle(drawn, (x, 200 + x // 4), 9, (20, 110, 60), -1)
        cv2.line(drawn, (x, 380), (x + 12, 470), (15, 90, 50), 9)
    return drawn


def same(image):
    return image


CASES = {
    "as it is": (same, 1.0, set()),
    "half the mpp": (same, 0.5, {"scale"}),
    "twice the mpp": (same, 2.0, {"scale"}),
    "exchanged": (lambda image: image[..., ::-1].copy(), 1.0, {"exchanged"}),
    "grey": (grey, 1.0, {"stain"}),
    "fluorescence": (fluorescent, 1.0, {"stain"}),
    "negative": (lambda image: 255 - image, 1.0, {"stain"}),
    "DAB": (dab, 1.0, {"stain"}),
    "blurred": (lambda image: cv2.GaussianBlur(image, (0, 0), 3), 1.0, {"focus"}),
    "glass": (lambda image: np.full_like(image, 238), 1.0, set()),
}


@pytest.mark.parametrize("case", CASES)
def test_each_case_is_distinguished(case, model, example):
    change, factor, kinds = CASES[case]
    found = find_nuclei(ArraySource(change(example)), model, MPP * factor, EngineOptions())
    printed = {doubt.kind for doubt in found.doubts}
    assert kinds <= printed
    assert bool(printed) == bool(kinds), found.notes()


def test_what_lies_on_ink_alone_is_no_nucleus(model, example):
    found = find_nuclei(ArraySource(ink(example)), model, MPP, EngineOptions())
    if len(found.nuclei):
        assert {doubt.kind for doubt in found.doubts} & {"nothing", "stain"}


def test_python_warns_with_the_reason(model, example):
    with pytest.warns(UserWarning, match="channels=bgr"):
        segment(example[..., ::-1].copy(), model, mpp=MPP)


def test_the_summary_has_the_reason(nucleate, tmp_path, example):
    import json

    cv2.imwrite(str(tmp_path / "swapped.png"), example)  # OpenCV takes RGB for BGR
    code, _, err = nucleate("segment", tmp_path / "swapped.png", "--mpp", MPP, "-o", tmp_path / "o")
    row = json.loads((tmp_path / "o" / "summary.json").read_text())["sources"][0]
    assert code == 0
    assert "red and blue look exchanged" in row["notes"][0]
    assert "red and blue look exchanged" in err


@pytest.mark.parametrize(
    "case", ["as it is", "exchanged", "grey", "fluorescence", "DAB", "blurred"]
)
def test_annotated_images_are_judged_by_their_labels(case, model, example):
    change, factor, kinds = CASES[case]
    labels = find_nuclei(ArraySource(example), model, MPP, EngineOptions()).nuclei.to_labels()
    printed = {doubt.kind for doubt in doubts_about_sample(change(example), labels, MPP * factor)}
    assert printed == kinds


def test_check_names_the_images_and_the_option(nucleate, tmp_path):
    for name in ("images", "labels"):
        (tmp_path / "d" / name).mkdir(parents=True)
    for i in range(2):
        image, labels = tissue(seed=i)
        cv2.imwrite(str(tmp_path / "d" / "images" / f"{i}.png"), image)  # BGR
        cv2.imwrite(str(tmp_path / "d" / "labels" / f"{i}.png"), labels.astype(np.uint16))
    code, out, _ = nucleate("data", "check", tmp_path / "d", "--option", "mpp=0.25")
    assert code == 3
    assert "2 of 2 images: red and blue look exchanged" in out
    code, out, _ = nucleate(
        "data", "check", tmp_path / "d", "--option", "mpp=0.25", "--option", "channels=bgr"
    )
    assert "exchanged" not in out


@pytest.mark.parametrize("stated", [0.5, 1.0])
def test_the_mpp_is_found_whatever_the_image_says(stated, model, example):
    suggestion = suggest_mpp(ArraySource(example, mpp=stated), model)
    assert suggestion.found[0][0] == 0.5
    assert suggestion.estimate == pytest.approx(MPP, rel=0.25)
    assert contact_sheet(suggestion).shape == (836, 1568, 3)


def test_glass_suggests_nothing(model):
    blank = ArraySource(np.full((300, 200, 3), 240, np.uint8))
    suggestion = suggest_mpp(blank, model)
    assert suggestion.found == []
    assert contact_sheet(suggestion).shape[2] == 3


def test_suggest_writes_a_contact_sheet_and_nothing_else(nucleate, tmp_path, example):
    cv2.imwrite(str(tmp_path / "a.png"), example[..., ::-1])
    code, out, _ = nucleate("segment", tmp_path / "a.png", "-o", tmp_path / "o", "--suggest-mpp")
    assert code == 0
    assert "most plausible" in out
    assert [file.name for file in (tmp_path / "o").iterdir()] == ["a.scales.png"]
    code, _, err = nucleate(
        "segment", tmp_path / "a.png", "-o", tmp_path / "o", "--suggest-mpp", "--mpp", "1"
    )
    assert code == 2
    assert "Omit --mpp" in err


def test_alternatives_are_where_votes_gather():
    tried = {0.125: 0.0, 0.25: 1.0, 0.5: 0.0, 1.0: 1.0}
    found = most_plausible(tried)
    assert len(found) > 1
    assert sum(share for _, share in found) == pytest.approx(1)


def test_windows_of_what_can_be_read():
    class Damaged(ArraySource):
        def read(self, x0, y0, x1, y1, level=0):
            if x0 == 0:
                raise RegionError("damaged")
            return super().read(x0, y0, x1, y1, level)

    windows = glimpse(Reader(Damaged(np.zeros((2000, 2000, 3), np.uint8)), 0.25))
    assert len(windows) == 6
    assert {window.pixels.shape for window in windows} == {(256, 256, 3)}

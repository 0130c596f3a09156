"""Normalisers: what they change, what they leave alone, and that they never guess silently."""

import json

import cv2
import numpy as np
import pytest

from nucleate.config import StainConfig
from nucleate.errors import ConfigError, InputError, OutputError
from nucleate.stain import macenko, reinhard, vahadane
from nucleate.stain.fitting import fit_stain, restain
from nucleate.stain.normalise import (
    METHODS,
    fit,
    read_normaliser,
    write_normaliser,
)
from nucleate.stain.reference import Criteria, examine, select
from nucleate.stain.tissue import tissue_mask
from nucleate.types import Sample
from tests.errors import says
from tests.synthetic import tissue

ALL = [(name, "rgb") for name in METHODS] + [("histogram", "lab"), ("histogram", "stains")]
everything = pytest.mark.parametrize(("method", "space"), ALL)


HE = np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]])  # of a real slide


def stained(seed, red=1.0, blue=1.0, size=256):
    """Return tissue of two stains; red and blue densities are scaled as by another laboratory."""
    labels = tissue(size, size, 60, seed)[1]
    rng = np.random.default_rng(seed)
    stains = np.stack(
        [
            np.where(labels > 0, 1.1, 0.2) * rng.gamma(4, 1 / 4, (size, size)),
            np.where(labels > 0, 0.2, 0.6) * rng.gamma(4, 1 / 4, (size, size)),
        ],
        -1,
    )
    density = cv2.GaussianBlur(stains, (0, 0), 0.8) @ (HE * [red, 1.0, blue])
    return np.rint(255 * np.exp(-density)).astype(np.uint8)


@everything
def test_another_laboratory_comes_close_to_the_reference(method, space):
    reference, other = stained(1), stained(1, red=0.7, blue=1.4)
    changed = fit({"r": reference}, method, space=space).adapt(other).apply(other)
    before = np.abs(other.astype(int) - reference).mean()
    after = np.abs(changed.astype(int) - reference).mean()
    assert before > 5
    assert after < 0.4 * before


@everything
def test_its_own_reference_stays(method, space):
    image = stained(2)
    changed = fit({"r": image}, method, space=space).adapt(image).apply(image)
    assert np.abs(changed.astype(int) - image).mean() < 2


@everything
def test_glass_keeps_its_colour(method, space):
    half = stained(3)
    half[:, :128] = 246
    changed = fit({"r": stained(1, 0.7, 1.4)}, method, space=space).adapt(half).apply(half)
    assert np.abs(changed[:, :128].astype(int) - 246).max() <= 1
    assert np.abs(changed[:, 128:].astype(int) - half[:, 128:]).mean() > 5


def test_blend_goes_half_the_way():
    reference, other = stained(1), stained(1, 0.7, 1.4)
    full = fit({"r": reference}, "reinhard").adapt(other).apply(other).astype(int)
    half = fit({"r": reference}, "reinhard", blend=0.5).adapt(other).apply(other)
    none = fit({"r": reference}, "reinhard", blend=0).adapt(other).apply(other)
    assert np.abs(half - (full + other) / 2).max() <= 2
    assert np.abs(none.astype(int) - other).max() <= 1


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (np.full((64, 64, 3), 255, np.uint8), "0 of 4096"),
        (np.zeros((64, 64, 3), np.uint8), "0 of 4096"),
        (np.full((64, 64, 3), (20, 120, 60), np.uint8), "0 of 4096"),
        (np.full((5, 5, 3), (120, 80, 160), np.uint8), "25 of 25"),
        (np.full((64, 64, 3), (200, 120, 180), np.uint8), "the tissue"),
        (np.tile(np.arange(40, 168, 2, dtype=np.uint8)[:, None, None], (1, 64, 3)), "grey"),
    ],
    ids=["white", "black", "pen", "tiny", "one colour", "grey"],
)  # fmt: skip
@everything
def test_what_cannot_be_normalised_is_left_and_said(method, space, image, why):
    transform = fit({"r": stained(1)}, method, space=space).adapt(image)
    assert why in transform.note
    np.testing.assert_array_equal(transform.apply(image), image)


@everything
def test_pen_and_black_keep_their_colour(method, space):
    """They are no tissue, and must not come out as nuclei."""
    image = stained(3)
    pens = [(20, 120, 60), (20, 60, 180), (0, 0, 0), (210, 20, 30)]
    for i, pen in enumerate(pens):
        image[8 * i : 8 * i + 8] = pen
    changed = fit({"r": stained(1, 0.7, 1.4)}, method, space=space).adapt(image).apply(image)
    assert np.abs(changed[:32].astype(int) - image[:32]).max() <= 2


def test_a_fitted_file_is_known_by_its_file_name(tmp_path):
    """`stain fit` has a file's name only; a held-out image may carry its folder as well."""
    write_normaliser(tmp_path / "s.json", fit({"train_6": stained(1)}, "macenko"))
    config = StainConfig(method="macenko", fitted="s.json")
    with pytest.raises(ConfigError, match=says("held-out")):
        fit_stain(config, {}, ["0:Train/train_6"], tmp_path)


def test_pen_does_not_count():
    clean = stained(4)
    penned = clean.copy()
    penned[:90] = (25, 40, 160)
    normaliser = fit({"r": stained(1)}, "macenko")
    without = normaliser.adapt(clean).apply(clean)[90:].astype(int)
    assert np.abs(without - normaliser.adapt(penned).apply(penned)[90:]).mean() < 2


@everything
def test_a_tile_changes_as_its_image_does(method, space):
    image = stained(5, 0.8, 1.2)
    transform = fit({"r": stained(1)}, method, space=space).adapt(image)
    np.testing.assert_array_equal(
        transform.apply(image[40:90, 7:]), transform.apply(image)[40:90, 7:]
    )


@everything
def test_the_table_is_close_to_the_formula(method, space):
    image = stained(6, 0.8, 1.2)
    normaliser = fit({"r": stained(1)}, method, space=space, as_published=True)
    source = fit({"s": image}, method, space=space, as_published=True).target
    exact = METHODS[method].convert(
        image.reshape(-1, 3).astype(np.float32), source, normaliser.target
    )
    printed = normaliser.adapt(image).apply(image).reshape(-1, 3)
    assert np.abs(np.clip(exact, 0, 255) - printed).mean() < 1


def test_macenko_finds_known_stains():
    truth = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    rng = np.random.default_rng(0)
    found = rng.gamma(2, 0.3, (20_000, 2))
    found[::4, 0], found[1::4, 1] = 0, 0
    pixels = np.clip(np.rint(255 * np.exp(-found @ truth)), 1, 255).astype(np.uint8)
    for method in (macenko, vahadane):
        stains = np.array(method.stain_statistics(pixels)["stains"])
        angles = np.degrees(np.arccos(np.clip((stains * truth).sum(axis=1), -1, 1)))
        assert (angles < 6).all(), (method.__name__, angles)


def test_reinhard_brings_mean_and_spread():
    reference, other = stained(1), stained(1, 0.7, 1.4)
    changed = fit({"r": reference}, "reinhard").adapt(other).apply(other)
    want, got = (reinhard.stain_statistics(i[tissue_mask(i)]) for i in (reference, changed))
    np.testing.assert_allclose(got["mean"], want["mean"], atol=1.5)
    np.testing.assert_allclose(got["sd"], want["sd"], atol=1.5)


def test_normaliser_survives_its_file_and_bad_files_are_refused(tmp_path):
    normaliser = fit({"a": stained(1), "b": stained(2)}, "histogram", 0.8, "lab")
    path = tmp_path / "stain.json"
    write_normaliser(path, normaliser)
    assert read_normaliser(path) == normaliser
    good = json.loads(path.read_text())
    bad = [
        "{", "[]", "{}",
        json.dumps(good | {"method": "magic"}),
        json.dumps(good | {"blend": 3}),
        json.dumps(good | {"target": {"space": "lab"}}),
        json.dumps(good | {"target": {"space": "x", "quantiles": []}}),
        json.dumps(good | {"target": good["target"] | {"quantiles": [[1]]}}),
        json.dumps(good | {"target": good["target"] | {"quantiles": "x"}}),
        json.dumps(good).replace("0.8", "NaN"),
        json.dumps(good).replace("0.8", "9" * 400),
        json.dumps(good | {"as_published": "false"}),
        json.dumps(good | {"target": good["target"] | {"quantiles": [[1] * 257] * 3}}),
        json.dumps(good | {"method": "reinhard", "target": {"mean": [1, 1, 1], "sd": [0, 0, 0]}}),
        json.dumps(good | {"method": "macenko", "target": {"stains": [[1]], "amounts": [0]}}),
    ]  # fmt: skip
    for text in bad:
        path.write_text(text)
        with pytest.raises(InputError, match=r"stain\.json"):
            read_normaliser(path)
    with pytest.raises(OutputError):
        write_normaliser(tmp_path / "stain.json" / "below", normaliser)


def test_fit_refuses_what_is_no_reference():
    with pytest.raises(InputError, match=says("stained", "tissue")):
        fit({"white": np.full((64, 64, 3), 255, np.uint8)}, "macenko")
    with pytest.raises(InputError, match="no image"):
        fit({}, "macenko")
    grey = np.tile(np.arange(40, 168, 2, dtype=np.uint8)[:, None, None], (1, 64, 3))
    with pytest.raises(InputError, match="is grey"):
        fit({"grey": grey}, "macenko")
    with pytest.raises(InputError, match=says("two stains")):
        fit({"flat": np.full((64, 64, 3), (200, 120, 180), np.uint8)}, "macenko")
    with pytest.raises(ConfigError, match=says("'macenko'")):
        fit({"a": stained(1)}, "macenco")
    with pytest.raises(ConfigError, match=says("method", "histogram")):
        fit({"a": stained(1)}, "macenko", space="lab")
    with pytest.raises(ConfigError, match="blend"):
        fit({"a": stained(1)}, "macenko", blend=2)


def test_reference_is_the_medoid_and_rejections_have_reasons():
    images = {f"p{i}": stained(i, red=0.6 + 0.1 * i) for i in range(6)}
    images["empty"] = np.full((256, 256, 3), 250, np.uint8)
    burnt = stained(9)
    burnt[::2] = (255, 100, 120)
    images["burnt"] = burnt
    ranking = select((examine(n, i) for n, i in images.items()), 2, Criteria(drop_focus=0.2))
    assert [c.chosen for c in ranking[:3]] == [1, 2, 0]
    assert ranking[0].name in ("p2", "p3", "p4")  # the middle of the row
    reasons = {c.name: c.rejected for c in ranking if c.rejected}
    assert reasons["empty"].startswith("tissue 0%")
    assert reasons["burnt"].startswith("clipped")
    assert any(r.startswith("focus") for r in reasons.values())
    with pytest.raises(InputError, match=says("stain reference", "9")):
        select([examine(n, i) for n, i in images.items()], 9)
    with pytest.raises(ConfigError, match="at least one"):
        select([], 0)


def sample(name, image):
    return Sample(image=image, labels=None, name=name, group=name)


def test_recipe_fits_on_training_images_only(tmp_path):
    training = [sample(f"t{i}", stained(i)) for i in range(3)]
    images = {s.name: (lambda s=s: s.image) for s in training}
    assert fit_stain(StainConfig(), images, []) is None
    normaliser = fit_stain(StainConfig(method="macenko", references=2), images, ["v"])
    assert len(normaliser.fitted_on) == 2
    write_normaliser(tmp_path / "s.json", normaliser)
    ready = StainConfig(method="macenko", fitted="s.json")
    assert fit_stain(ready, images, ["0:other"], tmp_path) == normaliser
    with pytest.raises(ConfigError, match=says("held-out")):
        fit_stain(ready, images, [f"0:{normaliser.fitted_on[0]}"], tmp_path)
    with pytest.raises(ConfigError, match="fitted for macenko"):
        fit_stain(StainConfig(method="reinhard", fitted="s.json"), images, [], tmp_path)
    said = []
    blank = sample("blank", np.full((64, 64, 3), 255, np.uint8))
    changed = restain([*training, blank], normaliser, said.append)
    assert changed[3].image is blank.image
    assert said == ["blank: not normalised: 0 of 4096 sampled pixels are tissue"]


def test_a_model_takes_its_stain_along(oracle):
    """The oracle reads labels from colours: what it sees must be the normalised image."""
    from dataclasses import replace

    from nucleate.inference.backends import Model
    from nucleate.inference.inputs import stain_transform
    from nucleate.inference.pipeline import EngineOptions
    from nucleate.inference.segment import find_nuclei
    from nucleate.readers.array import ArraySource

    class Listener:
        about, seen = "listener", None

        def __call__(self, batch):
            self.seen = batch
            return {"foreground": np.zeros(batch.shape[:3], np.float32)}

    image = stained(7, 0.7, 1.3)
    normaliser = fit({"r": stained(1)}, "macenko")
    card = replace(oracle.card, stain=normaliser.to_dict())
    heard = Listener()
    found = find_nuclei(ArraySource(image), Model(card, heard), 0.25, EngineOptions())
    assert found.stain == ""
    np.testing.assert_array_equal(heard.seen[0], normaliser.adapt(image).apply(image))
    blank = np.full((64, 64, 3), 255, np.uint8)
    found = find_nuclei(ArraySource(blank), Model(card, heard), 0.25, EngineOptions())
    assert "are tissue" in found.stain
    large = np.tile(image, (17, 17, 1))  # above the limit: windows are sampled
    sampled = stain_transform(ArraySource(large), card).table
    assert np.abs(sampled - normaliser.adapt(image).table).mean() < 4


def test_agrees_with_torchstain():
    """Within one grey level on average, also where half of the image is glass."""
    numpy_version = pytest.importorskip("torchstain.numpy.normalizers")
    reference = stained(1)
    theirs = {
        "macenko": numpy_version.NumpyMacenkoNormalizer(),
        "reinhard": numpy_version.NumpyReinhardNormalizer(),
    }
    half = stained(8, 0.8, 1.2)
    half[:, :100] = 235
    for method, other in theirs.items():
        other.fit(reference)
        mine = fit({"r": reference}, method, as_published=True)
        for image in (stained(9, 0.7, 1.4), half):
            expected = other.normalize(image)
            expected = expected[0] if isinstance(expected, tuple) else expected
            got = mine.adapt(image).apply(image)
            assert np.abs(got.astype(int) - expected).mean() <= 1, method

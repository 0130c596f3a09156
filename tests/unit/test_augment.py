import cv2
import numpy as np
import pytest

from nucleate.augment import Looks, colours, looks_of, random_crop, recoloured
from nucleate.config import AugmentConfig
from nucleate.stain.deconvolution import from_stains, restained, to_stains
from nucleate.stain.tissue import tissue_mask
from nucleate.types import Sample
from tests.synthetic import tissue

IMAGE, LABELS = tissue(200, 200, 50)
SAMPLE = Sample(IMAGE, LABELS, "a", "a", 0.25)
OFF = AugmentConfig(
    flip=False, right_angles=False, rotate_degrees=0, zoom=(1, 1), elastic_px=0, stain=0,
    brightness=0, contrast=0, blur_chance=0, noise_chance=0, jpeg_chance=0,
)  # fmt: skip


def test_same_state_same_crop():
    crops = [random_crop(SAMPLE, 96, AugmentConfig(), np.random.default_rng(7)) for _ in range(2)]
    for one, other in zip(*crops, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("seed", range(8))
def test_labels_move_with_the_image(seed):
    # an image whose red channel is the label: wherever it is sharp, both must agree
    coded = np.stack([(LABELS > 0) * 255, LABELS * 0, LABELS * 0], -1).astype(np.uint8)
    geometry = OFF.model_copy(
        update={
            "flip": True,
            "right_angles": True,
            "rotate_degrees": 180,
            "zoom": (0.8, 1.2),
            "elastic_px": 2.0,
            "elastic_chance": 1.0,
        }
    )
    image, labels, ignore = random_crop(
        Sample(coded, LABELS, "a", "a"), 128, geometry, np.random.default_rng(seed)
    )
    sharp = ((image[..., 0] < 5) | (image[..., 0] > 250)) & ~ignore
    assert sharp.mean() > 0.6
    assert ((image[..., 0] > 128) == (labels > 0))[sharp].mean() > 0.999


def test_switched_off_gives_the_image_itself():
    image, labels, ignore = random_crop(SAMPLE, 200, OFF, np.random.default_rng(0))
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(labels, LABELS)
    assert not ignore.any()


def test_crop_larger_than_the_image_ignores_what_is_outside():
    image, labels, ignore = random_crop(SAMPLE, 300, OFF, np.random.default_rng(0))
    assert image.shape == (300, 300, 3)
    assert ignore.sum() == 300 * 300 - 200 * 200
    assert (labels[ignore] == 0).all()


@pytest.mark.parametrize(
    "change",
    [{"stain": 0.3}, {"brightness": 0.2}, {"contrast": 0.3}, {"blur_chance": 1.0},
     {"noise_chance": 1.0}, {"jpeg_chance": 1.0}],
)  # fmt: skip
def test_every_strength_changes_the_colours(change):
    config = OFF.model_copy(update=change)
    changed = colours(IMAGE, config, np.random.default_rng(3))
    assert changed.dtype == np.uint8
    assert 0.05 < np.abs(changed.astype(float) - IMAGE).mean() < 80


@pytest.mark.parametrize(
    "change",
    [{"flip": True}, {"right_angles": True}, {"rotate_degrees": 30}, {"zoom": (0.5, 0.6)},
     {"elastic_px": 3.0, "elastic_chance": 1.0}],
)  # fmt: skip
def test_every_strength_changes_the_geometry(change):
    config = OFF.model_copy(update=change)
    crops = [random_crop(SAMPLE, 200, config, np.random.default_rng(s))[1] for s in range(6)]
    assert any(not np.array_equal(crop, LABELS) for crop in crops)


def test_zoom_scales_the_nuclei():
    config = OFF.model_copy(update={"zoom": (2, 2)})
    _, labels, _ = random_crop(SAMPLE, 400, config, np.random.default_rng(0))
    assert (labels > 0).sum() == pytest.approx(4 * (LABELS > 0).sum(), rel=0.02)


def test_stains_come_back():
    back = from_stains(to_stains(IMAGE))
    assert np.abs(back.astype(int) - IMAGE).max() <= 1


def test_haematoxylin_agrees_with_the_reference_deconvolution():
    from skimage.color import rgb2hed

    ours = to_stains(IMAGE)[..., 0]
    reference = rgb2hed(IMAGE)[..., 0]
    assert np.corrcoef(ours.ravel(), reference.ravel())[0, 1] > 0.99


def test_other_amounts_of_stain_in_one_pass():
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    factor = rng.uniform(0.7, 1.3, 3).astype(np.float32)
    shift = rng.uniform(-0.03, 0.03, 3).astype(np.float32)
    in_steps = from_stains(to_stains(image) * factor + shift)
    assert np.abs(restained(image, factor, shift).astype(int) - in_steps).max() <= 1


def test_noise_is_normal():
    config = OFF.model_copy(update={"noise_chance": 1.0, "noise": 20.0})
    grey = np.full((256, 256, 3), 128, np.uint8)
    noise = colours(grey, config, np.random.default_rng(2)).astype(float) - 128
    within = (np.abs(noise) < noise.std()).mean()
    assert abs(noise.mean()) < 0.1
    assert within == pytest.approx(0.683, abs=0.06)


def test_colours_of_another_image():
    own = looks_of(SAMPLE)
    other = Looks(own.mean + np.array([20, -8, 6], np.float32), own.sd * 1.2, 100.0)
    pixels = tissue_mask(IMAGE)
    lab = [cv2.cvtColor(recoloured(IMAGE, own, other, share), cv2.COLOR_RGB2LAB)[pixels].mean(0)
           for share in (0.0, 0.5, 1.0)]  # fmt: skip
    np.testing.assert_allclose(lab[0], own.mean, atol=2.5)
    np.testing.assert_allclose(lab[2], other.mean, atol=4)
    np.testing.assert_allclose(lab[1], (lab[0] + lab[2]) / 2, atol=2)


def test_small_zoom_brings_the_median_nucleus_to_80_to_200_pixels():
    image, labels = tissue(400, 400, 60, seed=2)
    larger = Sample(np.kron(image, np.ones((2, 2, 1), np.uint8)),
                    np.kron(labels, np.ones((2, 2), np.int32)), "a", "a", 0.25)  # fmt: skip
    looks = looks_of(larger)
    assert looks.median_px > 400
    config = OFF.model_copy(update={"zoom_small": 1.0})
    for seed in range(6):
        rng = np.random.default_rng(seed)
        found, crop, _ = random_crop(larger, 256, config, rng, None, looks)
        areas = np.bincount(crop.ravel())[1:]
        inside = np.setdiff1d(crop, np.concatenate([crop[0], crop[-1], crop[:, 0], crop[:, -1]]))
        median = np.median(areas[inside[inside > 0] - 1])
        assert 50 < median < 320
        assert found.shape == (256, 256, 3)


def test_nuclei_that_are_small_already_are_not_enlarged():
    looks = looks_of(SAMPLE)._replace(median_px=40.0)
    config = OFF.model_copy(update={"zoom_small": 1.0})
    image, labels, _ = random_crop(SAMPLE, 200, config, np.random.default_rng(0), None, looks)
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_array_equal(image, IMAGE)


def test_what_shrinks_much_is_smoothed():
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3)).astype(np.uint8)
    config = OFF.model_copy(update={"zoom": (0.4, 0.4)})
    image, _, _ = random_crop(Sample(noise, None, "a", "a"), 120, config, np.random.default_rng(0))
    assert image.std() < 0.5 * noise.std()
    assert image.mean() == pytest.approx(noise.mean(), abs=3)


@pytest.mark.parametrize("key", ["artefacts", "normalise", "lowres", "zoom_small"])
def test_new_strengths_change_crops_and_are_chance_alone(key):
    looks = looks_of(SAMPLE)._replace(median_px=400.0)
    others = [Looks(looks.mean + 15, looks.sd, 100.0)]
    config = OFF.model_copy(update={key: 1.0})
    one, other = (
        random_crop(SAMPLE, 128, config, np.random.default_rng(3), (100.0, 100.0), looks, others)
        for _ in range(2)
    )
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
    off = random_crop(SAMPLE, 128, OFF, np.random.default_rng(3), (100.0, 100.0))
    assert not np.array_equal(one[0], off[0])

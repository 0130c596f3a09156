import numpy as np
import pytest

from nucleate.augment import colours, random_crop
from nucleate.config import AugmentConfig
from nucleate.stain.deconvolution import from_stains, restained, to_stains
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
def test_labels_move_with_the_picture(seed):
    # a picture whose red channel is the label: wherever it is sharp, both must agree
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


def test_switched_off_gives_the_picture_itself():
    image, labels, ignore = random_crop(SAMPLE, 200, OFF, np.random.default_rng(0))
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(labels, LABELS)
    assert not ignore.any()


def test_crop_larger_than_the_picture_ignores_what_is_outside():
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

import numpy as np
import pytest
from skimage.measure import regionprops

from nucleate.features import nucleus_features
from nucleate.geometry.outlines import trace
from nucleate.stain.deconvolution import to_stains
from tests.synthetic import tissue


def test_shapes_agree_with_the_reference():
    image, labels = tissue(300, 300, 60, seed=1)
    xy, offsets, _ = trace(labels)
    table = nucleus_features(labels, image, xy, offsets, mpp=0.5)
    props = regionprops(labels)
    areas = np.array([p.area for p in props])
    np.testing.assert_allclose(table["area_um2"], areas * 0.25, rtol=1e-6)
    large = areas > 100
    for name, tolerance in (("eccentricity", 0.06), ("solidity", 0.06)):
        reference = np.array([getattr(p, name) for p in props])
        assert np.abs(table[name] - reference)[large].max() < tolerance, name
    reference = np.array([p.perimeter for p in props]) * 0.5
    assert np.median(table["perimeter_um"][large] / reference[large]) == pytest.approx(1, abs=0.15)


def test_circle():
    yy, xx = np.mgrid[:101, :101]
    labels = ((yy - 50) ** 2 + (xx - 50) ** 2 <= 40**2).astype(np.int32)
    xy, offsets, _ = trace(labels)
    table = nucleus_features(labels, np.full((101, 101, 3), 200, np.uint8), xy, offsets, mpp=0.25)
    assert table["area_um2"][0] == pytest.approx(np.pi * 10**2, rel=0.01)
    assert table["perimeter_um"][0] == pytest.approx(2 * np.pi * 10, rel=0.08)
    assert table["eccentricity"][0] < 0.05
    assert table["solidity"][0] > 0.98


def test_haematoxylin_is_higher_inside_dark_nuclei():
    image, labels = tissue(200, 200, 30)
    xy, offsets, _ = trace(labels)
    inside = nucleus_features(labels, image, xy, offsets, 0.25)["haematoxylin_mean"].mean()
    pale = nucleus_features(labels, np.full_like(image, 240), xy, offsets, 0.25)[
        "haematoxylin_mean"
    ].mean()
    assert inside > pale + 0.3


def test_stain_and_texture_are_those_of_whole_maps():
    image, labels = tissue(200, 260, 60, seed=3)
    coords, offsets, _ = trace(labels)
    table = nucleus_features(labels, image, coords, offsets, 0.5)
    haematoxylin, eosin, _ = np.moveaxis(to_stains(image), -1, 0)
    along_y, along_x = np.gradient(haematoxylin)
    steepness = np.hypot(along_x, along_y)
    for i in range(1, len(offsets)):
        mine = labels == i
        levels = np.clip(haematoxylin[mine] * 8, 0, 31).astype(int)
        share = np.bincount(levels) / mine.sum()
        share = share[share > 0]
        expected = {
            "haematoxylin_mean": haematoxylin[mine].mean(),
            "haematoxylin_sd": haematoxylin[mine].std(),
            "eosin_mean": eosin[mine].mean(),
            "eosin_sd": eosin[mine].std(),
            "texture_entropy": -(share * np.log2(share)).sum(),
            "texture_gradient": steepness[mine].mean() / 0.5,
        }
        for name, value in expected.items():
            assert table[name][i - 1] == pytest.approx(value, abs=2e-5), name


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 1)])
def test_the_smallest_images_are_measured(shape):
    labels = np.ones(shape, np.int32)
    coords, offsets, _ = trace(labels)
    table = nucleus_features(labels, np.full((*shape, 3), 90, np.uint8), coords, offsets, 0.25)
    assert all(np.isfinite(column).all() for column in table.values())
    assert table["texture_gradient"][0] == 0

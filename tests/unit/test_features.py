import numpy as np
import pytest
from skimage.measure import regionprops

from nucleate.features import measure
from nucleate.labels import trace
from tests.synthetic import tissue


def test_shapes_agree_with_the_reference():
    image, labels = tissue(300, 300, 60, seed=1)
    xy, offsets, _ = trace(labels)
    table = measure(labels, image, xy, offsets, mpp=0.5)
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
    table = measure(labels, np.full((101, 101, 3), 200, np.uint8), xy, offsets, mpp=0.25)
    assert table["area_um2"][0] == pytest.approx(np.pi * 10**2, rel=0.01)
    assert table["perimeter_um"][0] == pytest.approx(2 * np.pi * 10, rel=0.08)
    assert table["eccentricity"][0] < 0.05
    assert table["solidity"][0] > 0.98


def test_haematoxylin_is_higher_inside_dark_nuclei():
    image, labels = tissue(200, 200, 30)
    xy, offsets, _ = trace(labels)
    inside = measure(labels, image, xy, offsets, 0.25)["haematoxylin_mean"].mean()
    pale = measure(labels, np.full_like(image, 240), xy, offsets, 0.25)["haematoxylin_mean"].mean()
    assert inside > pale + 0.3

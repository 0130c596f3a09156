"""Engines: sizes that the network cannot take, and many threads that share one model."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from nucleate import load_model
from nucleate.errors import InputError
from nucleate.inference.ensembles import ensemble, with_tta

ENGINES = [("openvino", "f32"), ("openvino", "int8"), ("torch", "f32")]


@pytest.fixture(scope="module", params=ENGINES, ids=" ".join)
def model(request):
    backend, precision = request.param
    return load_model(device="cpu", backend=backend, precision=precision, threads=1)


def _noise(seed, height, width):
    return np.random.default_rng(seed).integers(0, 256, (1, height, width, 3), np.uint8)


@pytest.mark.parametrize("size", [(72, 96), (96, 72), (1, 64), (250, 261)])
def test_a_size_that_the_network_cannot_halve_is_refused(model, size):
    maps = model.backend(_noise(0, 64, 64))
    before = {head: m.copy() for head, m in maps.items()}
    for way in (model, with_tta(model), ensemble([model, model], "two")):
        with pytest.raises(InputError, match=f"multiples of 16 .*{size[0]} × {size[1]}"):
            way.backend(_noise(1, *size))
    for head, m in model.backend(_noise(0, 64, 64)).items():
        np.testing.assert_array_equal(m, before[head])


def test_eight_threads_find_what_one_finds(model):
    """Sizes differ, so that a request that two calls share would show."""
    images = [_noise(i, 64 * (1 + i % 3), 128) for i in range(24)]
    alone = [model.backend(image) for image in images]
    kept = [{head: m.copy() for head, m in maps.items()} for maps in alone]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(model.backend, images))
    for one, other, first in zip(alone, together, kept, strict=True):
        for head in first:
            np.testing.assert_array_equal(other[head], first[head])
            np.testing.assert_array_equal(one[head], first[head])  # not overwritten since

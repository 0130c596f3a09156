"""What needs a CUDA device; skipped with a reason where there is none."""

import numpy as np
import pytest
import torch

from nucleate import load_model, segment
from tests.synthetic import tissue

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


def test_gpu_and_cpu_find_the_same_nuclei():
    image, _ = tissue(256, 256, 40)
    maps = [
        load_model(device=device, backend="torch").backend(image[None])
        for device in ("cpu", "cuda")
    ]
    for head in maps[0]:
        np.testing.assert_allclose(maps[0][head], maps[1][head], atol=2e-3)
    assert len(segment(image, load_model(device="cuda"), mpp=0.25)) > 10

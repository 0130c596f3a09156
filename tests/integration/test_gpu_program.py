"""benchmarks/gpu: a dry run on the CPU, and what would travel to a machine with a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_dry_run_on_the_cpu_keeps_to_its_budget(tmp_path):
    env = {**os.environ, "PYTHON": sys.executable}
    command = ["bash", ROOT / "benchmarks/gpu/run.sh", tmp_path, "--device", "cpu"]
    subprocess.run([*command, "--seconds", "120"], check=True, env=env, timeout=400)
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert "failed" not in found
    assert found["check"]["mtl-small, bf16"]["same_as_cpu_f32"] > 0.9
    assert found["about"]["machine"]["cores"] == os.cpu_count()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) <= 8
    assert all(path.stat().st_size <= 16 << 20 for path in files)


def test_what_travels_is_listed_and_fits():
    if not (ROOT / ".git").exists():
        pytest.skip("the tracked files are known in a clone only")
    sys.path.insert(0, str(ROOT))
    from benchmarks.gpu.pack import LIMIT_MIB, WHEELS, carried

    sizes = carried()
    assert sizes["tracked files"] > 1
    packed = sum(size for name, size in sizes.items() if name.startswith(".gpu/"))
    assert packed == 0 or packed > 5  # not packed here, or with its wheels
    wheels_and_images_mib = 16  # as packed last; asserted again by pack.py itself
    assert sizes["tracked files"] + max(packed, wheels_and_images_mib) < LIMIT_MIB
    assert "openslide-bin" in WHEELS

"""benchmarks/gpu: a dry run on the CPU, and what would travel to a machine with a GPU."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.data import folder
from tests.snippets import shortened

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


def test_a_run_travels_in_pieces(tmp_path, monkeypatch):
    sys.path.insert(0, str(ROOT))
    from benchmarks.gpu import train

    monkeypatch.setattr(train, "PIECE", 1000)
    files = {"recipe.yaml": b"a: 1\n", "checkpoints/manifest.json": b"{}" * 700}
    for name, content in files.items():
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with pytest.raises(ValueError, match="pieces"):
        train.split(tmp_path / "run", tmp_path)
    monkeypatch.setattr(train, "PIECE", 5000)
    assert train.split(tmp_path / "run", tmp_path) > 1
    assert train.join(tmp_path, tmp_path / "again")
    for name, content in files.items():
        assert (tmp_path / "again" / name).read_bytes() == content


@pytest.mark.slow
def test_a_packed_recipe_is_trained_and_resumed(tmp_path):
    sys.path.insert(0, str(ROOT))
    from benchmarks.gpu import pack, train
    from benchmarks.gpu.run import Findings

    folder.make(tmp_path / "data", 4)
    tiny = yaml.safe_load(shortened((ROOT / "recipes/laptop.yaml").read_text()))
    tiny["data"]["sets"] = [{"name": "folder", "path": ".", "options": {"mpp": 0.25}}]
    tiny["train"] |= {"steps": 4000, "validate_every": 5}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    packed = tmp_path / "pack"
    pack.pack_recipe(tmp_path / "tiny.yaml", tmp_path / "data", packed)
    rounds = []
    for call in ("first", "second"):
        out = tmp_path / call
        out.mkdir()
        now = time.time()
        found = Findings(out / "gpu.json", "cpu", now, now + train.LAST_S + 40)
        train.train(found, packed)
        run = found.content["train"]["run"]
        assert run["resumed"] == (call == "second")
        rounds.append(run["rounds"])
        shutil.rmtree(packed / "run")
        for piece in out.glob(train.PIECES):
            shutil.copy(piece, packed)
    assert 0 < rounds[0] < rounds[1]

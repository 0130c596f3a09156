"""The cache of compiled loops: what cannot be written or read there stops nothing."""

import os
import subprocess
import sys

import pytest

RENUMBER = """
import numpy as np
from nucleate.geometry.labels import compact
print(compact(np.array([[0, 7], [7, 7]], np.int32))[0].tolist())
"""
FULL = """
import resource  # files of at most 64 bytes: a full disk, too, takes empty files
resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
"""


def _renumbered(cache, first=""):
    done = subprocess.run(
        [sys.executable, "-c", first + RENUMBER],
        # bytecode cut off at 64 bytes would stay in the environment and fail every later import
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_cache_that_is_full_is_done_without(tmp_path):
    pytest.importorskip("resource")
    assert _renumbered(tmp_path, FULL) == "[[0, 1], [1, 1]]"
    assert [path for path in tmp_path.rglob("*.nb*") if path.stat().st_size] == []


def test_a_cache_that_cannot_be_read_is_done_without(tmp_path):
    assert _renumbered(tmp_path) == "[[0, 1], [1, 1]]"
    (index,) = tmp_path.rglob("*.nbi")
    index.unlink()
    index.mkdir()
    assert _renumbered(tmp_path) == "[[0, 1], [1, 1]]"


def test_a_cache_that_is_a_file_is_done_without(tmp_path):
    (tmp_path / "cache").touch()
    assert _renumbered(tmp_path / "cache") == "[[0, 1], [1, 1]]"

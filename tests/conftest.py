"""Shared fixtures: an oracle model, and where the real data are if they are at hand."""

from __future__ import annotations

import functools
import gc
import os
import subprocess
import sys
from pathlib import Path

# One thread and one core per worker of pytest-xdist, before anything starts its pool of threads:
# OpenVINO heeds the cores alone. Processes that tests start inherit both.
for _library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")
_worker = os.environ.get("PYTEST_XDIST_WORKER")
if _worker and hasattr(os, "sched_setaffinity"):
    _cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {_cores[int(_worker.removeprefix("gw")) % len(_cores)]})

import numpy as np
import pytest

from nucleate import cli, postprocess
from nucleate.cards import ModelCard
from nucleate.geometry.labels import largest_pieces
from nucleate.inference import openvino_backend
from nucleate.inference.backends import Model

LONGEST = (
    "test_pages.py", "test_train.py", "test_cli.py", "test_recipes.py", "test_slides.py",
    "test_one_engine.py", "test_pretrain.py", "test_crossval.py", "test_offline.py",
)  # fmt: skip


@functools.lru_cache(maxsize=8)
def _compiled(path, written_ns, size, *settings):
    return _compile(path, *settings)


def compiled_once(path, *settings):
    """Compile a model file once per process, however often tests load it."""
    there = path.stat()
    return _compiled(path, there.st_mtime_ns, there.st_size, *settings)


_compile, openvino_backend.compiled = openvino_backend.compiled, compiled_once


@pytest.fixture(autouse=True, scope="module")
def _frozen():
    """Keep what earlier modules imported out of the garbage collector's rounds."""
    gc.collect()
    gc.freeze()


def oracle_card(**changes):
    facts = {
        "name": "oracle", "version": "1", "family": "mtl", "arguments": {},
        "heads": ["foreground"], "decoder": "oracle", "thresholds": {}, "mpp": 0.25,
        "align_px": 16, "halo_px": 64, "classes": ["nucleus"], "training_data": [],
        "licence": "", "metrics": {}, "files": {}, "package_version": "", "recipe": {},
    }  # fmt: skip
    return ModelCard(**(facts | changes))


class OracleBackend:
    """Reads the label from the colours: red + 256 · green + 65536 · blue."""

    about = "oracle"

    def __call__(self, batch):
        weights = np.array([1, 256, 65536], np.float32)
        return {"foreground": batch.astype(np.float32) @ weights}


def painted(labels):
    """Return the image from which the oracle reads `labels`."""
    return np.stack([labels & 255, (labels >> 8) & 255, labels >> 16], -1).astype(np.uint8)


def _decode(maps, thresholds):
    return largest_pieces(np.rint(maps["foreground"]).astype(np.int32))


@pytest.fixture
def oracle(monkeypatch):
    monkeypatch.setitem(
        postprocess.DECODERS,
        "oracle",
        postprocess.Decoder(("foreground",), {}, {}, postprocess.one_layer(_decode)),
    )
    return Model(oracle_card(), OracleBackend())


@pytest.fixture
def narrow_detector(monkeypatch):
    """Build Mask R-CNN with an eighth of its width, in an eighth of the time."""
    from nucleate.models import mask_rcnn, mask_rcnn_stages

    for module in (mask_rcnn, mask_rcnn_stages):
        monkeypatch.setattr(module, "WIDTH", 32)


@pytest.fixture
def real_data():
    folder = os.environ.get("NUCLEATE_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("the real data sets are not at hand (NUCLEATE_TEST_DATA)")
    return Path(folder)


@pytest.fixture
def nucleate(monkeypatch, capsys):
    """Return what runs a command line: words -> exit code, stdout, stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["nucleate", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out = capsys.readouterr()
        return stopped.value.code, out.out, out.err

    return run


def pytest_pyfunc_call(pyfuncitem):
    """Run a test that is marked `alone` in a separate process, and nothing else there."""
    if pyfuncitem.get_closest_marker("alone") is None or os.environ.get("NUCLEATE_ALONE"):
        return None
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", pyfuncitem.nodeid],
        cwd=pyfuncitem.config.rootpath, capture_output=True, text=True,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
             "NUCLEATE_ALONE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return True


def pytest_sessionfinish():
    gc.unfreeze()  # what libraries check at exit counts on it


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests that are marked slow too")


def pytest_collection_modifyitems(config, items):
    """Skip what is slow unless asked for; longest files first, so that no worker waits for one.

    What starts Dask and an S3 server comes last: a later fork trips over their threads. Beside it
    runs the browser, which waits more than it computes.
    """
    if not config.getoption("slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow: run by pytest --slow"))
    places = {name: place for place, name in enumerate(LONGEST)}
    places |= {"test_browser.py": len(items), "test_cluster.py": len(items) + 1}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))

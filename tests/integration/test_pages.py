"""Every block of code in README and documentation runs, on small generated data.

Trainings are cut to 20 steps of a tiny network; installing is what `.ci/run` does.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from nucleate.checkpoint import BUNDLED, DEFAULT_MODEL
from tests.snippets import ROOT, commands, make_world, snippets

TINY = [
    "train.steps=20", "train.validate_every=10", "train.batch=2", "train.crop_px=64",
    "train.workers=0", "train.precision=fp32", "train.warmup_steps=2", "data.validation=0.4",
]  # fmt: skip
NETWORK = ["model.arguments.widths=[8, 12]", "model.arguments.blocks=1"]
# what a page names and this machine does not have, or what another test runs at greater length
ELSEWHERE = {
    "docs/how-to/slides.md": "cluster, GPU, buckets: test_cluster.py, test_regions.py",
    "docs/how-to/cross-validate.md": "cross-validation: test_crossval.py",
    "docs/how-to/detect.md": "Mask R-CNN: test_mask_rcnn.py, test_train.py",
    "docs/how-to/pretrain.md": "pretraining: test_pretrain.py",
    "docs/how-to/faster.md": "int8: test_train.py",
    "docs/how-to/data-sets.md": "data sets of any reader: test_datasets.py, test_cli.py",
}
README_ELSEWHERE = ("crossval", "compare", "report", "pretrain", "recipes/s4-cpu.yaml")
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if snippets(page) and page.relative_to(ROOT).as_posix() not in ELSEWHERE
]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Return a folder with what pages name; and what a reader of a how-to page has done before."""
    from nucleate.inference.batch import segment_files
    from nucleate.inference.load import load_model
    from nucleate.inference.source_run import BatchOptions

    folder = make_world(tmp_path_factory.mktemp("world"))
    model = load_model()
    both = [folder / "tile.png", folder / "slide.svs"]
    for out in ("out", "pred", "truth", "model-a", "model-b"):
        options = BatchOptions(0.25, ("labels",))
        segment_files(both, folder / "before" / out, model, options, print, print)
    shutil.copytree(BUNDLED / DEFAULT_MODEL, folder / "before/runs/mine/model")
    return folder


@pytest.mark.filterwarnings("ignore")  # of what a page uses besides nucleate
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_the_code_of_a_page_runs(page, world, tmp_path, monkeypatch, nucleate):
    import matplotlib

    matplotlib.use("Agg")
    shutil.copytree(world, tmp_path, dirs_exist_ok=True)
    if "tutorials" not in page.parts:
        shutil.copytree(tmp_path / "before", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for snippet in snippets(page):
        where = f"{page.name}, line {snippet.line}"
        if snippet.kind == "file":
            Path(re.match(r"# (\S+\.yaml)", snippet.text)[1]).write_text(snippet.text)
        elif snippet.kind == "python":
            code = snippet.text.replace("changes = [", f"changes = [*{TINY + NETWORK!r}, ")
            exec(compile(code, where, "exec"), names)  # noqa: S102
        else:
            for words in commands(snippet.text):
                _run(words, where, nucleate, page)


def _run(words, where, nucleate, page):
    if words[0] in ("pip", "pytest") or (page.name == "README.md" and _elsewhere(words)):
        return
    assert words[0] == "nucleate", (where, words)
    if words[1] in ("view", "serve"):
        _open(words)
        return
    words = [word.replace("DATA", "data") if "root=" in word else word for word in words]
    if words[1] == "train":
        words += [word for change in TINY + NETWORK for word in ("--set", change)]
    code, _, err = nucleate(*words[1:])
    # data sets of this world are not complete: the check says so, and that is what it is for
    assert code == 0 or (code == 3 and "check" in words), (where, words, err)


def _elsewhere(words):
    return any(word in words for word in README_ELSEWHERE)


def _open(words):
    """Start what serves a page, get the page, and stop it."""
    started = subprocess.Popen(
        [sys.executable, "-m", *words, "--no-open"], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        address = started.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), words
        until = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(address, timeout=10) as page:  # noqa: S310
                    assert b"nucleate" in page.read()
                break
            assert time.monotonic() < until
            time.sleep(0.1)
    finally:
        started.terminate()
        started.communicate(timeout=30)


def test_pages_that_are_left_out_are_there():
    assert all((ROOT / page).is_file() for page in ELSEWHERE)
    assert len(PAGES) > 10

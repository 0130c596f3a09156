"""Every block of code in README and documentation runs, on small generated data.

Trainings are cut to 2 steps of a tiny network; installing is what `.ci/run` does. A command that
several pages name runs once: the later pages get the files that it wrote.
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

from nucleate.curation.convert import convert
from nucleate.datasets.loading import list_entries
from tests.snippets import ROOT, commands, make_world, shortened, snippets

# what a command names and this machine does not have; other tests run the same with what it has
MISSING = {
    "cuda": "a GPU: tests/gpu",
    "--scheduler": "other machines: test_cluster.py has a cluster of one",
    "--slurm": "Slurm: test_cluster.py checks the jobs' script",
    "s3://": "a bucket: test_cluster.py has an S3 server",
}
# generated sets without what the page's options ask for: nothing of them can be read, exit code 2
UNREAD = (["data", "check", "coco"], ["data", "check", "consep"])
HEAVY = ("train", "crossval", "pretrain", "quantise", "report")  # run once, see _run
PAGES = [
    page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if snippets(page)
]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Return a folder with what pages name; and what a reader of a how-to page has done before."""
    from nucleate import load_recipe
    from nucleate.inference.loading import load_model
    from nucleate.slides.outputs import BatchOptions
    from nucleate.slides.segment_many import run_batch
    from nucleate.training.crossval import CrossvalOptions, cross_validate

    folder = make_world(tmp_path_factory.mktemp("world"))
    before = folder / "before"
    for source, mpp in (("tile.png", 0.25), ("slide.svs", None)):
        options = BatchOptions(mpp, ("labels",))
        run_batch([folder / source], before / "out", load_model(), options, print, print)
    for out in ("pred", "truth", "model-a", "model-b"):
        shutil.copytree(before / "out", before / out)
    for out, source in {
        "mine": ("folder", "mydata", {"mpp": 0.25}),
        "data/coco/tnbc": ("folder", "data/TNBC", {"mpp": 0.25}),
        "data/coco/cryonuseg": ("cryonuseg", "CryoNuSeg", {}),
        "data/coco/monuseg": ("monuseg", "MoNuSeg 2018 Training Data.zip", {}),
    }.items():
        reader, path, how = source
        convert(list_entries(reader, folder / path, how), before / out, "coco")
    sets = "data.sets=[{name: folder, path: TNBC, options: {mpp: 0.25, group: '^([0-9]+)_'}}]"
    for run, seed in (("a-cv", 1), ("b-cv", 2)):
        changes = ["data.root=data", sets, f"seed={seed}", "crossval.folds=2"]
        recipe = load_recipe(folder / "recipes/laptop.yaml", changes)
        cross_validate(recipe, folder, before / "runs" / run, CrossvalOptions())
    for run in ("mine", "small"):
        shutil.copytree(before / "runs/a-cv/fold-1", before / "runs" / run)
    for letter in "ab":
        shutil.copytree(before / f"runs/{letter}-cv/out-of-fold", before / f"result-{letter}")
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return a folder that takes what heavy commands write, by their words."""
    return tmp_path_factory.mktemp("written")


@pytest.mark.filterwarnings("ignore")  # of what a page uses besides nucleate
@pytest.mark.usefixtures("narrow_detector")
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_the_code_of_a_page_runs(page, world, written, tmp_path, monkeypatch, nucleate):
    import matplotlib

    matplotlib.use("Agg")
    shutil.copytree(world, tmp_path, dirs_exist_ok=True)
    how_to = "tutorials" not in page.parts
    if how_to:
        shutil.copytree(tmp_path / "before", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for snippet in snippets(page):
        where = f"{page.name}, line {snippet.line}"
        if snippet.kind == "file":
            Path(re.match(r"# (\S+\.yaml)", snippet.text)[1]).write_text(shortened(snippet.text))
        elif snippet.kind == "python":
            exec(compile(snippet.text, where, "exec"), names)  # noqa: S102
        else:
            for words in commands(snippet.text):
                _run(words, where, nucleate, written / ("how-to" if how_to else page.stem))


def _run(words, where, nucleate, written):
    if words[0] in ("pip", "pytest", "dask") or any(m in w for m in MISSING for w in words):
        return
    assert words[0] == "nucleate", (where, words)
    if words[1] in ("view", "serve"):
        _open(words)
        return
    words = [word.replace("DATA", "data") if "root=" in word else word for word in words]
    if "--jobs" in words:  # trainings in separate processes: test_pretrain.py, test_crossval.py
        at = words.index("--jobs")
        words = words[:at] + words[at + 2 :]
    kept = written / re.sub(r"\W+", "-", " ".join(words))
    if kept.is_dir():
        shutil.copytree(kept, ".", dirs_exist_ok=True)
        return
    before = _files()
    code, _, err = nucleate(*words[1:])
    # data sets of this world are not complete, its networks lose more in integers than they may:
    # these commands say so, and that is what they are for
    unread = words[1:4] in UNREAD and code == 2
    said = code == 3 and {"check", "quantise"} & {*words}
    assert code == 0 or said or unread, (where, words, err)
    if words[1] in HEAVY:
        for path, _ in _files().items() - before.items():
            (kept / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, kept / path)


def _files():
    """Return file -> when it was written, of the current folder."""
    return {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}


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


def test_what_is_missing_is_named_on_a_page():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert all(missing in text for missing in MISSING)
    assert len(PAGES) > 15

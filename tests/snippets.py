"""The code on a page of the documentation: its blocks, and a world in which it can run."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from tests.data import cryonuseg, hovernet, monuseg
from tests.synthetic import tissue

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w-]+\.yaml)\b")


@dataclass(frozen=True)
class Snippet:
    """A block of code: `shell` (no language), `python`, or a `file` that the page names."""

    kind: str
    text: str
    line: int


def snippets(page: Path) -> list[Snippet]:
    """Return the blocks of a page that can be run, in order; others have another language."""
    content = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(content):
        indent, language, text = match.groups()
        text = re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)
        line = content.count("\n", 0, match.start()) + 1
        if language in ("", "python"):
            found.append(Snippet("python" if language else "shell", text, line))
        elif language == "yaml" and _FILE.match(text):
            found.append(Snippet("file", text, line))
    return found


def commands(text: str) -> list[list[str]]:
    """Return the words of each command of a shell block, patterns expanded as a shell does."""
    found = []
    for line in text.splitlines():
        for part in line.partition(" #")[0].partition(" | ")[0].split(" && "):
            words = [
                word for quoted in shlex.split(part, posix=False) for word in _expanded(quoted)
            ]
            if words:
                found.append(words)
    return found


def _expanded(quoted: str) -> list[str]:
    word = "".join(shlex.split(quoted))
    if "*" in quoted and not re.search("[\"']", quoted):
        return sorted(map(str, Path().glob(word))) or [word]
    return [word]


def make_world(folder: Path) -> Path:
    """Write, small, everything that pages name: pictures, slides, labels, data, recipes."""
    image, labels = tissue(192, 224, 25)
    for name in ("tile.png", "images/a.png", "images/b.png", "reference.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name)
    tifffile.imwrite(folder / "tile.labels.tif", labels)
    example = ROOT / "src/nucleate/example/cmu-1-small-region.tif"
    for name in (
        "slide.svs",
        "slides/one.svs",
        "scans/three.tif",
        "more/two.svs",
        "CMU-1-Small-Region.svs",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        _cut(example, folder / name)
    for number, name in enumerate(("01_1", "01_2", "02_1", "03_1", "04_1", "05_1")):
        image, labels = tissue(128, 128, 12, 70 + number)
        for part, pixels, suffix in (("images", image, "jpg"), ("labels", labels, "png")):
            path = folder / "mydata" / part / f"{name}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels if part == "images" else pixels.astype(np.uint16)).save(
                path, quality=95
            )
    shutil.copytree(folder / "mydata", folder / "heldout")
    data = folder / "data"
    cryonuseg.make(data / "CryoNuSeg")
    hovernet.consep(data / "CoNSeP")
    for name, names in (
        ("MoNuSeg 2018 Training Data", monuseg.TRAIN),
        ("MoNuSegTestData", monuseg.TEST),
    ):
        monuseg.make(folder / "zip" / name, names)
        shutil.make_archive(str(data / "MoNuSeg" / name), "zip", folder / "zip", name)
    shutil.rmtree(folder / "zip")
    for name in ("CryoNuSeg", "CoNSeP"):
        shutil.copytree(data / name, folder / name)
    for archive in (data / "MoNuSeg").iterdir():
        shutil.copy(archive, folder)
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    return folder


def _cut(example: Path, path: Path) -> None:
    """Write a part of the bundled example as a tiled TIFF that states its resolution."""
    pixels = tifffile.imread(example)[:384, :384]
    tifffile.imwrite(
        path, pixels, photometric="rgb", tile=(128, 128), compression="jpeg",
        resolution=(1e4 / 0.499, 1e4 / 0.499), resolutionunit="CENTIMETER",
    )  # fmt: skip

"""The code on a page of the documentation: its blocks, and a world in which it can run."""

from __future__ import annotations

import glob
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import yaml
from PIL import Image

from tests.data import cryonuseg, hovernet, monuseg, tnbc
from tests.synthetic import tissue

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w-]+\.yaml)\b")
_TRAIN = {
    "steps": 2, "validate_every": 2, "batch": 2, "warmup_steps": 2, "workers": 0,
    "precision": "fp32", "device": "cpu",
}  # fmt: skip
_PRETEXT = {
    "relative_position": {"patch_px": 32, "gap_px": 4, "jitter_px": 2, "width": 8},
    "multiscale": {"view_px": 32, "width": 8},
    "autoencoder": {"window_px": 64, "width": 8},
}
_DETECTOR = {"encoder": "resnet18", "proposals": [100, 60], "detections": 30, "regions": 32}


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
        return sorted(glob.glob(word)) or [word]
    return [word]


def make_world(folder: Path) -> Path:
    """Write, small, everything that pages name: images, slides, labels, data, recipes."""
    image, labels = tissue(192, 224, 25)
    for name in ("tile.png", "images/a.png", "images/b.png", "reference.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name)
    tifffile.imwrite(folder / "tile.labels.tif", labels)
    example = ROOT / "tests/data/keratin.tif"
    shown = Path("src/nucleate/example/skin.tif")  # the README segments it
    (folder / shown).parent.mkdir(parents=True)
    shutil.copy(ROOT / shown, folder / shown)
    for name in (
        "slide.svs",
        "slides/one.svs",
        "scans/three.tif",
        "more/two.svs",
        "CMU-1-Small-Region.svs",
        "data/slides/aperio_svs/CMU-1-Small-Region.svs",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        _corner(example, folder / name)
    for number, name in enumerate(("01_1", "01_2", "02_1", "03_1", "04_1", "05_1")):
        image, labels = tissue(128, 128, 12, 70 + number)
        for part, pixels, suffix in (("images", image, "jpg"), ("labels", labels, "png")):
            path = folder / "mydata" / part / f"{name}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels if part == "images" else pixels.astype(np.uint16)).save(
                path, quality=95
            )
    shutil.copytree(folder / "mydata", folder / "heldout")
    shutil.copytree(folder / "mydata", folder / "DSB2018-tissue")
    rows = [f"{path.stem},0.25,he-pink" for path in sorted((folder / "mydata/images").iterdir())]
    table = "\n".join(["name,mpp,group", *rows, ""])
    (folder / "DSB2018-tissue/groups.csv").write_text(table, encoding="utf-8")
    data = folder / "data"
    cryonuseg.make(data / "CryoNuSeg")
    hovernet.consep(data / "CoNSeP")
    tnbc.make(folder / "TNBC")  # as published; the recipes read it as a folder
    shutil.copytree(folder / "mydata", data / "TNBC")
    for seed, (name, names) in enumerate(
        (
            ("MoNuSeg 2018 Training Data", monuseg.TRAIN),
            ("extra7", monuseg.EXTRA),
            ("MoNuSegTestData", monuseg.TEST),
        )
    ):
        monuseg.make(folder / "zip" / name, names, first_seed=500 + 10 * seed)
        shutil.make_archive(str(data / "MoNuSeg" / name), "zip", folder / "zip", name)
    shutil.rmtree(folder / "zip")
    for name in ("CryoNuSeg", "CoNSeP"):
        shutil.copytree(data / name, folder / name)
    for archive in (data / "MoNuSeg").iterdir():
        shutil.copy(archive, folder)
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    for path in (folder / "recipes").rglob("*.yaml"):
        path.write_text(shortened(path.read_text(encoding="utf-8")), encoding="utf-8")
    return folder


def shortened(text: str) -> str:
    """Return a recipe as YAML, cut to 2 steps of a tiny network; what is none stays as it is."""
    recipe: dict[str, Any] = yaml.safe_load(text)
    if "starts" in recipe:  # a study: two starts, all images, one seed
        recipe |= {"starts": dict([*recipe["starts"].items()][:2]), "fractions": [1], "seeds": [1]}
    elif "train" not in recipe:
        return text
    else:
        recipe["train"] |= _TRAIN | ({"crop_px": 64} if "heads" in recipe else {})
        recipe["data"]["validation"] = 0.4
        if recipe.get("crossval", {}).get("scheme", "kfold") == "kfold" and "heads" in recipe:
            recipe.setdefault("crossval", {})["folds"] = 2
        model = recipe.get("model", {})
        if "from" in recipe.get("init", {}):  # a run that is not here
            del recipe["init"]
        if model.get("family") == "mtl":
            model["arguments"] |= {"widths": [8, 12], "blocks": 1}
        elif model.get("family") == "unet":
            model["arguments"] |= {"widths": [8, 12, 16]}
        elif model.get("family") == "mask_rcnn":
            model["arguments"] |= _DETECTOR
        if "pretext" in recipe:
            recipe["data"] |= {"tile_px": 128, "tiles_per_slide": 2}
            recipe["pretext"]["arguments"] |= _PRETEXT[recipe["pretext"]["task"]]
            recipe["examples"] = 8
        else:
            recipe["train"]["crop_px"] = 64
        if "crossval" in recipe:
            recipe["crossval"] = {"folds": 3, "validation": 0.5}
    return yaml.safe_dump(recipe, sort_keys=False)


def _corner(example: Path, path: Path) -> None:
    """Write a part of the bundled example as a tiled TIFF that states its resolution."""
    pixels = tifffile.imread(example)[:384, :384]
    tifffile.imwrite(
        path, pixels, photometric="rgb", tile=(128, 128), compression="jpeg",
        resolution=(1e4 / 0.499, 1e4 / 0.499), resolutionunit="CENTIMETER",
    )  # fmt: skip

"""Prepare what a machine with a GPU and without internet needs: wheels and validation images.

    python benchmarks/gpu/pack.py [--data ../shared/data]

Writes `.gpu/`, which git ignores; copy it together with the tracked files. Prints what it is made
of, with sizes, and fails if all of it together is larger than 60 MiB.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[2]
PACK = ROOT / ".gpu"
LIMIT_MIB, DATA_MIB = 60, 20
WHEELS = (
    "annotated-types", "defusedxml", "faster-coco-eval", "lapx", "openslide-bin",
    "openslide-python", "pydantic", "pydantic-core", "roifile", "segmentation-models-pytorch",
    "shapely", "typing-inspection",
)  # fmt: skip
PLATFORMS = ("_2_28", "_2_27", "_2_24", "_2_17", "2014", "1")
VALIDATION = (  # the six MoNuSeg images that the bundled model's training held out
    "TCGA-21-5784", "TCGA-AR-A1AS", "TCGA-AY-A8YK", "TCGA-B0-5711", "TCGA-G2-A2EK", "TCGA-G9-6336",
)  # fmt: skip


def fetch_wheels(folder: Path, python: str, wheels: tuple[str, ...] = WHEELS) -> None:
    """Download the wheels that a machine with `python` (like 3.12) needs, without dependencies."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.whl"):
        old.unlink()
    tags = [f"--platform=manylinux{tag}_x86_64" for tag in PLATFORMS]
    core = _needed_core(folder, python, tags)
    names = [f"pydantic-core=={core}" if name == "pydantic-core" else name for name in wheels]
    _download(folder, python, tags, names)


def _download(folder: Path, python: str, tags: list[str], names: list[str]) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
         f"--python-version={python}", "--implementation=cp", *tags, "-d", str(folder), *names],
        check=True,
    )  # fmt: skip


def _needed_core(folder: Path, python: str, tags: list[str]) -> str:
    """Return the one version of pydantic-core that the newest pydantic works with."""
    import re
    import zipfile

    _download(folder, python, tags, ["pydantic"])
    wheel = next(folder.glob("pydantic-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith("METADATA"))
        found = re.search(r"pydantic-core==([\w.]+)", archive.read(name).decode())
    if found is None:
        raise SystemExit(f"{wheel.name}: names no version of pydantic-core. Fix pack.py.")
    return found[1]


def write_images(folder: Path, data: Path) -> None:
    """Write the validation images as JPEG of quality 95, their ground truth as 16-bit PNG."""
    from nucleate.datasets.loading import list_entries

    folder.mkdir(parents=True, exist_ok=True)
    archive = data / "MoNuSeg" / "MoNuSeg 2018 Training Data.zip"
    for entry in list_entries("monuseg", archive, {}):
        if not entry.name.startswith(VALIDATION):
            continue
        sample = entry.read()
        if sample.labels is None:
            raise SystemExit(f"{entry.name}: has no ground truth. Copy the data set again.")
        bgr = cv2.cvtColor(sample.image, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / f"{entry.name}.jpg"), bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])
        cv2.imwrite(str(folder / f"{entry.name}.labels.png"), sample.labels.astype(np.uint16))


def pack_recipe(recipe_file: Path, data: Path, pack: Path) -> None:
    """Write a recipe and its data for training: images as JPEG, labels as 16-bit PNG, in folders.

    The patient stands at the start of each name, so that splits never cut one.
    """
    from nucleate.config import load_recipe
    from nucleate.datasets.loading import list_entries
    from nucleate.trees import dump_recipe

    recipe = load_recipe(recipe_file)
    sets = []
    for number, one in enumerate(recipe.data.sets):
        folder = pack / "data" / f"set{number}"
        for part in ("images", "labels"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for entry in list_entries(one.name, data / one.path, one.options):
            if entry.test_only:
                raise SystemExit(f"{entry.name}: is for testing only. Remove it from the recipe.")
            sample = entry.read()
            name = re.sub(r"[^\w.-]+", "-", f"{sample.group}__{sample.name}")
            bgr = cv2.cvtColor(sample.image, cv2.COLOR_RGB2BGR)
            jpeg = [cv2.IMWRITE_JPEG_QUALITY, 90]
            cv2.imwrite(str(folder / "images" / f"{name}.jpg"), bgr, jpeg)
            labels = np.asarray(sample.labels).astype(np.uint16)
            cv2.imwrite(str(folder / "labels" / f"{name}.png"), labels)
        changes = {
            "name": "folder", "path": f"set{number}", "title": one.title or one.path,
            "options": {"mpp": recipe.data.mpp, "group": "^(.*?)__"},
        }  # fmt: skip
        sets.append(one.model_copy(update=changes))
    size = sum(path.stat().st_size for path in (pack / "data").rglob("*") if path.is_file())
    if size > DATA_MIB << 20:
        raise SystemExit(f"the data take {size >> 20} MiB, more than {DATA_MIB}. Use fewer sets.")
    changed = recipe.model_copy(update={"data": recipe.data.model_copy(update={"sets": sets})})
    (pack / "recipe.yaml").write_text(dump_recipe(changed), encoding="utf-8")


def carried() -> dict[str, float]:
    """Return what would travel and its size in MiB: `.gpu`, file by file, and all tracked files."""
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    files = [ROOT / name for name in tracked if name and (ROOT / name).is_file()]
    sizes = {"tracked files": sum(path.stat().st_size for path in files) / 2**20}
    for path in sorted(PACK.rglob("*")):
        if path.is_file():
            sizes[path.relative_to(ROOT).as_posix()] = path.stat().st_size / 2**20
    return sizes


def check_size() -> None:
    """Print what would travel, file by file; fail if all of it is too large."""
    sizes = carried()
    for name, size in sizes.items():
        print(f"{size:7.2f} MiB  {name}")
    total = sum(sizes.values())
    print(f"{total:7.2f} MiB  in all")
    if total > LIMIT_MIB:
        raise SystemExit(f"{total:.1f} MiB are more than {LIMIT_MIB}. Remove files from .gpu/.")


def main() -> None:
    """Pack, and say what there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--python", default="3.12", help="Version on the machine with the GPU.")
    parser.add_argument("--train", type=Path, help="A recipe to train with the time that is left.")
    options = parser.parse_args()
    if options.train is not None:
        pack_recipe(options.train, options.data, PACK)
    fetch_wheels(PACK / "wheels", options.python)
    write_images(PACK / "images", options.data)
    check_size()


if __name__ == "__main__":
    main()

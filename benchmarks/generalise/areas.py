"""Areas without nuclei (`no_nuclei.json`): what is found in them is false.

    python benchmarks/generalise/areas.py --data ../shared/data -o OUT

draws every area on its source, for review.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.generalise.sets import MPP, SETS, published, webp  # noqa: E402

from nucleate.evaluation.metrics.instance import centroids  # noqa: E402
from nucleate.readers.images import read_image  # noqa: E402
from nucleate.readers.opening import open_source  # noqa: E402
from nucleate.types import Int32, UInt8  # noqa: E402

LIST = Path(__file__).with_name("no_nuclei.json")
SLIDES = "slides"  # the set of areas that are on no annotated image
MARGIN_UM = 16.0  # of a slide around an area: context of the network
KINDS = ("blur", "cytoplasm", "debris", "epithelium", "fat", "glass", "ink", "keratin", "mucin",
         "muscle", "necrosis", "red cells", "stroma")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Area:
    """One area.

    Attributes:
        set: key of `SETS`, or "slides".
        source: file or folder of the data, relative to their root.
        image: name of the image in it.
        mpp: um per pixel of level 0.
        kind: what is there instead of nuclei.
        rings: outline and holes, x and y in pixels of level 0; the even-odd rule states what is in.
    """

    set: str
    source: str
    image: str
    mpp: float
    kind: str
    rings: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom; right and bottom are outside."""
        points = np.array([point for ring in self.rings for point in ring])
        (left, top), (right, bottom) = points.min(0), points.max(0) + 1
        return int(left), int(top), int(right), int(bottom)

    @property
    def mm2(self) -> float:
        """Size in square millimetres."""
        left, top, right, bottom = self.box
        mask = paint([self], (bottom - top, right - left), 1.0, (left, top))
        return float((mask > 0).sum()) * self.mpp**2 / 1e6


def load_areas(path: Path = LIST) -> list[Area]:
    """Return the areas of the list."""
    rows = json.loads(path.read_text(encoding="utf-8"))["areas"]
    return [
        Area(**{**row, "rings": tuple(tuple(map(tuple, ring)) for ring in row["rings"])})
        for row in rows
    ]


def paint(
    areas: list[Area], shape: tuple[int, int], scale: float, origin: tuple[int, int] = (0, 0)
) -> UInt8:
    """Return uint8 (H, W): 0, or 1 + the position in `KINDS` of the area that contains the pixel.

    Args:
        areas: of one image.
        shape: height and width.
        scale: pixels of the result per pixel of level 0.
        origin: x and y of the first pixel, in pixels of level 0.
    """
    mask = np.zeros(shape, np.uint8)
    for area in areas:
        rings = [
            np.rint((np.array(ring, float) - origin + 0.5) * scale - 0.5).astype(np.int32)
            for ring in area.rings
        ]
        one = np.zeros(shape, np.uint8)
        cv2.fillPoly(one, rings, 1)
        mask[one > 0] = 1 + KINDS.index(area.kind)
    return mask


def false_nuclei(labels: Int32, mask: UInt8) -> list[int]:
    """Return how many nuclei have their centroid in areas of each kind, in the order of `KINDS`.

    Example:
        >>> mask = np.full((1, 3), 1 + KINDS.index("fat"), np.uint8)
        >>> sum(false_nuclei(np.array([[0, 1, 1]], np.int32), mask))
        1
    """
    points = np.floor(centroids(labels)).astype(int)
    high, wide = mask.shape
    x, y = np.clip(points[:, 0], 0, wide - 1), np.clip(points[:, 1], 0, high - 1)
    return [int(n) for n in np.bincount(mask[y, x], minlength=len(KINDS) + 1)[1:]]


def crop(image: UInt8, areas: list[Area]) -> tuple[UInt8, tuple[int, int]]:
    """Return what of a slide is near its areas, and x and y of the crop's first pixel."""
    margin = round(MARGIN_UM / areas[0].mpp)
    boxes = np.array([area.box for area in areas])
    left, top = np.maximum(boxes[:, :2].min(0) - margin, 0)
    right, bottom = boxes[:, 2:].max(0) + margin
    return image[top:bottom, left:right], (int(left), int(top))


def write_slides(data: Path, path: Path, quality: int) -> None:
    """Pack the areas of slides, each as a separate crop."""
    facts = []
    with zipfile.ZipFile(path, "w") as archive:
        for number, area in enumerate(a for a in load_areas() if a.set == SLIDES):
            source = open_source(data / area.source)
            whole = source.read(0, 0, source.width, source.height)[..., :3]
            image, origin = crop(whole, [area])
            name = f"{number}.webp"
            archive.writestr(name, webp(image, quality))
            facts.append({"name": name, "image": area.image, "box": area.box, "origin": origin})
        archive.writestr("areas.json", json.dumps(facts))


def read_slides(path: Path) -> list[tuple[UInt8, UInt8]]:
    """Return image and mask of each packed area of a slide, at 0.25 um/px."""
    areas = {(a.image, a.box): a for a in load_areas() if a.set == SLIDES}
    found = []
    inside = zipfile.Path(path)
    for fact in json.loads((inside / "areas.json").read_text(encoding="utf-8")):
        area = areas[fact["image"], tuple(fact["box"])]
        image, _ = read_image(inside / fact["name"])
        scale = area.mpp / MPP
        shape = round(image.shape[0] * scale), round(image.shape[1] * scale)
        mask = paint([area], shape, scale, tuple(fact["origin"]))
        if scale != 1:
            image = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_LINEAR)
        found.append((image, mask))
    return found


def draw(data: Path, out: Path) -> None:
    """Write one PNG per image with its areas: what is outside is dark, the kind is written on."""
    out.mkdir(parents=True, exist_ok=True)
    areas = load_areas()
    for name in SETS:
        images = {s.name: s.image for s in published(name, data)}
        for image in sorted({a.image for a in areas if a.set == name}):
            shown = [a for a in areas if a.set == name and a.image == image]
            _write(out / f"{name}-{image}.png", images[image], shown, (0, 0))
    for number, area in enumerate(a for a in areas if a.set == SLIDES):
        source = open_source(data / area.source)
        pixels, origin = crop(source.read(0, 0, source.width, source.height)[..., :3], [area])
        _write(out / f"slides-{number}-{area.image}.png", pixels, [area], origin)


def _write(path: Path, image: UInt8, areas: list[Area], origin: tuple[int, int]) -> None:
    mask = paint(areas, image.shape[:2], 1.0, origin)
    shown = np.where(mask[..., None] > 0, image, image // 3).astype(np.uint8)
    for area in areas:
        x, y = (int(v) for v in np.array(area.rings[0]).mean(0) - origin)
        cv2.putText(shown, area.kind, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 90, 0), 1)
    cv2.imwrite(str(path), cv2.cvtColor(shown, cv2.COLOR_RGB2BGR))


def main() -> None:
    """Draw the list, and print its size by kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    sizes: dict[str, float] = {}
    for area in load_areas():
        sizes[area.kind] = sizes.get(area.kind, 0.0) + area.mm2
    for kind, size in sorted(sizes.items()):
        print(f"{size:.4f} mm²  {kind}")
    print(f"{sum(sizes.values()):.4f} mm²  in all")
    draw(options.data, options.out)


def by_image(areas: list[Area], name: str) -> dict[str, list[Area]]:
    """Return image -> areas of a set."""
    found: dict[str, list[Area]] = {}
    for area in areas:
        if area.set == name:
            found.setdefault(area.image, []).append(area)
    return found


def size_by_kind(areas: list[Area]) -> dict[str, float]:
    """Return kind -> square millimetres."""
    found: dict[str, Any] = {}
    for area in areas:
        found[area.kind] = round(found.get(area.kind, 0.0) + area.mm2, 6)
    return found


if __name__ == "__main__":
    main()

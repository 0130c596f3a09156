"""Compare families of networks on the same images: docs/results/families.json.

python docs/programs/families.py EVALUATED …

EVALUATED are folders of `nucleate evaluate -m MODEL --data … -o EVALUATED`, on the same images.
On official test images add `--ledger docs/results/test-uses.csv`.
Time and memory are measured here: the bundled example, one thread, OpenVINO, a process per model.
"""

from __future__ import annotations

import json
import resource
import shlex
import subprocess
import sys
import time
from pathlib import Path

import experiments

ROOT = Path(__file__).parents[2]
OUT = ROOT / "docs" / "results" / "families.json"
EXAMPLE = ROOT / "tests" / "data" / "keratin.tif"
Detectron2 = {  # NuInsSeg, 133 images, scores above 0.5, 100 detections: for orientation only
    "bbox": {"AP": 0.3440, "AP50": 0.6519, "AP75": 0.3332},
    "segm": {"AP": 0.3133, "AP50": 0.6236, "AP75": 0.2857},
}
KINDS = (("segm", "1000"), ("bbox", "1000"), ("segm", "100"), ("bbox", "100"))


def measure(model: str) -> dict[str, float]:
    """Return seconds per mm² and the most memory, of this process."""
    from nucleate import load_model
    from nucleate.inference.pipeline import EngineOptions
    from nucleate.inference.segment import find_nuclei
    from nucleate.readers.opening import open_source

    ready = load_model(model, device="cpu", threads=1)
    source = open_source(EXAMPLE)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        found = find_nuclei(source, ready, None, EngineOptions())
        seconds.append(time.perf_counter() - started)
    area = source.width * source.height * (found.nuclei.frame.mpp or 0.0) ** 2 / 1e6
    return {
        "seconds_per_mm2": round(min(seconds) / area, 2),
        "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10),
        "engine": ready.backend.about,
    }


def row_of(folder: Path) -> dict:
    """Return the results of one evaluation, and what its model costs."""
    found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    words = shlex.split(found["about"]["command"])
    model = words[words.index("-m") + 1]
    printed = subprocess.run(
        [sys.executable, __file__, "--measure", model], capture_output=True, text=True, check=True
    )
    return {
        "model": found["about"]["model"],
        "command": found["about"]["command"],
        "commit": found["about"]["commit"],
        "data": found["about"]["data"]["root"],
        "score_above": found["about"]["average_precision"]["score_above"],
        "names": sorted(row["name"] for row in found["per_image"]),
        "mean": {name: found["mean"][name] for name in ("aji", "pq", "dice")},
        "coco": found["coco"],
        "cost": json.loads(printed.stdout),
    }


def page() -> str:
    """Return the section of the results page."""
    if not OUT.exists():
        return "\n## Detectors and networks that draw maps\n\nnot run\n"
    rows = json.loads(OUT.read_text(encoding="utf-8"))
    first = rows[0]
    names = [f"{kind} AP, {limit}" for kind, limit in KINDS]
    introduction = (
        f"{len(first['names'])} images of {first['data'].removesuffix('.zip')}. AP in per cent "
        "over IoU 0.50 to 0.95 (AP50), with at most 1000 or 100 detections per image: these "
        "contain hundreds of nuclei, so that 100 say little. Time and memory: "
        f"{first['cost']['engine']}, one thread, the bundled example, per mm² of tissue worked on "
        "at 0.25 µm/px; of a shared machine.\n"
    )
    lines = [
        "\n## Detectors and networks that draw maps\n",
        introduction,
        f"| model | AJI | PQ | {' | '.join(names)} | scores above | s per mm² | memory |",
        f"|{'---|' * (len(names) + 6)}",
    ]
    for row in rows:
        cells = [experiments.interval(row["mean"][k]) for k in ("aji", "pq")]
        for kind, limit in KINDS:
            found = row["coco"][kind][limit]
            cells.append(f"{100 * found['AP']:.1f} ({100 * found['AP50']:.1f})")
        cells += [f"{row['score_above']:g}", f"{row['cost']['seconds_per_mm2']:.1f}"]
        cells.append(f"{row['cost']['memory_mb']} MB")
        lines.append(f"| {row['model']} | {' | '.join(cells)} |")
    other = ", ".join(
        f"{kind} {' / '.join(f'{100 * v:.1f}' for v in values.values())}"
        for kind, values in Detectron2.items()
    )
    lines.append(
        "\nFor orientation, Detectron2 on other data (NuInsSeg, scores above 0.5, 100 detections), "
        "AP / "
        f"AP50 / AP75: {other}.\n"
    )
    lines += [f"`{row['command']}` (commit {row['commit']})\n" for row in rows]
    return "\n".join(lines) + "\n"


def main(folders: list[Path]) -> None:
    """Write the file."""
    rows = [row_of(folder) for folder in folders]
    if any(row["names"] != rows[0]["names"] for row in rows):
        sys.exit("the evaluations are of different images")
    OUT.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1] == "--measure":
        print(json.dumps(measure(sys.argv[2])))
    else:
        main([Path(word) for word in sys.argv[1:]])

"""Pack the judge's data: five sets and the slides' areas, small enough to travel.

    python benchmarks/generalise/pack.py [--data ../shared/data] [--wheels]

Writes `.gpu/generalise/`, which git ignores. With `--wheels`, also the wheels that the judge needs
on a machine without internet, into `.gpu/wheels/`, and nothing else there. Prints what would
travel, with sizes, and fails if all of it together is larger than 60 MiB.

JPEG of quality 85 would take 25 MiB and does not fit; WebP of quality 85 takes less at a smaller
error (36.4 dB against 36.0).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.generalise.areas import write_slides  # noqa: E402
from benchmarks.generalise.sets import PACKED, SETS, published, write_set  # noqa: E402
from benchmarks.gpu.pack import PACK, check_size, fetch_wheels  # noqa: E402

WHEELS = (
    "annotated-types", "defusedxml", "lapx", "pydantic", "pydantic-core",
    "segmentation-models-pytorch", "typing-inspection",
)  # fmt: skip


def pack(data: Path, out: Path, quality: int) -> None:
    """Write the five sets and the slides' areas."""
    out.mkdir(parents=True, exist_ok=True)
    for name in SETS:
        samples = published(name, data)
        write_set(samples, out / f"{name}.zip", quality)
        nuclei = sum(int(s.labels.max(initial=0)) for s in samples if s.labels is not None)
        print(f"{name}: {len(samples)} images, {nuclei} nuclei", file=sys.stderr)
    write_slides(data, out / "slides.zip", quality)


def main() -> None:
    """Pack, and say what there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--quality", type=int, default=85, help="Of WebP.")
    parser.add_argument("--wheels", action="store_true")
    parser.add_argument("--python", default="3.12", help="Version on the machine with the GPU.")
    options = parser.parse_args()
    pack(options.data, PACKED, options.quality)
    if options.wheels:
        fetch_wheels(PACK / "wheels", options.python, WHEELS)
    check_size()


if __name__ == "__main__":
    main()

"""The compiled loops beside libraries that do the same, from benchmarks/kernels.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

OUT = Path(__file__).parents[1] / "results" / "kernels.json"
MARKS = "<!-- loops: written by docs/programs/results.py -->", "<!-- end of loops -->"


def load() -> dict[str, Any]:
    """Return what was measured."""
    found: dict[str, Any] = json.loads(OUT.read_text(encoding="utf-8"))
    return found


def sentences() -> str:
    """Return what the page of decisions states about numba and its alternatives."""
    found = load()
    loops, size, start = found["loops"], found["installed_mb"], found["start_seconds"]
    exact = {name: [w for w in ways if ways[w]["same"] > 0.99] for name, ways in loops.items()}
    slower = "; ".join(
        f"{loop} " + ", ".join(f"{loops[loop][way]['ratio']:.0f} times ({way})" for way in ways[1:])
        for loop, ways in exact.items()
    )
    per_mp = {
        way: sum(loops[loop][way]["ms"] for loop in ("watershed", "tracing")) / found["megapixels"]
        for way in ("numba", "scikit-image")
    }
    opencv = [ways["OpenCV"] for ways in loops.values()]
    saved = size["numba"] - size["SciPy"] - size["scikit-image"]
    return (
        "Without numba, exact results need other libraries, which take longer than it: "
        f"{slower}. On {found['tiles']} real images the watershed and tracing grow from "
        f"{per_mp['numba']:.0f} to {per_mp['scikit-image']:.0f} ms per megapixel. OpenCV takes "
        f"{min(m['ratio'] for m in opencv):.1f} to {max(m['ratio'] for m in opencv):.1f} times as "
        f"long as numba, but {loops['watershed']['OpenCV']['same']:.0%} of the watershed's pixels "
        "get the label of the definition, and its outlines have "
        f"{loops['tracing']['OpenCV']['same']:.0%} of the area. The base install would be "
        f"{saved} MB smaller. The price is the first start, once per installation: "
        f"{start['first'] - start['later']:.0f} s more, to compile."
    )


def section() -> str:
    """Return the section about the compiled loops and libraries that do the same."""
    found = load()
    rows = [
        f"| {loop} | {way} | {m['ms']:.0f} | {m['ratio']:.1f} | {m['same']:.3f} |"
        for loop, ways in found["loops"].items()
        for way, m in ways.items()
    ]
    start, size = found["start_seconds"], found["installed_mb"]
    return (
        f"\n## Compiled loops and libraries\n\n`{found['command']}` on {found['machine']}: "
        f"{found['tiles']} images of {found['megapixels']} megapixels together, with "
        f"{found['nuclei']:,} nuclei; the best of {found['rounds']} rounds. Read the ratios: the "
        "machine is shared. The last column is the share of pixels with the label that the "
        "definition gives, and for outlines their area as a share of that of the pixels.\n\n"
        "| loop | by | ms | times as long | same |\n|---|---|---|---|---|\n"
        + "\n".join(rows)
        + f"\n\nA new process has run the loops after {start['first']:.0f} s the first time, after "
        f"{start['later']:.0f} s later; it has imported the libraries after "
        f"{start['libraries']:.0f} s. numba takes {size['numba']} MB, SciPy {size['SciPy']} MB, "
        f"scikit-image {size['scikit-image']} MB more.\n"
    )

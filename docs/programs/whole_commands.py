"""The section of the results page about whole commands: docs/results/commands.json."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

HALO = Path(__file__).parents[1] / "results" / "halo.json"
OUT = Path(__file__).parents[1] / "results" / "commands.json"
PROCESS, LABELS, PEER = "nucleate, in one process", "nucleate, labels", "StarDist, labels"


def page() -> str:
    """Return the section."""
    lines = ["\n## Whole commands\n"]
    if not OUT.exists():
        return "\n".join([*lines, "not run\n"])
    data = json.loads(OUT.read_text(encoding="utf-8"))
    seconds = {name: median(values) for name, values in data["seconds_per_image"].items()}
    lines += [
        (
            f"`{data['command']}` (commit {data['commit']}), one core of {data['cpu']}. Images of "
            "1000 × 1000 pixels, read from and written to disk; seconds per image, start-up taken "
            f"out; median of {data['rounds']} rounds in turns. StarDist was trained for "
            f"{data['stardist_minutes']:g} minutes; thresholds: {data['stardist_thresholds']}.\n"
        ),
        "| | seconds per image | against one process | StarDist takes |",
        "|---|---|---|---|",
    ]
    for name, value in seconds.items():
        ratio = f"{seconds[PEER] / value:.1f} times as long" if name != PEER else "–"
        lines.append(f"| {name} | {value:.3f} | {value / seconds[PROCESS]:.2f} | {ratio} |")
    slide = {n: median(v) for n, v in data["slide"]["seconds_per_megapixel"].items()}
    alone, both = slide["network alone"], slide["network alone, two cores"]
    lines += [
        (
            f"\nA slide of {data['slide']['megapixels']:g} megapixels with labels, seconds per "
            "megapixel:\n"
        ),
        "| | s/megapixel | against the network alone |",
        "|---|---|---|",
        *(f"| {n} | {v:.4f} | {v / alone:.2f} |" for n, v in slide.items()),
        f"\nTwo cores are {slide['one core'] / slide['two cores']:.2f} times as fast as one.",
        f"The network alone is {alone / both:.2f} times as fast on two.",
    ]
    return "\n".join(lines) + "\n" + halos()


def halos() -> str:
    """Return what halos and tiles cost and keep."""
    if not HALO.exists():
        return ""
    data = json.loads(HALO.read_text(encoding="utf-8"))
    lines = [
        "\n### Halo and tile\n",
        (
            f"`{data['command']}` (commit {data['commit']}), {data['model']}. Nuclei of tiles with "
            f"a core of {data['core_px']} pixels that have no counterpart (IoU above 0.9) in one "
            "tile, and nuclei that end where a tile ends:\n"
        ),
        "| halo (px) | f32: differ | cut | int8: differ | cut |",
        "|---|---|---|---|---|",
    ]
    for halo, f32 in data["halos"]["f32"].items():
        int8 = data["halos"]["int8"][halo]
        lines.append(f"| {halo} | {f32['differ']:.2%} | {f32['cut']} | {int8['differ']:.2%} "
                     f"| {int8['cut']} |")  # fmt: skip
    lines += [
        (
            f"\nA slide of {data['slide_megapixels']:g} megapixels with labels, the whole command "
            f"on one core of {data['cpu']}, median of rounds in turns:\n"
        ),
        "| tile (px) | area read over area | seconds | peak memory (MB) |",
        "|---|---|---|---|",
    ]
    for tile, found in data["tiles"].items():
        area = (int(tile) / (int(tile) - 256)) ** 2
        lines.append(f"| {tile} | {area:.2f} | {median(found['seconds']):.1f} "
                     f"| {found['peak_mb']:,} |")  # fmt: skip
    return "\n".join(lines) + "\n"

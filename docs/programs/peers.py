"""The section of the results page on nucleate's peers, from docs/results/peers.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nucleate.models.card import DEFAULT_MODEL, bundled_models

OUT = Path(__file__).parents[1] / "results" / "peers.json"
TILE_MM2 = (1000 * 0.25e-3) ** 2  # tiles of 1000 × 1000 pixels at 0.25 µm per pixel


def load() -> dict[str, Any]:
    """Return what was measured; scores of nucleate are those of the last evaluation."""
    data: dict[str, Any] = json.loads(OUT.read_text(encoding="utf-8"))
    for name, row in data["rows"].items():
        scored = OUT.parent / f"{name}-monuseg-test" / "metrics.json"
        if scored.exists():
            mean = json.loads(scored.read_text(encoding="utf-8"))["mean"]
            row |= {metric: mean[metric] for metric in ("aji", "pq", "dice")}
    return data


def _retired(name: str) -> bool:
    """Return whether a row is of a model that was bundled once."""
    return name.startswith("mtl-") and name not in bundled_models()


def overview() -> str:
    """Return the table of the README: quality, time and size of nucleate and its peers."""
    if not OUT.exists():
        return ""
    data = load()
    lines = [
        "| | AJI | PQ | seconds per mm², one core | installed |",
        "|---|---|---|---|---|",
    ]
    for name, r in data["rows"].items():
        if not r["seconds"] or _retired(name) or "random weights" in r["about"]:
            continue
        shown = f"**nucleate**, {name}" if name in bundled_models() else name
        if "trained here" in r["about"]:
            shown += " (retrained here)"
        cells = [f"{r[k]['mean']:.3f}" if k in r else "–" for k in ("aji", "pq")]
        seconds = min(r["seconds"]) / TILE_MM2
        cells.append(f"{seconds:.1f}" if seconds < 100 else f"{seconds:,.0f}")
        cells.append(f"{r['install_mb'] / 1000:.1f} GB")
        lines.append(f"| {shown} | {' | '.join(cells)} |")
    lines.append(
        "\nAJI (aggregated Jaccard index) and PQ (panoptic quality): 0 to 1, higher is better; "
        f"mean over MoNuSeg's {data['rows'][DEFAULT_MODEL]['aji']['n']} test images. "
        f"We retrained StarDist for {data['minutes']:g} minutes on the images that "
        f"`{DEFAULT_MODEL}` was trained on at that time; `{DEFAULT_MODEL}` was trained for longer. "
        "[How this was measured](docs/results/index.md#peers)."
    )
    return "\n".join(lines)


def page() -> str:
    """Return the section."""
    lines = ["\n## Peers\n"]
    if not OUT.exists():
        return "\n".join([*lines, "not run\n"])
    data = load()
    rows = data["rows"]
    ours = min(rows[DEFAULT_MODEL]["seconds"])
    lines += [
        (
            f"`{data['command']}` (commit {data['commit']}), {data['rounds']} rounds of four tiles "
            "of 1000 × 1000 pixels, one core, reading left out, decoding included; the best round. "
            f"{data['machine']}; a machine that others use too: read the ratios. StarDist was "
            f"trained here for {data['minutes']:g} minutes on the training images of "
            f"{DEFAULT_MODEL} at that commit. AJI, PQ, Dice: MoNuSeg's test images, with 95 % "
            "intervals. InstanSeg and HoVer-Net have random weights: they are measured without "
            "decoding, and not scored.\n"
        ),
        "| | seconds | ratio | peak MB | installed MB | AJI | PQ | Dice |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, r in rows.items():
        if not r["seconds"]:
            lines.append(f"| {name} | skipped: {r['skipped']} | | | | | | |")
            continue
        seconds = min(r["seconds"])
        cells = [f"{seconds:.2f}", f"{seconds / ours:.1f}", f"{r['peak_mb']:,}"]
        cells.append(f"{r['install_mb']:,}")
        for metric in ("aji", "pq", "dice"):
            m = r.get(metric)
            cells.append(f"{m['mean']:.3f} ({m['low']:.3f}–{m['high']:.3f})" if m else "–")
        about = "not bundled any more" if _retired(name) else r["about"]
        lines.append(f"| {name}, {about} | {' | '.join(cells)} |")
    slower = [n for n, r in rows.items() if r["trained"] and r["seconds"] and "mtl-" not in n]
    if slower:
        nearest = min(slower, key=lambda n: min(rows[n]["seconds"]))
        ratio = min(rows[nearest]["seconds"]) / ours
        lines.append(f"\nThe fastest trained peer, {nearest}, takes {ratio:.1f} times as long.")
    return "\n".join(lines) + "\n"

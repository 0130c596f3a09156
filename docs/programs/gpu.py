"""The section of the results page about GPUs, from docs/results/gpu-*.json (benchmarks/gpu)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results"


def page() -> str:
    """Return the section."""
    lines = ["\n## On a GPU\n"]
    files = sorted(RESULTS.glob("gpu-*.json"))
    if not files:
        return "\n".join([*lines, "not run\n"])
    for file in files:
        printed: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        machine = printed["about"]["machine"]
        lines.append(
            f"`{printed['about']['command']}` ({machine['date']}): {machine.get('gpu', 'no GPU')}, "
            f"{machine['cores']} cores of {machine['cpu']}, PyTorch {machine['torch']}. "
            "[How](../how-to/gpu.md).\n"
        )
        parts = printed["about"]["command"].rpartition("--parts ")[2].split(",")
        lines += _check(printed.get("check", {})) if {"check", "resume"} & {*parts} else []
        lines += _slides(printed.get("slides", {})) if "slides" in parts else []
        lines += _network(printed.get("network", {})) if "network" in parts else []
    return "\n".join(lines) + "\n"


def _check(rows: dict[str, Any]) -> list[str]:
    """Return whether a GPU finds the same nuclei."""
    if not rows:
        return ["Comparison with the CPU: not run.\n"]
    lines = [
        (
            "Same nuclei: share of nuclei that are equal at an IoU above 0.9, against f32 on the "
            "CPU, and tiles of 512 pixels against the whole image. Six validation images of "
            "MoNuSeg.\n"
        ),
        "| model, precision | nuclei | on the CPU | same | AJI difference | tiles, same |",
        "|---|---|---|---|---|---|",
    ]
    for name, r in rows.items():
        if "same_as_cpu_f32" not in r:
            continue
        aji = "–" if r["aji_difference"] is None else f"{r['aji_difference']:+.5f}"
        lines.append(
            f"| {name} | {r['nuclei']:,} | {r['nuclei_cpu_f32']:,} | "
            f"{100 * r['same_as_cpu_f32']:.2f} % | {aji} | {100 * r['tiled_same_as_whole']:.2f} % |"
        )
    resumed = rows.get("killed and resumed")
    if resumed is None:
        return [*lines, "\nA slide killed and resumed: not run.\n"]
    same = "the same bytes" if resumed["same_bytes"] else "other bytes"
    lines.append(
        f"\nA slide with {resumed['nuclei']:,} nuclei, killed and resumed: "
        f"{resumed['nuclei_resumed']:,} nuclei, {same}.\n"
    )
    return lines


def _slides(rows: dict[str, Any]) -> list[str]:
    """Return seconds per square millimetre from file to Parquet."""
    if not rows:
        return ["A slide from file to Parquet: not run.\n"]
    lines = [
        (
            "A slide of tissue (0.25 um/px, no glass) from file to Parquet, in one process, "
            "start-up taken out. The stages overlap; their seconds are sums over threads and "
            "processes. Decoders are processes, or threads where a row reports it.\n"
        ),
        (
            "| | mm² | nuclei | s/mm² | read | network | decode | write | after the last tile "
            "| GPU busy | GPU memory |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, r in rows.items():
        stages = [f"{r['stages_seconds'][s]:.0f} s" for s in ("read", "network", "decode", "write")]
        stages.append(f"{r['after_the_last_tile']:.0f} s" if "after_the_last_tile" in r else "–")
        busy = f"{100 * r['gpu_busy_share']:.0f} %" if "gpu_busy_share" in r else "–"
        memory = f"{r['gpu_gib']} GiB" if "gpu_gib" in r else "–"
        lines.append(
            f"| {name} | {r['mm2']} | {r['nuclei']:,} | {r['seconds_per_mm2']:.3f} | "
            f"{' | '.join(stages)} | {busy} | {memory} |"
        )
    return [*lines, ""]


def _network(rows: dict[str, Any]) -> list[str]:
    """Return seconds per square millimetre of the network alone."""
    timed = {name: r for name, r in rows.items() if isinstance(r, dict)}
    if not timed:
        return ["The network alone: not run.\n"]
    lines = [
        "The network alone, pixels and maps on the device, tiles of 1,024 pixels.\n",
        "| | s/mm² | GPU memory |",
        "|---|---|---|",
    ]
    for name, r in timed.items():
        memory = f"{r['gpu_gib']} GiB" if "gpu_gib" in r else "–"
        lines.append(f"| {name} | {r['seconds_per_mm2']:.4f} | {memory} |")
    if "seconds to compile" in rows:
        lines.append(f"\n`torch.compile` takes {rows['seconds to compile']} s once.")
    return [*lines, ""]

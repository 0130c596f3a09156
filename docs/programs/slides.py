"""The section of the results page about whole slides, from docs/results/slides.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[1] / "results" / "slides.json"
PARTS = ("seams", "memory", "speed", "workers", "kills", "files")


def page() -> str:
    """Return the section."""
    printed = json.loads(SOURCE.read_text(encoding="utf-8")) if SOURCE.exists() else {}
    lines = [
        "\n## Whole slides\n",
        (
            "Slides made from the bundled example's tissue, with glass around it; CPU of "
            "a shared machine. Read the ratios.\n"
        ),
    ]
    for part in PARTS:
        lines.append(f"### {TITLES[part]}\n")
        if part not in printed:
            lines.append("not run\n")
            continue
        lines += TEXTS[part](printed[part]["found"])
        lines.append(f"\n`{printed[part]['command']}` (commit {printed[part]['commit']})\n")
    return "\n".join(lines) + "\n"


def seams(found: dict[str, Any]) -> list[str]:
    """An oracle and the bundled model over tile sizes."""
    edge = found["edge"]
    lines = [
        f"A network that has the truth, {edge} × {edge} pixels, {found['truth']} nuclei:\n",
        "| tile | nuclei found | wrong or missing |",
        "|---|---|---|",
    ]
    lines += [f"| {t} | {row['nuclei']} | {row['wrong']} |" for t, row in found["oracle"].items()]
    lines += [
        "\nThe bundled model, one tile size against another (the same: IoU above 0.9):\n",
        "| tiles | precision | nuclei | the same |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {precision} | {row['nuclei'][0]} and {row['nuclei'][1]} "
        f"| {100 * row['share']:.3f} % |"
        for precision, rows in found["model"].items()
        for name, row in rows.items()
    ]
    return lines


def memory(found: dict[str, Any]) -> list[str]:
    """Peak memory of growing slides, and of exports."""
    rows = found["slides"]
    peaks = [row["peak_mb"] for row in rows.values()]
    lines = [
        "| slide | tissue | nuclei | seconds | peak memory | Parquet |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {edge} × {edge} | {row['tissue_mm2']:.1f} mm² | {row['nuclei']:,} "
        f"| {row['seconds']:.0f} | {row['peak_mb']} MB | {row['parquet_mb']} MB |"
        for edge, row in rows.items()
    ]
    lines.append(
        f"\nFrom the smallest to the largest slide the peak changes by "
        f"{100 * (peaks[-1] / peaks[0] - 1):+.1f} %.\n"
    )
    lines += [
        "Exports of the largest:\n",
        "| form | seconds | peak memory | file |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {form} | {row['seconds']:.0f} | {row['peak_mb']} MB | {row['mb']} MB |"
        for form, row in found["exports"].items()
    ]
    return lines


def speed(found: dict[str, Any]) -> list[str]:
    """The engine against its slowest stage."""
    rounds = found["rounds"]
    best = min(rounds, key=lambda r: r["engine"] / r["network_alone"])
    total = sum(best["stages"].values())
    shares = ", ".join(f"{name} {100 * s / total:.0f} %" for name, s in best["stages"].items())
    ratios = [r["engine"] / r["network_alone"] for r in rounds]
    return [
        (
            f"{found['tiles']} tiles of 1536 pixels in {found['regions']} regions, "
            f"{best['tissue_mm2']:.1f} mm² of tissue, three rounds.\n"
        ),
        (
            f"- engine over the network alone (its slowest stage): {min(ratios):.2f} to "
            f"{max(ratios):.2f};"
        ),
        f"- {best['tissue_mm2'] / best['engine']:.3f} mm² of tissue per second in the best round;",
        f"- busy time: {shares}.",
    ]


def workers(found: dict[str, Any]) -> list[str]:
    """Two workers against one process."""
    pairs = zip(found["two_workers"], found["one_process"], strict=True)
    ratios = [both["seconds"] / plain["seconds"] for both, plain in pairs]
    row = found["one_process"][0]
    return [
        (
            f"{row['tissue_mm2']:.1f} mm² of tissue, {len(ratios)} rounds: two Dask workers of one "
            f"thread take {min(ratios):.2f} to {max(ratios):.2f} of the time of one process of two "
            "threads."
        )
    ]


def kills(found: dict[str, Any]) -> list[str]:
    """Runs that were killed."""
    same = "the same bytes as" if found["same_bytes"] else "not the bytes of"
    content = "the same content" if found["same_content"] else "other content"
    return [
        (
            f"{found['kills']} times SIGKILL at a random moment, each time `--resume` after it: "
            f"{found['nuclei']} nuclei, {content}, {same} the undisturbed run's table."
        )
    ]


def files(found: list[dict[str, Any]]) -> list[str]:
    """Every file at hand, damaged ones too."""
    lines = ["| file | exit code | size | nuclei | said |", "|---|---|---|---|---|"]
    for row in found:
        size = f"{row['size'][0]} × {row['size'][1]}" if row["size"][0] else ""
        nuclei = "" if row["nuclei"] is None else row["nuclei"]
        given = "; `--mpp 0.5` given" if row["mpp_given"] else ""
        said = row["said"].removeprefix("nucleate: ").replace("|", "/")
        lines.append(f"| {row['file']} | {row['code']} | {size} | {nuclei}{given} | {said} |")
    return lines


TITLES = {
    "seams": "Seams",
    "memory": "Memory",
    "speed": "Speed",
    "workers": "Two workers on two cores",
    "kills": "Killed runs",
    "files": "Every slide at hand",
}
TEXTS = {
    "seams": seams, "memory": memory, "speed": speed, "workers": workers, "kills": kills,
    "files": files,
}  # fmt: skip

"""docs/results/experiments.md from docs/results/experiments/*.json. `results.py` writes it."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from nucleate.reports.tables import published_figures

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
NAMES = {
    "aji": "AJI", "aji_plus": "AJI+", "pq": "PQ", "dq": "DQ", "sq": "SQ", "dice": "Dice",
    "iou": "IoU", "accuracy": "pixel accuracy", "precision": "precision", "recall": "recall",
    "f1_50": "F1 at IoU 0.5", "f1_70": "F1 at IoU 0.7", "f1_detection": "detection F1 (3 µm)",
    "boundary_f": "boundary F (2 px)", "hd95_px": "HD95 (px)", "count_error": "counting error",
    "component_count_error": "counting error of 4-connected pieces",
}  # fmt: skip
ELSEWHERE = ("laptop", "mtl-small", "mtl-base", "mtl-ablation")  # have separate results
SHOWN = ("aji", "pq", "dice", "iou", "count_error")


def rows() -> list[dict]:
    """Return what was kept of every experiment."""
    files = sorted((RESULTS / "experiments").glob("*.json"))
    return [json.loads(f.read_text(encoding="utf-8")) for f in files]


def recipes() -> dict[str, dict]:
    """Return name -> content of every recipe in the repository."""
    files = sorted((ROOT / "recipes").glob("*.yaml"))
    return {f.stem: yaml.safe_load(f.read_text(encoding="utf-8")) for f in files}


def page() -> str:
    """Return the page."""
    found, known = rows(), recipes()
    parts = [
        "# Experiments",
        "",
        (
            "Written by `docs/programs/results.py` from the files in "
            "`docs/results/experiments`, which "
            "`docs/programs/keep_experiment.py` makes from finished runs. Mean over images; in "
            "parentheses the 95 % bootstrap interval over patients, not over other "
            "seeds. *Chosen on*: the checkpoint or the thresholds were chosen on the same "
            "images, "
            "so that the figures are too high. Minutes are of a shared machine of two cores."
        ),
        "",
        overview(found, known),
        published(found),
        over_folds(found),
        ablation(),
        types(found),
        *filter(None, (pretrained(), waiting(known))),
        *(details(row) for row in found),
    ]
    return "\n".join(parts).rstrip() + "\n"


def overview(found: list[dict], known: dict[str, dict]) -> str:
    """Return one row per result, and one for every recipe that was never run."""
    lines = [
        f"| recipe | tested on | seed | steps | minutes | {' | '.join(NAMES[m] for m in SHOWN)} |",
        f"|{'---|' * (5 + len(SHOWN))}",
    ]
    for name, recipe in known.items():
        if name in ELSEWHERE:
            continue
        mine = [row for row in found if row["recipe"] == name]
        for row in mine:
            minutes = row["cost"]["training"]["value"]
            cells = [name, tested(row), str(row["seed"]), steps(row, recipe), f"{minutes:.0f}"]
            lines.append(line([*cells, *(interval(row["mean"][m]) for m in SHOWN)]))
            for other in row["elsewhere"]:
                where = f"{other['data'].removesuffix('.zip')}, {other['images']} images"
                cells = [name, where, str(row["seed"]), steps(row, recipe), f"{minutes:.0f}"]
                lines.append(line([*cells, *(interval(other["mean"][m]) for m in SHOWN)]))
        if not mine:
            lines.append(line([name, "not run", "", "", "", *("–" for _ in SHOWN)]))
    lines.append(
        "\n`laptop`, `mtl-small` and `mtl-base` have their own [results](index.md); "
        "`mtl-ablation` is below.\n"
    )
    return "\n".join(lines)


def steps(row: dict, recipe: dict) -> str:
    """Return the steps of a run, and those of its recipe where it was cut short."""
    whole = recipe["train"]["steps"]
    full = f"{row['steps']:,}" if row["steps"] == whole else f"**{row['steps']:,}** of {whole:,}"
    return f"{full} of {row['batch']} × {row['crop_px']}²"


def tested(row: dict) -> str:
    """Return in words which images a result is of."""
    role = "" if row["images_are"] == "tested on" else " (*chosen on*)"
    return f"{', '.join(row['data'])}, {row['split']}, {row['images']} images{role}"


def published(found: list[dict]) -> str:
    """Return what two systems published beside what their recipes reach here."""
    facts = published_figures()
    lines = [
        "\n## Beside what was published\n",
        (
            "Histology-NucleiSeg: six images of CryoNuSeg; pixels pooled, pieces of foreground "
            "counted. Nuclei-Segmentation: the 14 official test images of MoNuSeg; its own "
            "figures are means over batches of patches. `as-published` repeats the settings, "
            "`improved` does not.\n"
        ),
        (
            "| system | pixel F1 (Dice) | IoU | counting error of pieces of foreground "
            "| against true nuclei |"
        ),
        "|---|---|---|---|---|",
    ]
    for system, theirs in facts.items():
        f1 = theirs.get("pixel_f1", theirs.get("dice"))
        iou = theirs.get("iou")
        count = theirs.get("component_count_error")
        lines.append(line([f"{system}: published", number(f1), number(iou), number(count), "–"]))
        for row in found:
            if not row["recipe"].startswith(system + "-"):
                continue
            printed = f"{row['recipe']}, {row['steps']:,} steps"
            if system.endswith("cryonuseg") and row["over_folds"] is None:
                pooled = row["pooled"]
                lines.append(line([printed, number(pooled["dice"]), number(pooled["iou"]),
                                   number(row["mean"]["component_count_error"]["mean"]),
                                   number(row["mean"]["count_error"]["mean"])]))  # fmt: skip
            official = [o for o in row["elsewhere"] if o["data"].startswith("MoNuSegTest")]
            for other in official if system.endswith("monuseg") else []:
                m = other["mean"]
                lines.append(line([printed, number(m["dice"]["mean"]), number(m["iou"]["mean"]),
                                   number(m["component_count_error"]["mean"]),
                                   number(m["count_error"]["mean"])]))  # fmt: skip
    return "\n".join(lines) + "\n"


def over_folds(found: list[dict]) -> str:
    """Return mean ± SD over folds, without and with test-time augmentation."""
    folded = [row for row in found if row["over_folds"]]
    if not folded:
        return "\n## Cross-validation\n\nnot run\n"
    lines = [
        "\n## Cross-validation\n",
        (
            "Every image is predicted by the model whose fold left its patient out. Mean "
            "± standard "
            "deviation over folds. TTA: mean of 8 views.\n"
        ),
        f"| recipe | {' | '.join(NAMES[m] for m in SHOWN)} |",
        f"|{'---|' * (1 + len(SHOWN))}",
    ]
    for row in folded:
        for title, figures in ((row["recipe"], row["over_folds"]), ("… with TTA", row["tta"])):
            if figures:
                cells = [f"{figures[m]['mean']:.3f} ± {figures[m]['sd']:.3f}" for m in SHOWN]
                lines.append(line([title, *cells]))
    people = RESULTS / "human-agreement" / "agreement.json"
    if people.exists():
        for pair, m in json.loads(people.read_text(encoding="utf-8"))["pairs"].items():
            printed = [number(m[k]["mean"]) if k in m else "–" for k in SHOWN]
            lines.append(line([f"people on CryoNuSeg: {pair}", *printed]))
    return "\n".join(lines) + "\n"


def ablation() -> str:
    """Return the table of MTL's ingredients."""
    path = RESULTS / "mtl-ablation" / "ablation.json"
    title = "\n## What the ingredients of MTL are worth\n"
    if not path.exists():
        return f"{title}\nnot run\n"
    found = json.loads(path.read_text(encoding="utf-8"))
    lines = [
        title,
        (
            f"`{found['command']}`: the recipe `mtl-ablation`, one ingredient taken away at "
            f"a time, "
            f"{found['steps']} steps of {found['batch']} crops, {found['folds']} folds of "
            f"patients on "
            f"MoNuSeg's {found['images']} training images, one seed. Difference: to all "
            "ingredients, image by image, with bootstrap interval and permutation test.\n"
        ),
        "| network | AJI | PQ | Dice | difference in AJI | p | difference in PQ | minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for variant, m in found["variants"].items():
        a, q = m["difference"]["aji"], m["difference"]["pq"]
        same = variant == "all ingredients"
        printed = ["–", "–", "–"] if same else [change(a), chance(a["p"]), change(q)]
        cells = [variant, *(number(m[k]["mean"]) for k in ("aji", "pq", "dice")), *printed]
        lines.append(line([*cells, f"{m['minutes']:.0f}"]))
    return "\n".join(lines) + "\n"


def types(found: list[dict]) -> str:
    """Return PQ and F1 per nucleus class."""
    typed = [row for row in found if row.get("per_class")]
    if not typed:
        return "\n## Types of nuclei\n\nnot run\n"
    lines = [
        "\n## Types of nuclei\n",
        "Each type is scored as if the nuclei of all others were background.\n",
        "| recipe | type | nuclei | PQ, mean over images | PQ, pooled | detection F1 |",
        "|---|---|---|---|---|---|",
    ]
    for row in typed:
        for name, m in row["per_class"].items():
            printed = [number(m[k]) for k in ("pq", "pq_pooled", "f1_detection")]
            lines.append(line([row["recipe"], name, f"{m['nuclei']:,.0f}", *printed]))
    return "\n".join(lines) + "\n"


def pretrained() -> str:
    """Return the table of pretrainings that were run by themselves; nothing without any."""
    files = sorted((RESULTS / "experiments" / "pretraining").glob("*.json"))
    if not files:
        return ""
    lines = [
        "\n## Pretraining\n",
        "On images that were held out; chance is what guessing reaches.\n",
        "| recipe | task | steps | minutes | held out | chance |",
        "|---|---|---|---|---|---|",
    ]
    for row in (json.loads(file.read_text(encoding="utf-8")) for file in files):
        steps = f"{row['steps']:,} of {row['queue']['of_steps']:,} of {row['batch']}"
        reached, chance = (
            ", ".join(f"{name.removeprefix('val_')} {value:.3f}" for name, value in m.items())
            for m in (row["validation"], row["chance"])
        )
        cells = [row["recipe"], row["task"], steps, f"{row['minutes']:.0f}", reached, chance]
        lines.append(line(cells))
    return "\n".join(lines) + "\n"


def waiting(known: dict[str, dict]) -> str:
    """Return what all steps of the published systems' recipes cost on one CPU thread."""
    file = RESULTS / "published-costs.json"
    if not file.exists():
        return ""
    costs = json.loads(file.read_text(encoding="utf-8"))
    processors = ", ".join(sorted({cost["processor"] for cost in costs.values()}))
    lines = [
        "\n## What all steps cost\n",
        (
            "CPU hours on one thread, measured by `benchmarks/published/run.py` on a few steps "
            f"({processors}). The queue runs at most 4 CPU hours of a recipe; more waits for a "
            "GPU.\n"
        ),
        "| recipe | steps | s per step | hours of all steps | |",
        "|---|---|---|---|---|",
    ]
    for name, cost in costs.items():
        file = ROOT / "recipes" / "pretrain" / f"{name}.yaml"
        recipe = known.get(name) or yaml.safe_load(file.read_text(encoding="utf-8"))
        train = recipe["train"]
        validations = train["steps"] // train["validate_every"]
        seconds = cost["fixed_s"] + validations * cost["validation_s"]
        hours = (seconds + train["steps"] * cost["step_s"]) / 3600
        mark = "waits for a GPU" if hours > 4 else ""
        cells = [name, f"{train['steps']:,}", f"{cost['step_s']:.2f}", f"{hours:.1f}", mark]
        lines.append(line(cells))
    return "\n".join(lines) + "\n"


def details(row: dict) -> str:
    """Return every metric of one run, and how to repeat it."""
    cost = "; ".join(
        f"{name} {m['value']:,.1f} {m['unit']}"
        for name, m in row["cost"].items()
        if m["value"] is not None
    )
    lines = [
        f"\n## {row['name']}\n",
        (
            f"`{row['command']}` (commit {row['commit']}, {row['device']}, {row['precision']}). "
            f"{row['start']} {cost}.\n"
        ),
    ]
    sides = [(tested(row), row["mean"], row["pooled"])]
    for other in row["elsewhere"]:
        where = f"{other['data'].removesuffix('.zip')}, {other['images']} images"
        sides.append((where, other["mean"], other["pooled"]))
        lines.insert(2, f"`{other['command']}` (commit {other['commit']}).\n")
    for where, mean, pooled in sides:
        lines += [f"{where}:\n", "| metric | mean | pooled | images |", "|---|---|---|---|"]
        for metric, label in NAMES.items():
            m = mean[metric]
            lines.append(line([label, interval(m), number(pooled[metric]), str(m["n"])]))
        lines.append("")
    return "\n".join(lines)


def line(cells: list[str]) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(cells)} |"


def interval(m: dict) -> str:
    """Return mean and interval as text."""
    if m["mean"] is None:
        return "–"
    return f"{m['mean']:.3f} ({m['low']:.3f} to {m['high']:.3f})"


def change(m: dict) -> str:
    """Return a difference and its interval as text."""
    return f"{m['difference']:+.3f} ({m['low']:+.3f} to {m['high']:+.3f})"


def chance(p: float) -> str:
    """Return a p-value as text."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def number(value: float | None) -> str:
    """Return a figure as text."""
    return "–" if value is None else f"{value:.3f}"

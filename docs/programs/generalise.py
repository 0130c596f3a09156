"""The page about data sets that were not trained on, from docs/results/generalise (the judge).

`results.py` writes it as docs/results/generalise.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results" / "generalise"
HEAD = """# Data sets that were not trained on

Written by `docs/programs/results.py`. [What the judge is](../concepts/generalisation.md).
"""


def ideas() -> list[str]:
    """Return the lines of the table of ideas."""
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]
    from benchmarks.generalise import plan, scoring, store
    from benchmarks.generalise.areas import load_areas
    from benchmarks.generalise.sets import SETS

    areas = load_areas()
    titles = " | ".join(one.title for one in SETS.values())
    lines = [
        "\n## Ideas\n",
        (
            "| idea | folds | best setting | G (95 %) | G at 0.4, 0.4 | F per mm² | in tissue | "
            f"{titles} |"
        ),
        f"|{'---|' * (7 + len(SETS))}",
    ]
    facts = []
    for idea in plan.IDEAS:
        folds = store.folds_of(RESULTS, idea)
        facts.append(f"- **{idea.name}**: {idea.hypothesis}. Prediction: {idea.prediction}.")
        wanted = len(idea.seeds) * len(idea.left_out)
        if len(folds) < wanted:
            lines.append(
                f"| {idea.name} | {len(folds)} of {wanted} | not run {'|' * (5 + len(SETS))}"
            )
            continue
        best, found, fixed = scoring.standing(store.by_set(folds), areas)
        each = " | ".join(_aji(found, name) for name in SETS)
        lines.append(
            f"| {idea.name} | {len(folds)} | {best['foreground']}, {best['marker']} | "
            f"{found.g:.3f} ({found.g_low:.3f} to {found.g_high:.3f}) | {fixed.g:.3f} | "
            f"{found.f:.1f} | {found.f_tissue:.1f} | {each} |"
        )
    return [*lines, "", *facts]


def _aji(found: Any, name: str) -> str:
    """Return the AJI of a set, a dash where it was not left out."""
    return f"{found.sets[name]['aji'][0]:.3f}" if name in found.sets else "–"


def baselines() -> list[str]:
    """Return the lines about the shipped models."""
    path = RESULTS / "baselines.json"
    if not path.exists():
        return ["\n## Shipped models\n", "not run"]
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    lines = [
        "\n## Shipped models\n",
        (
            "On the sets that they were not trained on; G is over those. Version 1 of mtl-small is "
            "what `recipes/mtl-small-start.yaml` trains; version 2 is trained on all sets, and its "
            "recipe is the idea `further` below. mtl-base was bundled then "
            "([why not any more](../decisions/index.md#40-the-larger-model-is-not-bundled)). "
            f"`python benchmarks/generalise/baselines.py` (commit {facts['commit']}).\n"
        ),
        "| model | thresholds | set | AJI (95 %) | AJI+ | PQ | precision | recall | area ratio |",
        f"|{'---|' * 9}",
    ]
    false = [
        "\n| model | thresholds | G (95 %) | F per mm² | in tissue | by kind |",
        f"|{'---|' * 6}",
    ]
    for model, found in facts["models"].items():
        for setting, row in found["settings"].items():
            for name, scores in row["sets"].items():
                rest = ("aji_plus", "pq", "precision", "recall", "area_ratio")
                value, low, high = scores["aji"]
                cells = " | ".join(f"{scores[key][0]:.3f}" for key in rest)
                lines.append(
                    f"| {model} | {setting} | {name} | {value:.3f} ({low:.3f} to {high:.3f}) | "
                    f"{cells} |"
                )
            kinds = ", ".join(f"{kind} {value:.0f}" for kind, value in row["f_by_kind"].items())
            false.append(
                f"| {model} | {setting} | {row['g']:.3f} ({row['g_low']:.3f} to "
                f"{row['g_high']:.3f}) | {row['f']:.0f} | {row['f_tissue']:.0f} | {kinds} |"
            )
    return [*lines, *false]


def strokes() -> list[str]:
    """Return the lines about ink across tissue."""
    path = RESULTS / "strokes.json"
    lines = ["\n## Ink across tissue\n"]
    if not path.exists():
        return [*lines, "not run"]
    facts = json.loads(path.read_text(encoding="utf-8"))
    lines += [
        (
            f"`python benchmarks/generalise/strokes.py` (commit {facts['commit']}): a stroke "
            "across each image, in eight colours, half of them see-through. The folds of the idea "
            f"`{facts['idea']}`, each on the set that it has not seen: recall of true nuclei that "
            "keep 2 µm from the stroke, and what is found on the stroke, nuclei that show through "
            "included.\n"
        ),
        (
            "| set | objects of ink | true nuclei beside | recall without it | with it | points "
            "| found on the stroke, per mm² | there without it |"
        ),
        f"|{'---|' * 8}",
    ]
    changes: dict[str, list[float]] = {}
    for name, ways in facts["sets"].items():
        for way, row in ways.items():
            before, after = (row[key] / row["true"] for key in ("clean", "inked"))
            changes.setdefault(way, []).append(100 * (after - before))
            lines.append(
                f"| {name} | {way} | {row['true']:.0f} | {before:.1%} | {after:.1%} | "
                f"{100 * (after - before):+.2f} | {row['on'] / row['mm2']:.0f} | "
                f"{row['on_clean'] / row['mm2']:.0f} |"
            )
    means = ", ".join(f"{way} {sum(c) / len(c):+.2f}" for way, c in changes.items())
    return [*lines, f"\nMean change over the sets: {means} points."]


def oracles() -> list[str]:
    """Return the lines about where the points lie."""
    files = sorted(RESULTS.glob("oracles-*.json"))
    if not files:
        return ["\n## Where the points lie\n", "not run"]
    lines = [
        "\n## Where the points lie\n",
        "Points of AJI gained if only one kind of error were right.\n",
    ]
    for file in files:
        facts = json.loads(file.read_text(encoding="utf-8"))
        names = list(next(iter(facts["sets"].values())))
        lines += [f"\n{facts['model']}, {facts['thresholds']} (commit {facts['commit']}):\n",
                  f"| set | {' | '.join(names)} |", f"|{'---|' * (1 + len(names))}"]  # fmt: skip
        for name, row in facts["sets"].items():
            lines.append(f"| {name} | {' | '.join(f'{row[key]:.3f}' for key in names)} |")
    return lines


def sensitivity() -> list[str]:
    """Return the lines about low, normal and high sensitivity."""
    path = RESULTS / "curve.json"
    lines = ["\n## Sensitivity\n"]
    if not path.exists():
        return [*lines, "not run"]
    facts = json.loads(path.read_text(encoding="utf-8"))
    lines += [
        (
            f"`python benchmarks/generalise/curve.py` (commit {facts['commit']}): the folds of the "
            f"idea `{facts['idea']}`, each on the set that it has not seen; means of the sets. "
            "Missed: true nuclei that predictions cover by less than half. Spurious: predictions "
            "of which less than a tenth is true.\n"
        ),
        "| foreground | marker | split | AJI | missed | spurious | |",
        f"|{'---|' * 7}",
    ]
    names = {json.dumps(row["thresholds"]): name for name, row in facts["chosen"].items()}
    for row in facts["rows"]:
        t = row["thresholds"]
        name = names.get(json.dumps(t))
        said = f"`--sensitivity {name}`" if name else ""
        lines.append(
            f"| {t['foreground']} | {t['marker']} | {t['split']} | {row['aji']:.3f} | "
            f"{row['missed']:.1%} | {row['spurious']:.1%} | {said} |"
        )
    lines += [
        (
            "\nThe smallest area of a nucleus, at the normal setting, in pixels at 0.25 µm/px: "
            f"{facts['min_area']:g} is the largest that does not lower G.\n"
        ),
        "| smallest area | G (95 %) | PQ | recall | F per mm² | in tissue |",
        f"|{'---|' * 6}",
    ]
    for area, row in facts["areas"].items():
        pq, recall = (
            sum(found[key][0] for found in row["sets"].values()) / len(row["sets"])
            for key in ("pq", "recall")
        )
        lines.append(
            f"| {area} | {row['g']:.4f} ({row['g_low']:.3f} to {row['g_high']:.3f}) | {pq:.3f} | "
            f"{recall:.3f} | {row['f']:.0f} | {row['f_tissue']:.0f} |"
        )
    if "all_seeds" in facts:
        all_ = facts["all_seeds"]
        sets = ", ".join(f"{name} {row['aji'][0]:.3f}" for name, row in all_["sets"].items())
        lines.append(
            f"\nAll {all_['seeds']} seeds at the normal setting (`curve.py --seeds`): G "
            f"{all_['g']:.4f} ({all_['g_low']:.3f} to {all_['g_high']:.3f}), F {all_['f']:.0f} per "
            f"mm², {all_['f_tissue']:.0f} in tissue; AJI {sets}."
        )
    return lines


def blanks() -> list[str]:
    """Return the lines about plain colours and keratin."""
    path = RESULTS / "blanks.json"
    lines = ["\n## Where there is no nucleus\n"]
    if not path.exists():
        return [*lines, "not run"]
    facts = json.loads(path.read_text(encoding="utf-8"))
    lines += [
        (
            "`python benchmarks/generalise/blanks.py`: nuclei in the keratin of a crop of a public "
            "slide that nothing is trained on, and in 512 × 512 pixels of 12 plain colours (glass, "
            "grey, black, ink), each without and with noise.\n"
        ),
        "| model, version | in keratin | in the rest of the crop | colours with nuclei |",
        f"|{'---|' * 4}",
    ]
    for name, row in facts["models"].items():
        coloured = [colour for colour, found in row["plain"].items() if any(found)]
        lines.append(
            f"| {name} | {row['in keratin']} | {row['in the rest']} | "
            f"{', '.join(coloured) or 'none'} |"
        )
    return lines


def page() -> str:
    """Return the page."""
    parts = baselines, sensitivity, blanks, strokes, oracles, ideas
    return "\n".join([HEAD, *(line for part in parts for line in part())]) + "\n"

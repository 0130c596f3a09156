"""Write down a study of pretraining, and the page that shows it.

python docs/programs/pretraining.py runs/NAME [STUDY.json]

keeps study.json and images of a study; STUDY.json is an earlier summary with a task that was left
out. `results.py` writes docs/results/pretraining.md from what was kept.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import cv2

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "docs" / "results" / "pretraining"
IMAGES = ROOT / "docs" / "images"
CLAIM, AT = 0.02, "10"  # AJI that pretraining is said to gain, and at how many % of the labels
FIGURES = """
### {name}

![progress](pretraining/{name}-progress.png)

Each row: a patch of a held-out image, then those of other images that the encoder finds most
alike (cosine of the centred mean features). Left learned, right before the first step.

![neighbours](../images/pretrain-{name}-neighbours.jpg)

Where the deepest features are strong: the image, learned, before the first step.

![attention](../images/pretrain-{name}-attention.jpg)
"""
SHOWN = {"aji": "AJI", "pq": "PQ", "dice": "Dice"}


def keep(study: Path) -> None:
    """Copy what the page needs."""
    from nucleate.pretraining.figures import draw_progress
    from nucleate.pretraining.pretrainer import make_pretext
    from nucleate.pretraining.recipe import PretrainRecipe
    from nucleate.training.run_folder import RunFolder
    from nucleate.trees import load_tree

    KEPT.mkdir(parents=True, exist_ok=True)
    summary = json.loads((study / "study.json").read_text(encoding="utf-8"))
    for name, found in summary["pretexts"].items():
        run = study / "pretexts" / name
        task = make_pretext(load_tree(PretrainRecipe, run / "recipe.yaml"))
        found["metrics"]["chance"] = task.chance  # as the task has it now
        found["commit"] = json.loads((run / "environment.json").read_text())["commit"]
        draw_progress(RunFolder(run), task)
        shutil.copy(run / "progress.png", KEPT / f"{name}-progress.png")
        for kind in ("neighbours", "attention"):  # tissue of CC BY-NC-SA data, see LICENSE.md there
            image = cv2.imread(str(run / f"{kind}.png"))
            jpeg = IMAGES / f"pretrain-{name}-{kind}.jpg"
            cv2.imwrite(str(jpeg), image, [cv2.IMWRITE_JPEG_QUALITY, 88])
    write(summary, KEPT / "study.json")
    shutil.copy(study / "label-efficiency.png", KEPT)


def write(summary: dict, path: Path) -> None:
    """Write a summary; where the data lay is nobody's business."""
    summary["command"] = re.sub(r"root=\S+", "root=data", summary["command"])
    path.write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def page() -> str:
    """Return docs/results/pretraining.md."""
    file = KEPT / "study.json"
    if not file.exists():
        return "# Does pretraining help?\n\nnot run\n"
    found = json.loads(file.read_text(encoding="utf-8"))
    seeds = ", ".join(map(str, found["seeds"]))
    about = f"""# Does pretraining help?

Written by `docs/programs/results.py` from `pretraining/study.json`.

    {found["command"]}

(commit {found["commit"]}, {found["date"]}): the network of the recipe {found["finetune"]},
{found["steps"]} steps of {found["batch"]} crops of {found["crop_px"]}² from each start, seeds
{seeds}. Thresholds are fixed beforehand, the last step counts, nothing is chosen on what is scored.
A seed has its own weights, crops and labelled images; all starts share them. What is tested on is
in no pretext set.
"""
    how = """![AJI over the share of the labels](pretraining/label-efficiency.png)

Mean over images and seeds ± standard deviation over seeds. Gain: over the first start, image by
image, 95 % interval over seeds and patients (both are drawn; with three seeds it is still rather
too narrow).
"""
    parts = [about, verdict(found), how]
    for title, test in found["tests"].items():
        parts.append(f"\n## {title}, {test['images']} images\n")
        if not any(test["labelled"].values()):
            parts.append("not run\n")
            continue
        heads = " | ".join(SHOWN.values())
        parts.append(f"| labelled | start | {heads} | gain in AJI |")
        parts.append("|---|---|" + "---|" * len(SHOWN) + "---|")
        for share, rows in test["labelled"].items():
            if not rows:
                parts.append(f"| {share} % | not run |{' |' * (len(SHOWN) + 1)}")
            for start, row in rows.items():
                cells = " | ".join(f"{row[m]['mean']:.3f} ± {row[m]['sd'] or 0:.3f}" for m in SHOWN)
                parts.append(f"| {share} % | {start} | {cells} | {gain(row)} |")
        parts.append("")
    parts += [pretexts(found), left_out()]
    return "\n".join(parts) + "\n"


def left_out() -> str:
    """Return the section about a task that did not help."""
    file = KEPT / "left-out.json"
    if not file.exists():
        return ""
    found = json.loads(file.read_text(encoding="utf-8"))
    about = f"""
## A fourth task, left out

Masked images: squares are painted over, and the whole network, skips and decoder too, paints
them in; all its weights but the last layer are handed on. It would have stayed if it had beaten the
other three on images that are not the official test. It did not, so the package does not have it;
commit {found["commit"]} does. Its multi-scale task still resampled bilinearly, which leaves a
trace of the zoom in the pixels; that of the tables above uses Lanczos kernels.
"""
    parts = [about, "| test | labelled | start | AJI | gain in AJI |", "|---|---|---|---|---|"]
    for title, test in found["tests"].items():
        for share, rows in test["labelled"].items():
            for start, row in rows.items():
                aji = f"{row['aji']['mean']:.3f} ± {row['aji']['sd']:.3f}"
                parts.append(f"| {title} | {share} % | {start} | {aji} | {gain(row)} |")
    return "\n".join(parts)


def gain(row: dict) -> str:
    """Return a cell."""
    g = row.get("gain")
    if g is None:
        return "–"
    return f"{g['difference']:+.3f} ({g['low']:+.3f} to {g['high']:+.3f})"


def verdict(found: dict) -> str:
    """Say whether the claim is true, per test and start."""
    claim = (
        f"**The claim**: with {AT} % of the labels, pretraining gains at least {CLAIM * 100:g} "
        "points of AJI, and the interval excludes zero.\n"
    )
    tests = found["tests"]
    lines = [claim, "| start | " + " | ".join(tests) + " |", "|---|" + "---|" * len(tests)]
    for start in found["starts"][1:]:
        cells = []
        for test in found["tests"].values():
            row = test["labelled"].get(AT, {}).get(start)
            if row is None or "gain" not in row:
                cells.append("not run")
                continue
            g = row["gain"]
            holds = g["difference"] >= CLAIM and g["low"] > 0
            mean, low, high = (f"{100 * g[k]:+.1f}" for k in ("difference", "low", "high"))
            cells.append(f"{mean} ({low} to {high}): {'confirmed' if holds else 'not confirmed'}")
        why = found["skipped"].get(start)
        lines.append(f"| {start}{f' ({why})' if why else ''} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def pretexts(found: dict) -> str:
    """Return the section about the tasks themselves."""
    about = """
## How well the tasks are solved

On patients that were not learned from, with the recipes of `recipes/pretrain/`:
"""
    head = "| recipe | steps | minutes | held-out images | chance |\n|---|---|---|---|---|"
    parts = [about, head]
    for name, run in found["pretexts"].items():
        if not run:
            parts.append(f"| {name} | not run | | | |")
            continue
        m = run["metrics"]
        reached = ", ".join(
            f"{k.replace('_', ' ')} {m['validation'][f'val_{k}']:.3f}" for k in m["chance"]
        )
        chance = ", ".join(f"{v:.3f}" for v in m["chance"].values())
        parts.append(f"| {name} | {m['steps']} | {run['minutes']} | {reached} | {chance} |")
    for name, run in found["pretexts"].items():
        if run:
            parts.append(FIGURES.format(name=name))
    return "\n".join(parts)


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
    for other in sys.argv[2:]:
        write(json.loads(Path(other).read_text(encoding="utf-8")), KEPT / "left-out.json")

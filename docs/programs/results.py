"""Write the pages of docs/results and the README's table from the results files.

No number is written by hand.

python docs/programs/results.py           write
python docs/programs/results.py --check   fail if what is written is not what would be written
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import compiled_loops
import engines
import experiments
import families
import fusion
import generalise
import model_search
import peers
import plausibility
import pretraining
import resampling
import seeds
import slides
import whole_commands

import gpu
from nucleate.models.card import bundled_models

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
BEGIN, END = "<!-- results: written by docs/programs/results.py -->", "<!-- end of results -->"
PLAUSIBILITY = (
    "<!-- plausibility: written by docs/programs/results.py -->",
    "<!-- end of plausibility -->",
)
PEERS = "<!-- peers: written by docs/programs/results.py -->", "<!-- end of peers -->"
INTRODUCTION = """# Results

Written by `docs/programs/results.py` from the `metrics.json` files beside it. Mean over images;
in parentheses the 95 % percentile bootstrap interval over images (10,000 resamples). One training
run each: the interval states nothing about [other seeds](#other-seeds-and-data-from-elsewhere).

`mtl-small` is the default model, `mtl-open` the one for commercial use. `laptop` is what
`recipes/laptop.yaml` trains from scratch. `mtl-base` is what `recipes/mtl-base.yaml` trains; it was
bundled until it was measured to be not better on data sets left out of training
([why](../decisions/index.md#40-the-larger-model-is-not-bundled)). It was called `mtl-small` until
commit f275106: tables and rows of earlier commits still say so.
"""


def load() -> dict[str, dict]:
    """Return name -> metrics.json of every result: bundled ones first, official test first."""
    files = sorted(RESULTS.glob("*/metrics.json"))
    found = {f.parent.name: json.loads(f.read_text(encoding="utf-8")) for f in files}

    def place(name: str) -> tuple[bool, bool, str]:
        bundled = found[name]["about"]["model"] in bundled_models()
        return not bundled, not name.endswith("monuseg-test"), name

    return {name: found[name] for name in sorted(found, key=place)}


def overview(results: dict[str, dict]) -> str:
    """Return one row per result."""
    lines = [
        "| model | data | images | AJI | PQ | Dice | counting error |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in results.values():
        about, mean = r["about"], r["mean"]
        cells = [experiments.interval(mean[k]) for k in ("aji", "pq", "dice", "count_error")]
        data = about["data"]["root"].removesuffix(".zip")
        lines.append(f"| {about['model']} | {data} | {r['images']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def offered(results: dict[str, dict]) -> dict[str, dict]:
    """Return the results of bundled models and of the recipe that the README trains."""
    names = {*bundled_models(), "laptop"}
    return {name: r for name, r in results.items() if r["about"]["model"] in names}


def page(results: dict[str, dict]) -> str:
    """Return the results page."""
    parts = [
        INTRODUCTION,
        overview(results),
        "\nBeside other programs, on the 14 test images:\n",
        peers.overview().replace("docs/results/index.md#", "#"),
    ]
    for name, r in results.items():
        about = r["about"]
        parts.append(f"\n## {about['model']} on {about['data']['root'].removesuffix('.zip')}\n")
        parts.append(
            f"Repeat with `{about['command']}` (commit {about.get('commit')}, "
            f"{about.get('date')}, {about['engine']}, thresholds {about['thresholds']}). "
            f"Per image: [per_image.csv]({name}/per_image.csv).\n"
        )
        parts.append("| metric | mean | 95 % interval | pooled | images |\n|---|---|---|---|---|")
        for key, label in experiments.NAMES.items():
            m, pooled = r["mean"].get(key), r["pooled"].get(key)
            if m is None:  # a result from before this metric
                continue
            parts.append(
                f"| {label} | {m['mean']:.4f} | {m['low']:.4f} to {m['high']:.4f} | "
                f"{'–' if pooled is None else f'{pooled:.4f}'} | {m['n']} |"
            )
        parts.append("\n| organ | images | AJI | PQ | Dice |\n|---|---|---|---|---|")
        for organ, m in r["per_organ"].items():
            parts.append(
                f"| {organ} | {m['images']} | {m['aji']:.3f} | {m['pq']:.3f} | {m['dice']:.3f} |"
            )
    sections = (human_agreement, stain_ablation, stain_speed, shards_speed)
    parts += [section() for section in sections]
    parts += [training(run.parent) for run in sorted(RESULTS.glob("*/run.json"))]
    images = sorted((ROOT / "docs" / "images").glob("test-*.jpg"))
    parts.append(
        "\n## What it looks like\n\nFour official test images, made by `python "
        "docs/programs/images.py MoNuSegTestData.zip`: of each the 450 × 450 pixels with most "
        "true nuclei. True outlines are yellow where a prediction matches them (IoU above 0.5) "
        "and red where none does; blue are predictions that match nothing. The images are "
        "MoNuSeg's, CC BY-NC-SA 4.0.\n"
    )
    parts += [f"![{image.stem}](../images/{image.name})\n" for image in images]
    parts += [
        seeds.page(),
        peers.page(),
        whole_commands.page(),
        gpu.page(),
        engines.page(),
        streams(),
        families.page(),
        fusion.page(),
        slides.page(),
        viewer(),
    ]
    if (RESULTS / "stages.json").exists():
        parts.append(stages())
    parts.append(compiled_loops.section())
    parts.append(resampling.section())
    ledger = RESULTS / "test-uses.csv"
    if ledger.exists():
        parts.append("\n## Every use of the 14 official test images\n")
        rows = list(csv.reader(ledger.read_text(encoding="utf-8").splitlines()))
        parts.append(f"| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
        for row in rows[1:]:
            cells = [cell[:12] if len(cell) == 64 else cell for cell in row]
            cells[-1] = f"`{cells[-1]}`"
            parts.append(f"| {' | '.join(cells)} |")
    return "\n".join(parts) + "\n"


def _cpu(found: dict) -> str:
    """Return what something was timed on."""
    return found.get("machine", "a CPU that was not recorded")


def read(name: str) -> dict | None:
    """Return a results file, None where it was not made yet."""
    path = RESULTS / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def human_agreement() -> str:
    """Return the section about how well people agree."""
    found = read("human-agreement/agreement.json")
    if found is None:
        return "\n## How well people agree\n\nnot run\n"
    rows = [
        f"| {pair} | {experiments.interval(m['aji'])} | {experiments.interval(m['pq'])} | "
        f"{experiments.interval(m['dice'])} |"
        for pair, m in found["pairs"].items()
    ]
    return (
        f"\n## How well people agree\n\n`{found['command']}`: CryoNuSeg's 30 images, annotated "
        "by two people, by one of them twice. No model should be asked for more.\n\n"
        "| CryoNuSeg | AJI | PQ | Dice |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def stain_ablation() -> str:
    """Return the section about stain normalisation and augmentation."""
    found = read("stain-ablation/ablation.json")
    if found is None:
        return "\n## Does stain normalisation help on other organs?\n\nnot run\n"
    tests = list(next(iter(found["variants"].values())))
    about = (
        "\n## Does stain normalisation help on other organs?\n\n"
        f"`{found['command']}`: the network of the recipe laptop at a quarter of the resolution, "
        f"{found['steps']} steps of {found['batch']} crops of {found['crop_px']}², "
        f"{len(found['seeds'])} seeds, trained on MoNuSeg's training images of "
        f"{', '.join(found['trained_on'])}. Thresholds are fixed beforehand, the last step counts. "
        "Colours are otherwise augmented alike in all (brightness, contrast, blur, noise, JPEG). "
        "AJI: mean over images and seeds, ± standard deviation over seeds. Gain: over `none`, "
        "95 % bootstrap interval over images, seeds averaged first. Commit "
        f"{found['commit']}; per image: [per_image.csv](stain-ablation/per_image.csv).\n"
    )
    text = [about]
    for test in tests:
        first = next(iter(found["variants"].values()))[test]["aji_gain"]["images"]
        text.append(f"\n{test}, {first} images:\n")
        text.append("| stain | AJI | PQ | Dice | gain in AJI |\n|---|---|---|---|---|")
        for variant, row in found["variants"].items():
            m, gain = row[test], row[test]["aji_gain"]
            cells = [f"{m[k]['mean']:.3f} ± {m[k]['sd_over_seeds']:.3f}" for k in ("aji", "pq")]
            printed = f"{gain['mean']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})"
            printed = "–" if variant == "none" else printed
            text.append(
                f"| {variant} | {' | '.join(cells)} | {m['dice']['mean']:.3f} | {printed} |"
            )
    return "\n".join(text) + "\n"


def stain_speed() -> str:
    """Return the section about the speed of the normalisers."""
    found = read("stain-speed.json")
    if found is None:
        return "\n## Speed of the stain normalisers\n\nnot run\n"
    rows = []
    for method, m in found["methods"].items():
        theirs = f"{m['torchstain_ms']:.0f}" if "torchstain_ms" in m else "–"
        ratio = f"{m['times_as_fast']:.1f}" if "times_as_fast" in m else "–"
        alike = f"{m['mean_difference_levels']:.2f}" if "mean_difference_levels" in m else "–"
        own = f"{m['whole_ms']:.0f} | {m['apply_ms']:.1f}"
        rows.append(f"| {method} | {own} | {theirs} | {ratio} | {alike} |")
    return (
        f"\n## Speed of the stain normalisers\n\n`{found['command']}` "
        f"on {_cpu(found)}, one thread, a tile of "
        f"{found['tile'][1]} × {found['tile'][0]} pixels. The estimate is made once per image or "
        "slide, the change per tile. Read the ratio: the machine is shared. The difference is to "
        "torchstain (numpy), with `as_published`, in grey levels, mean over pixels.\n\n"
        "| method | estimate + change, ms | change alone, ms | torchstain, ms | times as fast | "
        "difference |\n|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def shards_speed() -> str:
    """Return the section about reading prepared images back."""
    found = read("shards-speed.json")
    if found is None:
        return "\n## Reading prepared images back\n\nnot run\n"
    rows = [
        f"| {name} | {m['numpy_ms']:.0f} | {m['nucleate_ms']:.0f} | {m['ratio']:.2f} |"
        for name, m in found["rows"].items()
    ]
    return (
        f"\n## Reading prepared images back\n\n`{found['command']}` "
        f"on {_cpu(found)}: {found['images']} "
        f"images of {found['edge']}² with labels; nucleate's reader also turns z-scores back "
        "into bytes.\n\n| stored as | numpy.load, ms | nucleate, ms | ratio |\n|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def streams() -> str:
    """Return the section about ways to call the network."""
    found = read("streams.json")
    if found is None:
        return "\n## Tiles, batches, streams\n\nnot run\n"
    base = min(found["ms_per_megapixel"].values())
    rows = [
        f"| {way} | {took:.0f} | {took / base:.2f} |"
        for way, took in found["ms_per_megapixel"].items()
    ]
    return (
        f"\n## Tiles, batches, streams\n\n`{found['command']}` "
        f"on {_cpu(found)} (commit {found['commit']}): "
        f"{found['file']} of {found['model']}, {found['cores']} cores.\n\n"
        "| way | ms per megapixel | of the best |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def viewer() -> str:
    """Return the section about the page in the browser."""
    found = read("viewer.json")
    if found is None:
        return "\n## The page of nucleate view\n\nnot run\n"
    rows = [
        f"| {m['kind']} | {m['frames_per_second']:.0f} | {m['slowest_tenth_ms']:.0f} |"
        for m in found["dragged"].values()
    ]
    return (
        f"\n## The page of nucleate view\n\n`{found['command']}` "
        f"on {_cpu(found)} (commit {found['commit']}): "
        f"{found['nuclei']:,} nuclei, Chromium with software rendering. The table is opened in "
        f"{found['seconds_to_open_the_table']} s, the command's start included; nuclei are there "
        f"{found['seconds_from_load_to_first_paint']} s after the page has loaded; the server has "
        f"needed {found['server_peak_mb']} MB at most.\n\n"
        "| dragged over | frames per second | a tenth takes longer than, ms |\n|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def stages() -> str:
    """Return the section about where the time of one tile goes."""
    s = json.loads((RESULTS / "stages.json").read_text(encoding="utf-8"))
    rows = [
        f"| {name} | {1000 * seconds:.1f} | {s['share_of_f32_tile'][name]:.3f} |"
        for name, seconds in s["seconds"].items()
    ]
    return (
        f"\n## Where the time of one tile goes\n\n`{s['command']}` on a tile of "
        f"{s['tile'][1]} × {s['tile'][0]} pixels with {s['nuclei']} nuclei ({s['machine']}). "
        "Read the ratios: the machine is shared. The compiled flood is "
        f"{s['flood_speedup']} times as fast as scikit-image's.\n\n"
        "| stage | ms | share of network (f32) + decode + trace + measure |\n|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def training(folder: Path) -> str:
    """Return the section about how a model was trained."""
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    name = folder.name
    return (
        f"\n## How {run['name']} was trained\n\n"
        f"`nucleate train recipes/{run['name']}.yaml`: {run['steps']} steps of {run['batch']} "
        f"crops, {run['minutes']:.0f} minutes on {run['threads']} CPU thread"
        f"{'s' if run['threads'] != 1 else ''} ({run['precision']}), "
        f"{run['parameters'] / 1e6:.2f} M parameters, {run['trained_on']} images with "
        f"{run['nuclei_trained_on']:,} nuclei. {run['validation_images']} images of other "
        f"patients were held out; on them the checkpoint of step {run['best_step']} and the "
        f"thresholds {run['thresholds']} were chosen: AJI {run['validation_aji']:.3f}, "
        f"PQ {run['validation_pq']:.3f}.\n\n![curves]({name}/curves.png)\n"
    )


def folded(text: str, most_lines: int = 5) -> str:
    """Return a page whose long sections are details that a reader opens; headings stay.

    Args:
        text: of the page, in Markdown.
        most_lines: of a section that stays open.
    """
    head, *sections = text.split("\n## ")
    for i, section in enumerate(sections):
        title, _, body = section.partition("\n")
        if body.count("\n") > most_lines:
            begin = '<details markdown="1"><summary>Details</summary>'
            body = f"\n{begin}\n\n{body.strip()}\n\n</details>\n"
        sections[i] = f"{title}\n{body}"
    return "\n## ".join([head, *sections])


def with_tables(path: Path, tables: dict[tuple[str, str], str]) -> str:
    """Return a page whose tables, each between two markers, are replaced."""
    text = path.read_text(encoding="utf-8")
    for (begin, end), new in tables.items():
        head, rest = text.split(begin)
        text = f"{head}{begin}\n{new}\n{end}{rest.split(end)[1]}"
    return text


def main() -> None:
    """Write or check."""
    results = load()
    table = overview(offered(results))
    readme, trust = ROOT / "README.md", ROOT / "docs" / "how-to" / "trust.md"
    own_data = ROOT / "docs" / "how-to" / "own-data.md"
    libraries = ROOT / "docs" / "decisions" / "libraries.md"
    wanted = {
        RESULTS / "index.md": folded(page(results)),
        RESULTS / "experiments.md": folded(experiments.page()),
        RESULTS / "pretraining.md": folded(pretraining.page()),
        RESULTS / "generalise.md": folded(generalise.page()),
        ROOT / "docs" / "decisions" / "model-search.md": model_search.page(),
        readme: with_tables(readme, {(BEGIN, END): table, PEERS: peers.overview()}),
        trust: with_tables(trust, {(BEGIN, END): table}),
        libraries: with_tables(libraries, {compiled_loops.MARKS: compiled_loops.sentences()}),
        own_data: with_tables(own_data, {PLAUSIBILITY: plausibility.sentences()}),
    }
    for path, text in wanted.items():
        if "--check" in sys.argv:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                sys.exit(f"{path.relative_to(ROOT)} is stale: run python docs/programs/results.py")
        else:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

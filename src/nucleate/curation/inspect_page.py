"""Inspection → one self-contained HTML page, and the same figures as JSON."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nucleate.curation.inspect import METRICS, Inspection
from nucleate.datasets.base import DatasetCard
from nucleate.files import write_text
from nucleate.geometry.draw import BLUE, GREEN, VERMILION, web_colour
from nucleate.pages import INK, SOFT, figure, heading, page, plot, plots, quiet, table, text

_SHEET = 24  # images on the contact sheet
_CHANNELS = tuple(web_colour(rgb) for rgb in (VERMILION, GREEN, BLUE))  # red, green, blue


def write_report(found: Inspection, card: DatasetCard, name: str, out: Path) -> None:
    """Write `index.html`, which is self-contained, and `report.json`.

    Raises:
        OutputError: a file cannot be written.
    """
    content = asdict(found)
    del content["thumbs"]
    about = {"data_set": name, "title": card.title, "metrics": METRICS}
    write_text(out / "report.json", json.dumps(about | content, indent=1, ensure_ascii=False))
    write_text(out / "index.html", inspection_page(found, card))


def inspection_page(found: Inspection, card: DatasetCard) -> str:
    """Return the HTML page of an inspection."""
    blocks = [
        f"<h1>{text(card.title)}</h1>",
        f"<p>{text(card.contents)}</p>",
        f'<p class="quiet">Licence: {text(card.licence)} · {text(card.citation)}</p>',
        _facts(found),
        _conflicts(found),
        heading("Samples"),
        quiet(
            "Outlines as annotated, in yellow; hatched areas are ignored. Images are sampled "
            "across organs; the strongest outliers follow."
        ),
        _sheet(found),
        heading("Nuclei"),
        plots(_nuclei_plots(found)),
        heading("Colours"),
        quiet(
            "Tissue only, without glass, pen and black. Stains by the fixed vectors of "
            "Ruifrok and Johnston."
        ),
        plots(_colour_plots(found)),
        *_organs(found),
        heading("Bias between parts"),
        _bias(found),
        heading("Outliers"),
        _outliers(found),
        heading("All images"),
        _rows(found),
    ]
    return page(f"{card.title}: inspection", blocks)


def _facts(found: Inspection) -> str:
    groups = len({row["group"] for row in found.rows})
    facts = [
        (found.images, "images"),
        (found.nuclei, "nuclei"),
        (groups, "patients or slides"),
        (len({row["organ"] for row in found.rows if row["organ"]}), "organs"),
        (len({row["centre"] for row in found.rows if row["centre"]}), "centres stated"),
        (len(found.classes), "nucleus classes"),
    ]
    items = "".join(f"<li><b>{n:,}</b>{text(what)}</li>" for n, what in facts if n)
    return f'<ul class="facts">{items}</ul>'


def _conflicts(found: Inspection) -> str:
    sizes = ", ".join(f"{size} ({n})" for size, n in found.sizes.items())
    said = "".join(f'<li class="note">{text(c)}</li>' for c in found.conflicts)
    return f"<p>Sizes: {text(sizes)}.</p><ul>{said or '<li>No conflicts found.</li>'}</ul>"


def _sheet(found: Inspection) -> str:
    """Return thumbnails, alternating between organs, then the strongest outliers."""
    by_organ: dict[str, list[str]] = defaultdict(list)
    for row in found.rows:
        by_organ[row["organ"] or ""].append(row["name"])
    turns = [
        names[turn]
        for turn in range(max(map(len, by_organ.values()), default=0))
        for names in by_organ.values()
        if turn < len(names)
    ]
    odd = list(dict.fromkeys(o["name"] for o in found.outliers))[: _SHEET // 4]
    chosen = [name for name in turns if name not in odd][: _SHEET - len(odd)] + odd
    facts = {row["name"]: row for row in found.rows}
    figures = []
    for name in chosen:
        row = facts[name]
        said = [row["organ"] or "", f"{row['nuclei']} nuclei" if row["nuclei"] is not None else ""]
        why = [
            f"{_plain(o['metric'])} {_number(o['value'])} (z {o['z']:+.1f})"
            for o in found.outliers
            if o["name"] == name
        ]
        note = f'<br><span class="note">outlier: {text(", ".join(why[:3]))}</span>' if why else ""
        caption = f"{text(name)}<br>{text(' · '.join(s for s in said if s))}{note}"
        figures.append(figure(found.thumbs[name], f"{name} with outlines", caption))
    return f'<div class="sheet">{"".join(figures)}</div>'


def _nuclei_plots(found: Inspection) -> list[str]:
    tags = []
    counts = [row["nuclei"] for row in found.rows if row["nuclei"] is not None]
    if counts:
        tags.append(
            plot("Nuclei per image", "nuclei", "images", lambda ax: ax.hist(
                counts, bins=min(30, max(5, len(counts) // 2)), color=INK))
        )  # fmt: skip
    for metric, title in (
        ("nuclei_per_mm2", "Nuclei per mm²"),
        ("touching", "Nuclei that touch another"),
    ):
        tags += _by_organ(found, metric, title)
    for key, title, unit in (
        ("area_um2", "Area of nuclei", "µm²"),
        ("eccentricity", "Eccentricity of nuclei", "0 circle, 1 line"),
    ):
        if found.distributions[key]["counts"]:
            tags.append(plot(title, unit, "nuclei", _bars(found.distributions[key])))
    if found.classes:
        names, values = list(found.classes)[::-1], list(found.classes.values())[::-1]
        bars = plot("Classes", "nuclei", "", lambda ax: ax.barh(names, values, color=INK))
        tags.append(bars)
    return tags


def _colour_plots(found: Inspection) -> list[str]:
    total = np.sum([np.array(h) for h in found.histograms.values()], axis=0)

    def levels(ax: Any) -> None:  # noqa: ANN401
        for channel, colour in enumerate(_CHANNELS):
            share = total[channel] / max(1, total[channel].sum())
            ax.plot(share, color=colour, label=("red", "green", "blue")[channel])
        ax.legend(frameon=False)

    def stains(ax: Any) -> None:  # noqa: ANN401
        groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in found.rows:
            if row["haematoxylin"] is not None:
                groups[row["organ"] or "not stated"].append(row)
        for i, (organ, rows) in enumerate(sorted(groups.items())):
            ax.scatter(
                [r["haematoxylin"] for r in rows], [r["eosin"] for r in rows], s=22,
                marker="osD^v<>pP*X"[i % 11], label=organ, alpha=0.8,
            )  # fmt: skip
        if 1 < len(groups) <= 12:
            ax.legend(frameon=False, fontsize=7, ncols=2)

    return [
        plot("Intensities on tissue", "level", "share", levels),
        plot("Mean stain of each image", "haematoxylin (OD)", "eosin (OD)", stains),
        *_by_organ(found, "haematoxylin", "Haematoxylin by organ", least=2),
        *_by_organ(found, "eosin", "Eosin by organ", least=2),
        *_by_organ(found, "haematoxylin", "Haematoxylin by centre", "centre", least=2),
    ]


def _by_organ(
    found: Inspection, metric: str, title: str, key: str = "organ", least: int = 1
) -> list[str]:
    """Plot a metric by organ; return nothing if there are too few groups."""
    groups: dict[str, list[float]] = defaultdict(list)
    for row in found.rows:
        if row[metric] is not None:
            groups[row[key] or "not stated"].append(row[metric])
    if len(groups) < least:
        return []
    names = sorted(groups, key=lambda name: float(np.median(groups[name])))

    def draw(ax: Any) -> None:  # noqa: ANN401
        ax.boxplot(
            [groups[n] for n in names], orientation="horizontal", tick_labels=names, widths=0.6,
            patch_artist=True, boxprops={"facecolor": SOFT}, medianprops={"color": INK},
            flierprops={"marker": ""},
        )  # fmt: skip
        for i, name in enumerate(names):
            ax.plot(groups[name], np.full(len(groups[name]), i + 1), ".", color=INK, alpha=0.5)

    return [plot(title, METRICS[metric], "", draw, max(3.0, 1.2 + 0.28 * len(names)))]


def _bars(distribution: dict[str, list[float]]) -> Callable[[Any], Any]:
    edges = np.array(distribution["edges"])
    return lambda ax: ax.bar(
        edges[:-1], distribution["counts"], np.diff(edges), align="edge", color=INK
    )


def _organs(found: Inspection) -> list[str]:
    """Return the table of organs, or nothing if the data set names none."""
    if not any(row["organ"] for row in found.rows):
        return []
    head = ["organ", "images", *map(_plain, METRICS)]
    body = [
        [organ, row["images"], *(_number(row[metric]) for metric in METRICS)]
        for organ, row in found.organs.items()
    ]
    return [heading("By organ"), quiet("Means over images.") + table(head, body)]


def _bias(found: Inspection) -> str:
    tests = [test for test in found.bias if "epsilon2" in test]
    said = quiet(
        "Kruskal-Wallis tests between organs, centres, or parts of a split; ε² is the effect size "
        "(0 none, 1 complete), p is corrected by Holm over all metrics. Give --split to compare "
        "the parts of a split."
    )
    if not tests:
        return said + "<p>There are no two groups of two images to compare.</p>"
    body = [
        [f"{_plain(t['metric'])} between {t['grouping']}s", t["groups"], t["images"],
         f"{t['epsilon2']:.2f}", f"{t['p_holm']:.2g}"]
        for t in sorted(tests, key=lambda t: (t["grouping"], -t["epsilon2"]))
    ]  # fmt: skip
    balance = "".join(
        f"<p>Classes between {text(t['grouping'])}s: Cramér's V = {t['cramers_v']:.2f}.</p>"
        for t in found.bias
        if "cramers_v" in t
    )
    return said + balance + table(["metric", "groups", "images", "ε²", "p (Holm)"], body)


def _outliers(found: Inspection) -> str:
    if not found.outliers:
        return "<p>No outliers.</p>"
    body = [
        [
            o["name"],
            _plain(o["metric"]),
            _number(o["value"]),
            METRICS[o["metric"]],
            f"{o['z']:+.1f}",
        ]
        for o in found.outliers[:60]
    ]
    return quiet("Robust z-score above 3.5. Look at these images before training.") + table(
        ["image", "metric", "value", "unit", "z"], body
    )


def _rows(found: Inspection) -> str:
    shown = found.rows[:500]
    head = ["image", "group", "organ", "part", "size", "mpp", *map(_plain, METRICS)]
    body = [
        [r["name"], r["group"], r["organ"], r["part"], f"{r['width']} × {r['height']}", r["mpp"],
         *(_number(r[m]) for m in METRICS)]
        for r in shown
    ]  # fmt: skip
    more = "" if len(shown) == len(found.rows) else "<p>The first 500; all are in report.json.</p>"
    return more + table(head, body)


def _plain(metric: str) -> str:
    """Format the name of a metric for display."""
    return metric.replace("_mm2", " mm²").replace("_um2", " µm²").replace("_", " ")


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

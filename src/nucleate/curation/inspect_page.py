"""The figures of an inspection → one self-contained HTML page, and the same figures as JSON."""

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
from nucleate.geometry.palette import BLUE, GREEN, VERMILION, web_colour
from nucleate.pages import INK, SOFT, Plot, page

_Table = tuple[list[str], list[list[Any]]]  # head and body
_SHEET, _ROWS = 24, 500  # images on the contact sheet, and in the table
_CHANNELS = tuple(web_colour(rgb) for rgb in (VERMILION, GREEN, BLUE))  # red, green, blue


def write_report(found: Inspection, card: DatasetCard, name: str, out: Path) -> None:
    """Write `index.html`, which needs no other file, and `report.json`.

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
    return page(
        "inspection.html",
        found=found,
        card=card,
        numbers=_numbers(found),
        sheet=_sheet(found),
        nuclei=_nuclei_plots(found),
        colours=_colour_plots(found),
        organs=_organs(found),
        bias=_bias(found),
        outliers=_outliers(found),
        rows=_rows(found),
    )


def _numbers(found: Inspection) -> list[tuple[int, str]]:
    """Return the numbers at the top; 0 is not shown."""
    rows = found.rows
    return [
        (found.images, "images"),
        (found.nuclei, "nuclei"),
        (len({row["group"] for row in rows}), "patients or slides"),
        (len({row["organ"] for row in rows if row["organ"]}), "organs"),
        (len({row["centre"] for row in rows if row["centre"]}), "centres stated"),
        (len(found.classes), "nucleus classes"),
    ]


def _sheet(found: Inspection) -> list[tuple[str, str, str]]:
    """Return images to show: name, organ and nuclei, and by what it is an outlier.

    One organ comes after the other in turn, then the strongest outliers.
    """
    by_organ: dict[str, list[str]] = defaultdict(list)
    for row in found.rows:
        by_organ[row["organ"] or ""].append(row["name"])
    turns = [
        names[turn]
        for turn in range(max(map(len, by_organ.values()), default=0))
        for names in by_organ.values()
        if turn < len(names)
    ]
    why: dict[str, list[str]] = defaultdict(list)
    for o in found.outliers:
        why[o["name"]].append(f"{_plain(o['metric'])} {_number(o['value'])} (z {o['z']:+.1f})")
    odd = list(why)[: _SHEET // 4]
    chosen = [name for name in turns if name not in odd][: _SHEET - len(odd)] + odd
    facts = {row["name"]: row for row in found.rows}
    shown = []
    for name in chosen:
        row = facts[name]
        said = [row["organ"] or "", f"{row['nuclei']} nuclei" if row["nuclei"] is not None else ""]
        shown.append((name, " · ".join(s for s in said if s), ", ".join(why[name][:3])))
    return shown


def _nuclei_plots(found: Inspection) -> list[Plot]:
    plots = []
    counts = [row["nuclei"] for row in found.rows if row["nuclei"] is not None]
    if counts:
        plots.append(
            Plot("Nuclei per image", "nuclei", "images", lambda ax: ax.hist(
                counts, bins=min(30, max(5, len(counts) // 2)), color=INK))
        )  # fmt: skip
    for metric, title in (
        ("nuclei_per_mm2", "Nuclei per mm²"),
        ("touching", "Nuclei that touch another"),
    ):
        plots += _by_organ(found, metric, title)
    for key, title, unit in (
        ("area_um2", "Area of nuclei", "µm²"),
        ("eccentricity", "Eccentricity of nuclei", "0 circle, 1 line"),
    ):
        if found.distributions[key]["counts"]:
            plots.append(Plot(title, unit, "nuclei", _bars(found.distributions[key])))
    if found.classes:
        names, values = list(found.classes)[::-1], list(found.classes.values())[::-1]
        plots.append(Plot("Classes", "nuclei", "", lambda ax: ax.barh(names, values, color=INK)))
    return plots


def _colour_plots(found: Inspection) -> list[Plot]:
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
        Plot("Intensities on tissue", "level", "share", levels),
        Plot("Mean stain of each image", "haematoxylin (OD)", "eosin (OD)", stains),
        *_by_organ(found, "haematoxylin", "Haematoxylin by organ", least=2),
        *_by_organ(found, "eosin", "Eosin by organ", least=2),
        *_by_organ(found, "haematoxylin", "Haematoxylin by centre", "centre", least=2),
    ]


def _by_organ(
    found: Inspection, metric: str, title: str, key: str = "organ", least: int = 1
) -> list[Plot]:
    """Return a plot of a metric's values per organ, or nothing where there are too few groups."""
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

    return [Plot(title, METRICS[metric], "", draw, max(3.0, 1.2 + 0.28 * len(names)))]


def _bars(distribution: dict[str, list[float]]) -> Callable[[Any], Any]:
    edges = np.array(distribution["edges"])
    return lambda ax: ax.bar(
        edges[:-1], distribution["counts"], np.diff(edges), align="edge", color=INK
    )


def _organs(found: Inspection) -> _Table | None:
    """Return the means per organ, or None where the data set names none."""
    if not any(row["organ"] for row in found.rows):
        return None
    head = ["organ", "images", *map(_plain, METRICS)]
    body = [
        [organ, row["images"], *(_number(row[metric]) for metric in METRICS)]
        for organ, row in found.organs.items()
    ]
    return head, body


def _bias(found: Inspection) -> _Table | None:
    """Return the tests between groups, or None where there are none."""
    tests = [test for test in found.bias if "epsilon2" in test]
    if not tests:
        return None
    body = [
        [f"{_plain(t['metric'])} between {t['grouping']}s", t["groups"], t["images"],
         f"{t['epsilon2']:.2f}", f"{t['p_holm']:.2g}"]
        for t in sorted(tests, key=lambda t: (t["grouping"], -t["epsilon2"]))
    ]  # fmt: skip
    return ["metric", "groups", "images", "ε²", "p (Holm)"], body


def _outliers(found: Inspection) -> _Table | None:
    """Return the strongest outliers, or None where there are none."""
    body = [
        [o["name"], _plain(o["metric"]), _number(o["value"]), METRICS[o["metric"]],
         f"{o['z']:+.1f}"]
        for o in found.outliers[:60]
    ]  # fmt: skip
    return (["image", "metric", "value", "unit", "z"], body) if body else None


def _rows(found: Inspection) -> _Table:
    """Return the facts of the first images."""
    head = ["image", "group", "organ", "part", "size", "mpp", *map(_plain, METRICS)]
    body = [
        [r["name"], r["group"], r["organ"], r["part"], f"{r['width']} × {r['height']}", r["mpp"],
         *(_number(r[m]) for m in METRICS)]
        for r in found.rows[:_ROWS]
    ]  # fmt: skip
    return head, body


def _plain(metric: str) -> str:
    """Return a metric's name as people write it."""
    return metric.replace("_mm2", " mm²").replace("_um2", " µm²").replace("_", " ")


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

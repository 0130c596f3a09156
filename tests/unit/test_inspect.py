"""Inspection: the figures are right, the page contains them, and needs no other file."""

import json
import re

import numpy as np
import pytest

from nucleate.curation.image_facts import touching
from nucleate.curation.inspect import bias, inspect_entries, outliers
from nucleate.curation.inspect_page import inspection_page, write_report
from nucleate.datasets import DATASETS
from nucleate.datasets.loading import list_entries
from nucleate.datasets.splits import Split
from nucleate.geometry.labels import compact
from tests.contract.test_datasets import MAKERS, OPTIONS

# kumar and cpm17 have the readers of monuseg and consep; the pages of the others show no more than
# those of cryonuseg (organs), consep (types) and nuinsseg (vague areas)
ALIKE = {"kumar", "cpm17", "coco", "folder", "qupath", "shards", "tnbc"}
NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if name in ALIKE else name
    for name in sorted(DATASETS)
]


@pytest.mark.parametrize("name", NAMES)
def test_every_data_set_can_be_inspected(tmp_path, name):
    truth = MAKERS[name](tmp_path / "t")
    card = DATASETS[name].card
    found = inspect_entries(list_entries(name, tmp_path / "t", OPTIONS.get(name, {})), card)
    assert found.images == len(truth)
    assert found.nuclei == sum(len(compact(labels)[1]) for labels in truth.values())
    write_report(found, card, name, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["images"] == found.images
    assert sum(content["distributions"]["eccentricity"]["counts"]) == found.nuclei
    text = (tmp_path / "out" / "index.html").read_text()
    assert all(entry_name in text for entry_name in truth)
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    assert "http" not in re.sub(r"https?://[^ <]*", "", text)  # addresses in citations only


def test_figures_by_hand(tmp_path):
    """Two squares of 4 × 4 px that touch, and one alone, at 0.5 um/px."""
    from nucleate.curation.image_facts import describe_sample
    from nucleate.types import Sample

    labels = np.zeros((100, 200), np.int32)
    labels[:4, :4], labels[:4, 4:8], labels[50:54, 50:54] = 1, 2, 3
    image = np.full((100, 200, 3), 250, np.uint8)
    image[:50] = (150, 80, 160)
    row, nuclei = describe_sample(Sample(image, labels, "a", "a", 0.5))
    assert row["nuclei"] == 3
    assert row["nuclei_per_mm2"] == pytest.approx(3 / (0.1 * 0.05))
    assert row["foreground"] == pytest.approx(48 / 20_000)
    assert row["touching"] == pytest.approx(2 / 3)
    assert row["area_median_um2"] == pytest.approx(16 * 0.25)
    assert row["tissue"] == pytest.approx(0.5, abs=0.02)
    assert row["red"] == 150
    assert len(nuclei["area_um2"]) == 3
    assert touching(labels).tolist() == [True, True, False]


def test_outliers_and_bias():
    rng = np.random.default_rng(0)
    rows = [
        {"name": f"p{i}", "organ": "ab"[i % 2], "red": 100 + rng.normal() + 20 * (i % 2),
         "green": 100 + rng.normal(), "tissue": 1.0}
        for i in range(40)
    ]  # fmt: skip
    rows[3]["green"] = 300.0
    assert [(o["name"], o["metric"]) for o in outliers(rows)] == [("p3", "green")]
    tests = {t["metric"]: t for t in bias(rows)}
    assert tests["red"]["epsilon2"] > 0.7
    assert tests["red"]["p_holm"] < 1e-4
    assert tests["green"]["p_holm"] > 0.05
    assert "tissue" not in tests  # one value only
    assert bias(rows[:1]) == []


def test_parts_of_a_split_are_compared(tmp_path):
    MAKERS["folder"](tmp_path, 4)
    entries = list_entries("folder", tmp_path, {"mpp": 0.25})
    names = [e.name for e in entries]
    split = Split(
        {"train": tuple(f"0:{n}" for n in names[:2]), "test": tuple(f"0:{n}" for n in names[2:])},
        {f"0:{n}": n for n in names},
    )
    found = inspect_entries(entries, DATASETS["folder"].card, split)
    assert {t["grouping"] for t in found.bias} == {"part"}
    assert "between parts" in inspection_page(found, DATASETS["folder"].card)


def test_class_balance(tmp_path):
    rows = [
        {"name": str(i), "organ": "ab"[i % 2], "classes": {"x": 90 if i % 2 else 10, "y": 50}}
        for i in range(4)
    ]
    found = next(t for t in bias(rows) if t["metric"] == "classes")
    table = np.array([[20, 100], [180, 100]])
    expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
    chi2 = ((table - expected) ** 2 / expected).sum()
    assert found["cramers_v"] == pytest.approx((chi2 / table.sum()) ** 0.5)


def test_names_cannot_break_the_page(tmp_path):
    MAKERS["folder"](tmp_path / "t", 1)
    for part in ("images", "labels"):
        file = next((tmp_path / "t" / part).iterdir())
        file.rename(file.with_name("<script>alert(1)<" + file.suffix))
    found = inspect_entries(list_entries("folder", tmp_path / "t", {}), DATASETS["folder"].card)
    page = inspection_page(found, DATASETS["folder"].card)
    assert "<script>" not in page
    assert 'alt="&lt;script&gt;alert(1)&lt; with outlines"' in page
    assert "<figcaption>&lt;script&gt;alert(1)&lt;<br>" in re.sub(r">\s+", ">", page)

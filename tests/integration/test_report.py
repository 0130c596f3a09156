"""The report of a run and of a cross-validation: every section, and correct figures."""

import csv
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import yaml

from nucleate.config import load_recipe
from nucleate.errors import InputError, ModelError
from nucleate.evaluation.score import METRICS
from nucleate.evaluation.scores import read_scores
from nucleate.reports import figures
from nucleate.reports.figures import calibration_error, report_figures, write_figures
from nucleate.reports.page import report_page, write_report
from nucleate.reports.run_results import gather
from nucleate.reports.tables import (
    Table,
    published_figures,
    published_table,
    to_csv,
    to_latex,
)
from nucleate.training.crossval import CrossvalOptions, cross_validate
from nucleate.training.trainer import train_recipe
from tests.data import folder
from tests.errors import says
from tests.integration.test_train import TINY


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    folder.make(root / "data", 6)
    content = {**TINY, "about": "tiny <b>&</b> quick", "crossval": {"folds": 2, "validation": 0.3}}
    content["train"] = {
        **TINY["train"],
        "workers": 0,
        "lr": 0.02,
        "steps": 40,
        "validate_every": 20,
    }
    (root / "tiny.yaml").write_text(yaml.safe_dump(content))
    recipe = load_recipe(root / "tiny.yaml")
    train_recipe(recipe, root, root / "one")
    cross_validate(recipe, root, root / "cv", CrossvalOptions())
    return root


@pytest.fixture(scope="module")
def report(runs, tmp_path_factory):
    """Return two results, and the folder of their report."""
    found = [gather(runs / name, runs, None) for name in ("one", "cv")]
    out = tmp_path_factory.mktemp("out")
    write_report(found, out)
    return found, out


@pytest.fixture
def without_figures(monkeypatch):
    """Leave out the figures for a paper, which the fixture `report` has."""
    monkeypatch.setattr(figures, "write_figures", lambda *_: None)


@pytest.mark.usefixtures("without_figures")
def test_the_page_warns_of_images_that_were_trained_on(report, tmp_path):
    (run, _), out = report
    assert "Warning:" not in (out / "index.html").read_text()
    first, *others = run.images
    score = replace(first.score, seen="trained on: its pixels")
    write_report([replace(run, images=[replace(first, score=score), *others])], tmp_path)
    assert f"1 of {len(run.images)} images were seen" in (tmp_path / "index.html").read_text()
    printed = json.loads((tmp_path / "report.json").read_text())["one"]
    assert printed["seen_in_training"][score.name] == "trained on: its pixels"


def test_the_page_has_every_section_and_needs_no_other_file(runs, report):
    page = (report[1] / "index.html").read_text()
    for section in (
        "Results", "Curves", "What goes wrong", "Counting", "Pixels", "Scores of the nuclei",
        "By organ", "Cost", "Every image", "Recipes",
    ):  # fmt: skip
        assert f">{section}</h2>" in page
    for title in ("Loss", "Pixel accuracy", "Dice of pixels", "IoU of pixels",
                  "one: Bland-Altman plot of the counts"):  # fmt: skip
        assert f'<img alt="{title}"' in page
    words = re.sub(r"<pre>.*?</pre>|src=\S+", "", page, flags=re.DOTALL)
    assert not re.findall(r"\w+_(?:aji|pq|dice|iou|loss|error)|>picture|\bfates?\b", words)
    assert "tiny &lt;b&gt;&amp;&lt;/b&gt; quick" in page
    assert page.count("were chosen on the same images") == 1  # of the run, not of the folds
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert str(runs) not in page


def test_names_cannot_break_the_page(runs):
    run = gather(runs / "one", runs, None)
    odd = replace(run.images[0], score=replace(run.images[0].score, name="0:<script>&"))
    page = report_page([replace(run, name="<i>&", images=[odd])])
    assert not re.findall("<script|<i>", page)
    assert "<br>" in page  # markup around the names stays markup
    assert page.count("&lt;script&gt;&amp;") == 3  # description, caption, table
    assert "<h1>&lt;i&gt;&amp;</h1>" in page


def test_figures_and_tables_for_a_paper(report, tmp_path):
    found, out = report
    svg = (out / "figures" / "curves-one-nuclei.svg").read_text()
    assert ">Nuclei of the validation images<" in svg  # text stays text
    assert "val_aji" not in svg
    assert ">AJI<" in svg
    assert len(list((out / "figures").glob("*.svg"))) >= 15
    for file in (out / "figures").glob("*.svg"):
        assert file.with_suffix(".pdf").read_bytes()[:5] == b"%PDF-"
    with open(out / "tables" / "results.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["one", "cv"]
    mean = found[1].report.means()["aji"]["mean"]
    assert rows[1]["AJI"].startswith(f"{mean:.3f} (")
    assert int(rows[1]["images"]) == 6
    tables = sorted((out / "tables").glob("*.tex"))
    assert {t.stem for t in tables} >= {
        "results", "errors", "pixels", "cost", "organs-one", "images-cv",
    }  # fmt: skip
    for file in tables:
        text = file.read_text(encoding="utf-8")
        columns = len(re.search(r"\\begin\{tabular\}\{(\w+)\}", text)[1])
        body = re.search(r"\\toprule\n(.*)\\bottomrule", text, re.DOTALL)[1]
        lines = [line for line in body.splitlines() if line != r"\midrule"]
        assert all(line.endswith(r"\\") for line in lines)
        assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in lines} == {columns}
        assert not re.search(r"(?<!\\)[%#_]", body)
    again = dict([*report_figures(found).items()][::4])
    write_figures(again, tmp_path)
    for file in tmp_path.iterdir():
        assert file.read_bytes() == (out / "figures" / file.name).read_bytes()
    assert len([*tmp_path.iterdir()]) == 2 * len(again) >= 6


def test_published_results_stand_beside_those_of_the_same_data(runs):
    run = gather(runs / "one", runs, None)
    assert published_table([run]).body == []  # of a folder of one's own, nothing is published
    sets = [run.recipe.data.sets[0].model_copy(update={"name": "cryonuseg"})]
    data = run.recipe.data.model_copy(update={"sets": sets})
    ours = replace(run, recipe=run.recipe.model_copy(update={"data": data}))
    (own, small, large) = published_table([ours]).body
    assert own[0] == "one (this report)"
    assert small[:2] == ["Histology-NucleiSeg, small U-Net", "6 validation images of CryoNuSeg"]
    assert small[2:6] == ["–", "0.800", "–", "0.426"]
    assert "notebook" in large[-1]
    assert "Beside published results" in report_page([ours])
    for facts in published_figures().values():
        assert facts["source"]
        assert facts["images"]


def test_tables_in_latex():
    table = Table("a-b", "50 % of x_1", ("run", "a & b"), [["c#1", None], ["-0.5", "1 ± 2 µm²"]])
    assert r"\caption{50 \% of x\_1}" in to_latex(table)
    assert r"\label{tab:a-b}" in to_latex(table)
    assert r"run & a \& b \\" in to_latex(table)
    assert r"c\#1 &  \\" in to_latex(table)
    assert r"$-$0.5 & 1 $\pm$ 2 \textmu{}m\textsuperscript{2} \\" in to_latex(table)
    assert r"\begin{tabular}{ll}" in to_latex(table)
    numbers = Table("f", "", ("run", "AJI", "n"), [["a", "0.50 (0.40 to 0.60)", 3], ["b", "–", 4]])
    assert r"\begin{tabular}{lrr}" in to_latex(numbers)
    assert to_csv(table).splitlines()[2] == "-0.5,1 ± 2 µm²"


def test_figures_of_the_folds_are_those_of_the_cross_validation(runs, report):
    facts = json.loads((report[1] / "report.json").read_text())["cv"]
    scores = read_scores(runs / "cv").metrics
    for metric in METRICS:
        expected = np.nanmean(list(scores[metric].values()))
        found = facts["mean"][metric]["mean"]
        assert (found is None and math.isnan(expected)) or found == pytest.approx(expected)
    assert facts["images_are"] == "tested on"
    assert len(facts["per_image"]) == 6
    true = sum(p["counts"]["nuclei_true"] for p in facts["per_image"])
    assert sum(n for outcome, n in facts["outcomes"].items() if outcome != "spurious") == true
    assert facts["cost"]["parameters"]["value"] > 0 < facts["cost"]["arithmetic"]["value"]


def test_hits_and_scores_belong_to_the_same_nuclei(runs):
    for image in gather(runs / "one", runs, None).images:
        assert image.scores.shape == image.hits.shape
        assert image.hits.sum() == image.score.counts["tp_50"]
        assert image.overlay[:2] == b"\xff\xd8"


def test_calibration_by_hand():
    scores = np.array([0.95, 0.95, 0.55, 0.55], np.float32)
    hits = np.array([True, True, True, False])
    assert calibration_error(scores, hits) == pytest.approx((2 * 0.05 + 2 * 0.05) / 4)
    assert math.isnan(calibration_error(np.zeros(0), np.zeros(0, bool)))
    assert calibration_error(np.ones(3), np.ones(3, bool)) == 0


def test_refusals(runs, tmp_path, nucleate):
    with pytest.raises(InputError, match=says("not a run")):
        gather(tmp_path, runs, None)
    with pytest.raises(InputError, match="no such"):
        gather(runs / "one", runs, str(tmp_path / "moved"))
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    for name in ("recipe.yaml", "split.json"):
        (unfinished / name).write_bytes((runs / "one" / name).read_bytes())
    with pytest.raises(ModelError, match=r"card\.json"):
        gather(unfinished, runs, None)
    code, _, err = nucleate("report", runs / "one", runs / "one", "-o", tmp_path / "r")
    assert code == 2
    assert says("two", "'one'").search(err)
    assert not (tmp_path / "r").exists()


@pytest.mark.usefixtures("without_figures")
def test_on_the_command_line_with_data_that_moved(runs, tmp_path, nucleate):
    code, out, _ = nucleate("report", runs / "cv", "-o", tmp_path / "r", "--root", runs)
    assert code == 0
    assert out.strip() == str(tmp_path / "r" / "index.html")
    code, out, _ = nucleate("compare", runs / "cv", runs / "cv")
    assert code == 0
    assert "+0.000" in out
    assert "1.0000" in out
    code, _, err = nucleate("compare", runs / "cv", runs / "cv", "--metrics", "ajj")
    assert code == 2
    assert says("metric", "'ajj'").search(err)
    code, _, err = nucleate("compare", runs / "cv", tmp_path)
    assert code == 2
    assert "no such file" in err


def test_images_that_chose_nothing_are_tested_on(runs, tmp_path):
    import shutil

    copy = tmp_path / "one"
    shutil.copytree(runs / "one", copy)
    assert gather(copy, runs, None).part == "chosen on"
    recipe = (copy / "recipe.yaml").read_text()
    for old, new in (("keep: best", "keep: last"), ("tune: true", "tune: false")):
        recipe = recipe.replace(old, new)
    (copy / "recipe.yaml").write_text(recipe)
    assert gather(copy, runs, None).part == "tested on"


def test_a_run_is_shown_on_its_test_part_and_missing_images_are_named(runs, tmp_path):
    import shutil

    from nucleate.datasets.splits import Split, read_split, write_split

    copy = tmp_path / "one"
    shutil.copytree(runs / "one", copy)
    old = read_split(copy / "split.json")
    names = [*old.parts["train"]]
    parts = {"train": tuple(names[1:]), "validation": old.parts["validation"], "test": (names[0],)}
    write_split(copy / "split.json", Split(parts, old.groups))
    found = gather(copy, runs, None)
    assert (found.part, [p.score.name for p in found.images]) == ("tested on", [names[0]])
    parts["test"] = ("0:gone",)
    groups = {**old.groups, "0:gone": "gone"}
    write_split(copy / "split.json", Split(parts, groups))
    with pytest.raises(InputError, match=says("0:gone")):
        gather(copy, runs, None)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("environment.json", "{", "not valid JSON"),
        ("environment.json", "[]", "not the environment of a run"),
        ("metrics.csv", "step,seconds\n3,soon\n", "damaged"),
        ("metrics.csv", "step,loss\n3,1\n", "damaged"),
    ],
)
def test_damaged_files_of_a_run_are_named(runs, tmp_path, name, content, said):
    import shutil

    from nucleate.errors import NucleateError

    shutil.copytree(runs / "one", tmp_path / "one")
    (tmp_path / "one" / name).write_text(content)
    with pytest.raises(NucleateError, match=said):
        gather(tmp_path / "one", runs, None)


def test_a_cross_validation_is_held_against_an_evaluation(runs, tmp_path, nucleate):
    code, *_ = nucleate(
        "evaluate", "-m", runs / "cv", "--data", "folder", "--root", runs / "data", "--mpp", 0.25,
        "-o", tmp_path / "ev",
    )  # fmt: skip
    assert code == 0
    code, out, _ = nucleate("compare", runs / "cv", tmp_path / "ev")
    assert code == 0
    assert " 6 " in out
    code, _, err = nucleate("compare", runs / "cv", tmp_path / "ev", "--metrics", ",")
    assert code == 2
    assert says("--metrics", "empty").search(err)
    content = json.loads((tmp_path / "ev" / "metrics.json").read_text())
    content["per_image"] = [content["per_image"][0]] * 2
    (tmp_path / "ev" / "metrics.json").write_text(json.dumps(content))
    code, _, err = nucleate("compare", runs / "cv", tmp_path / "ev")
    assert (code, "lists an image twice" in err) == (2, True)

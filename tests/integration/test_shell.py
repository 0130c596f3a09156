"""The command line as programs and shells meet it: --json, --quiet, --verbose, help, completion."""

import inspect
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

from nucleate.cli import app
from nucleate.cli.common import leaves
from tests.data import cryonuseg, folder
from tests.synthetic import tissue

IMAGE, _ = tissue(160, 200, 25)


LEAVES = leaves(get_command(app))


@pytest.mark.parametrize(("words", "command"), LEAVES, ids=["-".join(leaf[0]) for leaf in LEAVES])
def test_every_command_has_examples_and_answers_programs(words, command, nucleate):
    assert {"as_json", "quiet", "verbose"} <= {option.name for option in command.params}
    source = inspect.getsource(inspect.unwrap(command.callback))
    assert re.search(r"\banswer\(|\b_announce\b|\b_report\(", source)
    code, out, _ = nucleate(*words, "--help")
    assert code == 0
    examples = out.partition("\n  Example")[2].partition("\n\n")[0].splitlines()[1:]
    assert examples
    known = {option for each in command.params for option in each.opts} | {"--no-open"}
    for line in examples:
        assert line.strip().startswith(" ".join(["nucleate", *words])) or words[-1] == "recipe"
        assert {w for w in line.split() if w.startswith("-")} <= known


def test_json_is_one_object_on_stdout(tmp_path, nucleate):
    source = tmp_path / "a.png"
    Image.fromarray(IMAGE).save(source)
    out = tmp_path / "out"
    code, said, _ = nucleate("segment", source, "--mpp", 0.25, "-o", out, "--json")
    assert code == 0
    found = json.loads(said)
    assert found["totals"] == json.loads((out / "summary.json").read_text())["totals"]
    assert found["totals"]["nuclei"] > 5
    nuclei = out / "a.nuclei.parquet"
    code, said, _ = nucleate("export", nuclei, "--to", "csv", "-o", tmp_path / "a.csv", "--json")
    assert json.loads(said)["nuclei"] == found["totals"]["nuclei"]
    code, said, _ = nucleate("evaluate", out, out, "--json")
    assert code == 0
    assert json.loads(said)["mean"]["aji"]["mean"] == 1.0


def test_json_of_commands_about_data(tmp_path, nucleate):
    cryonuseg.make(tmp_path / "cryo")
    code, said, _ = nucleate("data", "check", "cryonuseg", tmp_path / "cryo", "--json")
    assert code == 3  # as without --json: three images are not the published thirty
    assert json.loads(said)["images"] == 3
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    words = ("stain", "fit", tmp_path / "a.png", "-o", tmp_path / "stain.json")
    code, said, err = nucleate(*words, "--json")
    assert code == 0, err
    assert json.loads(said)["method"] == "macenko"
    code, said, _ = nucleate("data", "list", "--json")
    assert json.loads(said)["data_sets"]["monuseg"]["licence"] == "CC-BY-NC-SA-4.0"


def test_errors_are_json_too_and_the_sentence_stays(nucleate):
    code, out, err = nucleate("segment", "nowhere.png", "-o", "out", "--json")
    assert code == 2
    assert "no such file" in json.loads(out)["error"]
    assert err.startswith("nucleate: nowhere.png")


@pytest.mark.parametrize(
    ("words", "tells"),
    [
        ("segment -o out", "Missing argument"),
        ("segment a.png -o out --mpp abc", "unable to parse string as a number"),
        ("segment a.png -o out --threads 100000000", "1024"),
        ("segment a.png -o out --scheduler foo", "tcp://HOST:PORT"),
        ("evaluate a b --tta", "--tta require --model"),
        ("evaluate -m mtl-small --root x --mpp 0.25 --option mpp=0.5", "same value"),
        ("evaluate a b -o a.png", "a.png: is a file"),
        ("prepare data ready --stain macenko --stain-file s.json", "exclude each other"),
        ("data split r.yaml -o splits --folds 3", "--scheme kfold"),
        ("stain fit a.png -o a.png", "would replace this source"),
        ("stain fit images/images a.png -k 1 -o a.png", "would replace this source"),
        ("stain preview a.png -o a.png", "would replace this source"),
        ("stain preview images/images --reference a.png -o a.png", "would replace this source"),
        ("data check folder images -o images/check.json", "inside the data set"),
    ],
)
def test_what_contradicts_itself_is_one_sentence(words, tells, tmp_path, monkeypatch, nucleate):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(IMAGE).save("a.png")
    folder.make(tmp_path / "images", 1)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = nucleate(*words.split(), "--json")
    assert code == 2
    assert tells in err
    assert err.count("\n") == 1
    assert json.loads(out)["error"] in err
    assert sorted(tmp_path.rglob("*")) == before
    np.testing.assert_array_equal(np.asarray(Image.open("a.png")), IMAGE)


def test_quiet_still_says_what_failed(tmp_path, nucleate):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    words = ("segment", tmp_path / "a.png", tmp_path / "b.png", "--mpp", 0.25)
    code, _, err = nucleate(*words, "-o", tmp_path / "out", "-q")
    assert code == 3
    assert "1 source failed" in err
    code, _, err = nucleate("segment", tmp_path / "b.png", "--mpp", 0.25, "-o", tmp_path / "out")
    assert code == 2
    assert err.count("b.png") == 1  # said once
    assert nucleate("stain", "fit", tmp_path / "a.png", "-o", tmp_path / "s.json")[0] == 0
    words = ("stain", "apply", tmp_path / "a.png", tmp_path / "b.png", "--stain")
    code, out, err = nucleate(*words, tmp_path / "s.json", "-o", tmp_path / "n", "-q", "--json")
    assert code == 3
    assert "b.png" in err
    assert list(json.loads(out)["failed"]) == [str(tmp_path / "b.png")]


def test_quiet_says_the_result_alone(tmp_path, nucleate):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    words = ("segment", tmp_path / "a.png", "--mpp", 0.25, "-o", tmp_path / "out")
    code, out, err = nucleate(*words, "-q")
    assert (code, err) == (0, "")
    assert "nuclei in 1 source" in out
    code, out, err = nucleate("segment", "nowhere.png", "-o", "out", "-q")
    assert (code, out) == (2, "")
    assert err.startswith("nucleate: nowhere.png")


def test_verbose_shows_where_an_error_arose(nucleate):
    code, _, err = nucleate("segment", "nowhere.png", "-o", "out", "-v")
    assert code == 2
    lines = err.splitlines()
    assert "Python" in lines[0]
    assert "Traceback (most recent call last):" in lines
    assert lines[-1].startswith("nucleate: nowhere.png")
    assert "Traceback" not in nucleate("segment", "nowhere.png", "-o", "out")[2]


def test_no_colour_where_it_is_piped(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    words = [sys.executable, "-m", "nucleate"]
    subprocess.run(
        [*words, "segment", "a.png", "--mpp", "0.25", "-o", "out"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    done = subprocess.run(
        [*words, "evaluate", "out", "out"], cwd=tmp_path, check=True, capture_output=True
    )
    assert b"aji" in done.stdout
    assert b"\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "position", "offered"),
    [
        ("nucleate se", 1, {"segment", "serve"}),
        ("nucleate data check mo", 3, {"monuseg"}),
        ("nucleate segment a.png --model mt", 4, {"mtl-open", "mtl-small"}),
        ("nucleate segment a.png --precision b", 4, {"bf16"}),
    ],
)
def test_the_shell_completes(words, position, offered):
    asked = {
        "_NUCLEATE_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(position),
    }
    done = subprocess.run(
        [sys.executable, "-c", "from nucleate.cli import main; main()"],
        env={**os.environ, **asked}, capture_output=True, text=True,
    )  # fmt: skip
    assert set(done.stdout.split()) == offered, done.stderr

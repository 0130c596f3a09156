"""The command line as programs and shells meet it: --json, --quiet, --verbose, help, completion."""

import inspect
import json
import os
import subprocess
import sys

import pytest
from PIL import Image
from typer.main import get_command

from nucleate.cli import app
from nucleate.cli.common import leaves
from tests.data import cryonuseg
from tests.synthetic import tissue

IMAGE, _ = tissue(160, 200, 25)


LEAVES = leaves(get_command(app))


@pytest.mark.parametrize(("words", "command"), LEAVES, ids=["-".join(leaf[0]) for leaf in LEAVES])
def test_every_command_has_examples_and_answers_programs(words, command, nucleate):
    assert {"as_json", "quiet", "verbose"} <= {option.name for option in command.params}
    source = inspect.getsource(inspect.unwrap(command.callback))
    assert "answer(" in source or "_announce" in source
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
    assert code == 3  # as without --json: three pictures are not the published thirty
    assert json.loads(said)["pictures"] == 3
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
        ("nucleate data fetch mo", 3, {"monuseg"}),
        ("nucleate segment a.png --model mt", 4, {"mtl-base", "mtl-small"}),
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

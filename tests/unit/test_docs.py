"""Numbers in README and docs come from results files; recipes and commands named there exist."""

import re
import runpy
import sys
from pathlib import Path

import pytest

from nucleate.cli import app
from nucleate.cli.common import leaves

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _check(program, monkeypatch):
    """Run a program of the documentation with --check, in this process."""
    monkeypatch.setattr(sys, "argv", [program, "--check"])
    monkeypatch.setattr(sys, "path", [str(ROOT / "docs/programs"), *sys.path])
    try:
        runpy.run_path(str(ROOT / "docs/programs" / program), run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise


def test_results_pages_are_what_the_program_writes(monkeypatch):
    _check("results.py", monkeypatch)


def test_the_page_of_recipes_is_what_the_program_writes(monkeypatch):
    _check("recipe_reference.py", monkeypatch)
    page = (ROOT / "docs/reference/recipe.md").read_text(encoding="utf-8")
    assert "| `train.steps` | integer, above 0 | *required* | Number of optimiser steps. |" in page
    assert "| `init.from` | text | none |" in page
    assert not re.search(r"\|\s*\|\n", page)  # every key has a meaning
    for noise in ("Config", "model_validator", "class ", "bases"):
        assert noise not in page


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_pages_name_only_what_exists(page):
    from typer.main import get_command

    text = page.read_text(encoding="utf-8")
    for recipe in re.findall(r"recipes/[\w/-]+\.yaml", text):
        assert (ROOT / recipe).exists(), recipe
    known = set(get_command(app).commands)
    for command in re.findall(r"```\n(?:.*&& )?nucleate ([a-z]+)|`nucleate ([a-z]+)", text):
        assert set(command) & known, command
    for target in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (page.parent / target).exists(), target


def test_readme_keeps_its_two_promises():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "\npip install . && nucleate demo\n" in text
    assert '\npip install ".[dev]" && pytest\n' in text


def test_the_page_of_commands_has_them_all():
    """Word for word it depends on the parser's version; names and help do not."""
    from typer.main import get_command

    page = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")
    sections = dict(part.split("\n", 1) for part in page.split("\n## ")[1:])
    for words, command in leaves(get_command(app)):
        own = sections[" ".join(("nucleate", *words))]
        for option in command.params:
            for each in option.opts:
                assert each in own or not each.startswith("-"), (words, each)
            assert " ".join((option.help or "").split()) in " ".join(own.split()), words


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs/tutorials").glob("*.md")), ids=lambda p: p.stem
)
def test_notebooks_are_those_of_the_tutorials_and_were_run(page):
    import importlib.util

    import nbformat

    program = ROOT / "docs/programs/notebooks.py"
    spec = importlib.util.spec_from_file_location("notebooks", program)
    notebooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(notebooks)
    wanted = notebooks.as_notebook(page.read_text(encoding="utf-8"))
    kept = nbformat.read(ROOT / f"docs/notebooks/{page.stem}.ipynb", 4)
    assert [cell.source for cell in kept.cells] == [cell.source for cell in wanted.cells]
    code = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert not any(out.output_type == "error" for cell in code for out in cell.outputs)

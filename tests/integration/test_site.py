"""The built documentation in a real browser: no page is too high, nothing runs off the page."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "docs" / "programs" / "page_sizes.py"
pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
pytest.importorskip("mkdocs", reason="mkdocs is not installed")
pytestmark = pytest.mark.skipif(
    not (shutil.which("chromium") or shutil.which("chromium-browser")),
    reason="Chromium is not installed",
)


def _program():
    spec = importlib.util.spec_from_file_location("page_sizes", PROGRAM)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_a_page_that_does_not_fit_is_named(tmp_path):
    cells = "".join(f"<td>{'x' * 40}</td>" for _ in range(60))
    page = "<body style='margin:0'><div class='md-content__inner'>{}</div></body>"
    for name, inside in (
        ("good", "<table><tr><td>1</td></tr></table>"),
        ("high", "<div style='height: 7000px'></div>"),
        ("wide", f"<div style='overflow: auto'><table><tr>{cells}</tr></table></div>"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.html").write_text(page.format(inside))
    found = _program().problems(tmp_path)
    assert [line.split(":")[0] for line in found] == ["high", "wide"]
    assert "7000 px high" in found[0]
    assert "runs off by table" in found[1]


@pytest.mark.slow
def test_every_page_of_the_site_fits(tmp_path):
    site = tmp_path / "site"
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(site)]
    subprocess.run(build, cwd=ROOT, check=True)
    assert _program().problems(site) == []

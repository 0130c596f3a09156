"""What has one place in the code has no second one: a copy that differs is a bug nobody sees."""

import re
from pathlib import Path

import pytest

from nucleate.geometry import palette

SOURCE = Path(palette.__file__).parents[1]
FILES = [
    path
    for path in sorted(SOURCE.rglob("*"))
    if path.suffix in (".py", ".js", ".css", ".html") and "openseadragon" not in path.parts
]
COLOURS = {rgb for rgb in (*palette.CLASS_RGB, *palette.SCALE_RGB, palette.OUTLINE_RGB) if any(rgb)}
PLACES = {  # idea -> what only its place contains, and the place
    "colours": (
        "|".join(rf"{palette.web_colour(c)}|\b{c[0]}, ?{c[1]}, ?{c[2]}\b" for c in COLOURS),
        "geometry/palette.py",
    ),
    "outlines": (r"polylines\(|shift=4", "geometry/draw.py"),
    "limits of mpp": (r"\b0?\.02\b[^\n]*\b20\b", "resolution.py"),
    "no resolution": (r"no resolution \(mpp\)\{", "resolution.py"),
    "digests": (
        r"sha256\(\s*json|(hexdigest\(\)|sha256\(.*\)|files\[\w+\]|digest)\[:(?!8\])",
        "files.py",
    ),
    "descriptions of data sets": (r'"reader": .*\s*"part": ', "datasets/loading.py"),
    "what gives boxes in place of maps": (r"isinstance\(.*MaskRCNN|\bdetects\(|family == ", None),
    "markup in Python, but for what a notebook shows in a base install": (
        r"html import escape|html\.escape|[\"']<(p|b|div|span|table|tr|ul|h\d|figure|img)\b",
        "results/figures.py",
    ),
    "test patients": (r"\b44-2665[ \"].*\bHC-7209\b", "datasets/test_sets.py"),
}


@pytest.mark.parametrize("idea", PLACES)
def test_an_idea_has_one_place(idea):
    pattern, place = PLACES[idea]
    found = {
        path.relative_to(SOURCE).as_posix()
        for path in FILES
        if re.search(pattern, path.read_text(encoding="utf-8"), re.IGNORECASE)
    }
    assert found == ({place} if place else set())


def test_the_page_takes_its_colours_from_the_palette():
    from nucleate.viewer.messages import palette_script

    exported = set(re.findall(r"export const (\w+)", palette_script()))
    taken = {
        name
        for path in (SOURCE / "viewer/static").glob("*.js")
        for names in re.findall(r'import \{(.*?)\} from "./palette.js"', path.read_text())
        for name in re.findall(r"\w+", names)
    }
    assert taken == exported
    assert palette.web_colour(palette.OUTLINE_RGB) in palette_script()

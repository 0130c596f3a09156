"""Fail if the project's prose contains a word that its style bans.

    python .ci/words.py [FILE …]

Prose is Markdown, text of notebooks, comments in recipes and in the page's files, and comments,
docstrings and strings of more than one word in Python. Text in `code` is not prose. Identifiers and
keys in Python and in the page's scripts must not contain a word of NAMES either.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
BANNED = {  # pattern -> what to write
    r"pictur\w+|picture": "image",
    r"anew": "again",
    r"mend(s|ed|ing)?": "fix",
    r"(leave|leaves|leaving|left) (it |them |one |that |both )?away": "remove, omit",
    r"(lie|lies|lay|lying) (in|on|at|beside|below|between|inside|under)": "is, are",
    r"holds?|holding": "contain, store, keep (held out and hold out are fine)",
    r"begun": "started",
    r"(is|are|be|was|were|been) told": "is shown, is given",
    r"says": "states, shows (of software)",
    r"knows": "has, states, supports (of software)",
    r"whoever": "anyone who, the user",
    r"what became of": "the result of",
    r"of (its|their) own": "separate",
    r"surer|surest": "more certain, of higher score",
    r"hands": "passes, gives",
    r"fate": "result",
}
ALLOWED = (  # phrases in which a banned word is fine
    r"hold(s|ing)? out", r"holdout", r"by hand", r"hand-computed", r"right hand", r"left hand",
    r"on the other hand", r"first-hand", r"on hand",
)  # fmt: skip
NAMES = r"pictur\w*|begun|told|anew|mend(s|ed)?|fates?|sure(r|st)|whoever"
SKIPPED = ("docs/results/", "src/nucleate/viewer/static/openseadragon/", ".ci/words.py")
ENDINGS = (".md", ".py", ".yaml", ".yml", ".ipynb", ".js", ".html", ".css", ".toml", ".sh")
_WORD = re.compile(rf"\b({'|'.join(BANNED)})\b", re.IGNORECASE)
_ALLOWED = re.compile(rf"\b({'|'.join(ALLOWED)})\b", re.IGNORECASE)
_NAME = re.compile(rf"(?<![a-z])({NAMES})(?![a-z])")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_CODE = re.compile(
    r"\{[^{}]*\}|\"\w+\"(?=:)|"
    r"^\s*\w+(?=:)|`[^`\n]*`|https?://\S+|\]\([^)]*\)|[\w./-]*/[\w./-]+|\w+\.\w{2,4}\b|--[\w-]+"
)


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and text of the prose in a file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield from _python(text)
    elif path.suffix == ".md":
        yield from _markdown(text)
    elif path.suffix == ".ipynb":
        for cell in json.loads(text)["cells"]:
            if cell["cell_type"] == "markdown":
                yield from ((1, line) for line in "".join(cell["source"]).splitlines())
    elif path.suffix in (".yaml", ".yml", ".toml", ".sh"):
        for number, line in enumerate(text.splitlines(), start=1):
            found = re.search(r"(^|\s)#(.*)|^about: (.*)", line)
            if found:
                yield number, found[2] or found[3] or ""
    elif path.suffix == ".html":  # pages and templates: what is no tag and no expression
        for number, line in enumerate(text.splitlines(), start=1):
            yield number, re.sub(r"</?\w+|\{[{%].*?[}%]\}", " ", line)
    else:
        for number, line in enumerate(text.splitlines(), start=1):
            for part in re.findall(r"//(.*)|/\*(.*)|\"([^\"]* [^\"]*)\"|>([^<]* [^<]*)<", line):
                yield number, " ".join(part)


def _python(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
        elif token.type == tokenize.STRING and " " in token.string:
            doctest = False
            for more, line in enumerate(token.string.splitlines()):
                doctest = line.lstrip().startswith((">>>", "...")) or (
                    doctest and bool(line.strip())
                )
                if not doctest:
                    yield token.start[0] + more, line


def _markdown(text: str) -> Iterator[tuple[int, str]]:
    fenced = False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, line


def identifiers(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and name of the identifiers, and keys of one word, in a program."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NAME:
                yield token.start[0], token.string
            elif token.type == tokenize.STRING and token.string.strip("\"'").isidentifier():
                yield token.start[0], token.string.strip("\"'")
    elif path.suffix in (".js", ".css", ".html"):
        for number, line in enumerate(text.splitlines(), start=1):
            yield from ((number, name) for name in _IDENTIFIER.findall(line))


def hits(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line number, word and line of the banned words in a file."""
    for number, line in prose(path):
        bare = _ALLOWED.sub("", _CODE.sub("", line))
        for found in _WORD.finditer(bare):
            yield number, found[0], line.strip()
    for number, name in identifiers(path):
        banned = _NAME.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
        if banned:
            yield number, banned[0], name


def main() -> None:
    """Check the files in the arguments, or all files that git tracks."""
    names = (
        sys.argv[1:]
        or subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.splitlines()
    )
    count = 0
    for name in names:
        path = ROOT / name
        if not name.endswith(ENDINGS) or name.startswith(SKIPPED) or not path.is_file():
            continue
        for number, word, line in hits(path):
            count += 1
            print(f"{name}:{number}: {word!r}: {line[:110]}")
    if count:
        raise SystemExit(f"{count} banned words; .ci/words.py lists what to write instead")
    print("no banned words")


if __name__ == "__main__":
    main()

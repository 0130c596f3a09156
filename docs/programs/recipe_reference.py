"""Write docs/reference/recipe.md: every key of a recipe, its type, its default, its meaning.

`python docs/programs/recipe_reference.py`, after a key of `nucleate/config.py` or
`nucleate/pretraining/recipe.py` has changed.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from pathlib import Path

from nucleate import config
from nucleate.pretraining import recipe

PAGE = Path(__file__).parents[1] / "reference" / "recipe.md"
HEAD = """# Recipe

Look up every key of a recipe. One YAML file defines one complete experiment. An unknown key is an
error that names the nearest one. `--set a.b=value` changes one value; `data.sets.0.path=…` changes
an item of a list. This page is written by `docs/programs/recipe_reference.py`.
"""
_BASES = {
    "str": "text", "int": "integer", "float": "number", "bool": "true or false", "Any": "any",
    "Share": "number, 0 to 1", "NonNegative": "number, at least 0", "Positive": "integer, above 0",
    "Imagenet": "never, if-reachable, required or a .safetensors file", "Mpp": "number, 0.02 to 20",
}  # fmt: skip
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


class Key:
    """One key: what the source states about it."""

    def __init__(self, field: ast.AnnAssign, meaning: str) -> None:
        self.name = field.target.id
        self.annotation, self.value, self.meaning = field.annotation, field.value, meaning
        for call in ast.walk(field):  # a key that is a word of Python
            if isinstance(call, ast.keyword) and call.arg == "alias":
                self.name = call.value.value

    @property
    def below(self) -> str | None:
        """Name of the class that this key is a tree of."""
        found = re.search(r"\b(\w+(?:Config|Init))\b", ast.unparse(self.annotation))
        return found and found[1]

    @property
    def kind(self) -> str:
        """Type in words."""
        if self.below:
            shape = ast.unparse(self.annotation)
            return "keys by name" if "dict[" in shape else "list" if "[" in shape else "keys"
        return words(self.annotation)

    @property
    def default(self) -> str:
        """Default as YAML has it."""
        if self.value is None:
            return "*required*"
        if isinstance(self.value, ast.Call):
            none = ast.unparse(self.value).startswith("Field(None")
            return "none" if none else "*as below*" if self.below else "`{}`"
        value = ast.literal_eval(self.value)
        if value is None:
            return "none"
        if value == "" or value == ():
            return "*empty*"
        if isinstance(value, tuple):
            value = list(value)
        return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def words(node: ast.expr) -> str:
    """Return a type in words.

    Example:
        >>> words(ast.parse("Annotated[int, Field(ge=0, lt=8)] | None").body[0].value)
        'integer, at least 0, below 8'
    """
    if isinstance(node, ast.BinOp):  # … | None: the default states it
        return words(node.left)
    if isinstance(node, ast.Name):
        return _BASES.get(node.id, node.id)
    base, inside = node.value.id, node.slice
    if base == "Literal":
        each = inside.elts if isinstance(inside, ast.Tuple) else [inside]
        return ", ".join(value.value for value in each[:-1]) + f" or {each[-1].value}"
    if base == "Annotated":
        bounds = [
            f"{_BOUNDS[k.arg]} {ast.unparse(k.value)}"
            for k in inside.elts[1].keywords
            if k.arg in _BOUNDS
        ]
        return ", ".join([words(inside.elts[0]), *bounds])
    if base == "dict":
        return f"keys with {words(inside.elts[1])}" if words(inside.elts[1]) != "any" else "keys"
    each = inside.elts if isinstance(inside, ast.Tuple) else [inside]
    if base == "tuple" and not isinstance(each[-1], ast.Constant):
        return f"list of {len(each)}: {words(each[0])}"
    return f"list of {words(each[0])}"


def classes(module: object) -> dict[str, tuple[str, list[Key], list[str]]]:
    """Return name -> (what it is, own keys, bases) of every tree of a module."""
    found = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        keys = []
        for field, after in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign):
                said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                keys.append(Key(field, inspect.cleandoc(after.value.value) if said else ""))
        found[node.name] = ast.get_docstring(node), keys, [ast.unparse(b) for b in node.bases]
    return found


def keys_of(known: dict, name: str) -> list[Key]:
    """Return the keys of a class, those of its bases first."""
    _, own, bases = known[name]
    return [key for base in bases if base in known for key in keys_of(known, base)] + own


def section(known: dict, name: str, prefix: str, seen: set[str], level: int = 2) -> str:
    """Return the table of a class, and of those below it."""
    keys = keys_of(known, name)
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    below = []
    for key in keys:
        meaning = " ".join(key.meaning.split()).replace("|", r"\|").replace(" -> ", " → ")
        lines.append(f"| `{prefix}{key.name}` | {key.kind} | {key.default} | {meaning} |")
        if key.below and key.below not in seen:
            seen.add(key.below)
            mark = {"list": ".0", "keys by name": ".NAME"}.get(key.kind, "")
            below.append((key.below, f"{prefix}{key.name}{mark}."))
    text = "\n".join(lines) + "\n"
    if prefix:
        text = f'<details markdown="1"><summary>{len(keys)} keys</summary>\n\n{text}\n</details>\n'
    for child, path in below:
        about = known[child][0].split("\n")[0]
        text += f"\n{'#' * level} {path.rstrip('.')}\n\n{about}\n\n"
        text += section(known, child, path, seen, level)
    return text


def page() -> str:
    """Return the page."""
    known = classes(config) | classes(recipe)
    seen: set[str] = set()
    text = HEAD + "\n## The whole recipe\n\n" + section(known, "Recipe", "", seen)
    for title, root in (("A pretraining", "PretrainRecipe"), ("A study", "StudyRecipe")):
        what = known[root][0].split("\n")[0]
        text += f"\n## {title}\n\n{what}\n\n" + section(known, root, "", seen, 3)
    return text


def main() -> None:
    """Write the page, or with --check fail where it is not what would be written."""
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text(encoding="utf-8") != page() and f"{PAGE} is stale")
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()

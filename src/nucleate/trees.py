"""Strict trees ⇄ YAML files; an unknown key is an error that names the nearest known key."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from nucleate.errors import ConfigError, nearest
from nucleate.files import read_text
from nucleate.resolution import HIGHEST_MPP, LOWEST_MPP
from nucleate.yaml_text import parse_yaml

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Mpp = Annotated[float, Field(ge=LOWEST_MPP, le=HIGHEST_MPP)]
NonNegative = Annotated[float, Field(ge=0)]


class Strict(BaseModel):
    """A node of a tree that rejects unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Tree = TypeVar("Tree", bound=Strict)


def load_tree(kind: type[Tree], path: Path, changes: list[str] | None = None) -> Tree:
    """Read a recipe of any kind.

    Args:
        kind: class of the recipe.
        path: YAML file.
        changes: `key.path=value`, the value in YAML, as in `--set`.

    Returns:
        The recipe; `data.root` and `data.split` stay as written.

    Raises:
        InputError: the file cannot be read.
        ConfigError: not YAML, an unknown key, or a value out of range.
    """
    content = parse_yaml(read_text(path), str(path))
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: not a YAML mapping. Write a recipe as key: value lines; recipes/ has "
            "examples."
        )
    for change in changes or []:
        _apply(content, change)
    return parse_tree(kind, content, str(path))


def parse_tree(kind: type[Tree], content: dict[str, Any], owner: str) -> Tree:
    """Parse a tree of plain values into a recipe; errors name `owner`.

    Raises:
        ConfigError: an unknown key, a missing key, or a value out of range.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        # a misspelt key is also missing: report the misspelling
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        where = ".".join(str(part) for part in first["loc"])
        more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
        if first["type"] == "extra_forbidden":
            hint = nearest(str(first["loc"][-1]), _known_keys(kind, first["loc"][:-1]))
            raise ConfigError(f"{owner}: there is no key {where!r}.{more} {hint}") from error
        if first["type"] == "missing":
            raise ConfigError(f"{owner}: the key {where!r} is missing.{more} Add it.") from error
        raise ConfigError(
            f"{owner}: {where} = {repr(first['input'])[:80]}: {_lower(first['msg'])}.{more} "
            "Change the value."
        ) from error


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def check_arguments(
    make: Callable[..., object], arguments: dict[str, Any], owner: str, given: tuple[str, ...]
) -> None:
    """Raise a `ConfigError` for an argument that a class does not accept, or of the wrong type.

    Args:
        make: class or function with type hints.
        arguments: arguments from a recipe.
        owner: subject of error messages.
        given: arguments that a recipe must not set.
    """
    hints = get_type_hints(make.__init__ if isinstance(make, type) else make)  # type: ignore[misc]
    known = [name for name in inspect.signature(make).parameters if name not in given]
    for name, value in arguments.items():
        if name not in known:
            raise ConfigError(f"{owner} has no {name!r}. {nearest(name, known)}")
        try:
            TypeAdapter(
                hints[name], config=ConfigDict(strict=True, allow_inf_nan=False)
            ).validate_python(value)
        except ValidationError as error:
            raise ConfigError(
                f"{owner}: {name} = {str(value)[:60]}: {_lower(error.errors()[0]['msg'])}. "
                "Change the value."
            ) from error


def dump_recipe(recipe: Strict) -> str:
    """Return the complete recipe as YAML; `load_tree` reads it back unchanged."""
    import yaml

    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _apply(content: dict[str, Any], change: str) -> None:
    """Set one value of the tree from `key.path=value`."""
    key, found, text = change.partition("=")
    if not found or not key:
        raise ConfigError(f"--set {change!r}: write it as key=value, for example train.steps=100.")
    value = parse_yaml(text, f"--set {change!r}")
    at: Any = content
    *path, last = key.split(".")
    for part in path:
        at = _step(at, part, change)
    if isinstance(at, dict):
        at[last] = value
    else:
        _step(at, last, change)
        at[int(last)] = value


def _step(at: Any, part: str, change: str) -> Any:  # noqa: ANN401
    if isinstance(at, list) and part.isdecimal() and part.isascii() and int(part) < len(at):
        return at[int(part)]
    if isinstance(at, dict):
        return at.setdefault(part, {})
    raise ConfigError(
        f"--set {change!r}: the recipe has nothing at {part!r}. Check the path of the key."
    )


def _known_keys(tree: type[Strict], location: tuple[int | str, ...]) -> list[str]:
    """Return the valid keys at a location of the recipe tree."""
    kind: Any = tree
    for part in location:
        fields = getattr(kind, "model_fields", {})
        if part not in fields:  # a list index, or a name chosen by the user
            continue
        annotation = fields[part].annotation
        arguments = getattr(annotation, "__args__", ())
        kind = next((a for a in (annotation, *arguments) if hasattr(a, "model_fields")), kind)
    return [field.alias or name for name, field in getattr(kind, "model_fields", {}).items()]

"""Command-line options of the form `key=value`, the value in YAML."""

from __future__ import annotations

from typing import Any

from nucleate.errors import ConfigError
from nucleate.yaml_text import parse_yaml


def parse_option(text: str, flag: str = "--option") -> tuple[str, Any]:
    """Parse `key=value`, the value in YAML.

    Raises:
        ConfigError: the text is not `key=value`.

    Example:
        >>> parse_option("mpp=0.25")
        ('mpp', 0.25)
    """
    key, found, value = text.partition("=")
    if not found or not key:
        raise ConfigError(f"{flag} {text!r}: write it as key=value, for example mpp=0.25.")
    return key, parse_yaml(value, f"{flag} {text!r}")


def parse_options(texts: list[str] | None, flag: str = "--option") -> dict[str, Any]:
    """Parse the values of a repeated option.

    Raises:
        ConfigError: one of them is not `key=value`.

    Example:
        >>> parse_options(["mpp=0.25", "types=4"]), parse_options(None)
        ({'mpp': 0.25, 'types': 4}, {})
    """
    return dict(parse_option(text, flag) for text in texts or [])

"""Which patient a picture is of, read from its name."""

from __future__ import annotations

import re
from collections.abc import Callable

from nucleate.errors import ConfigError


def grouping(pattern: str | None) -> Callable[[str], str]:
    """Return the function name -> group of a regular expression; None: the name itself.

    Args:
        pattern: regular expression with one group in parentheses, searched in the name.

    Raises:
        ConfigError: not such an expression; or, when called, it does not match a name.

    Example:
        >>> grouping("^(p[0-9]+)_")("p7_2")
        'p7'
    """
    if pattern is None:
        return lambda name: name
    if not isinstance(pattern, str):
        raise ConfigError(f"group: {pattern!r} must be a regular expression, in quotes.")
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"group: {pattern!r} is no regular expression ({error}).") from error
    if compiled.groups != 1:
        raise ConfigError(f"group: {pattern!r} must have exactly one group in parentheses.")

    def find(name: str) -> str:
        match = compiled.search(name)
        if match is None:
            raise ConfigError(f"group: {pattern!r} does not match {name!r}. Widen the pattern.")
        return match.group(1)

    return find

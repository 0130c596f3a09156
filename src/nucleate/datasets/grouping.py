"""The patient of an image, read from its name."""

from __future__ import annotations

import re
from collections.abc import Callable

from nucleate.errors import ConfigError

_TCGA = re.compile(r"TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}", re.IGNORECASE)


# Roboflow writes several modified copies of an image as NAME_jpg.rf.HASH
_COPY = re.compile(r"(?:_(?:jpe?g|png|tiff?|bmp|webp))?\.rf\.[0-9A-Za-z]{8,}$", re.IGNORECASE)


def _patient(name: str) -> str:
    found = _TCGA.search(name)
    return _COPY.sub("", name) if found is None else found.group(0).upper()


def grouping(pattern: str | None) -> Callable[[str], str]:
    """Build the function name -> group from a regular expression.

    Without an expression, a TCGA barcode in the name gives the patient; else all copies that
    Roboflow makes of an image are one group; else the name is its own group.

    Args:
        pattern: regular expression with one group in parentheses, searched in the name.

    Raises:
        ConfigError: an invalid expression; or, when called, a name that it does not match.

    Example:
        >>> grouping("^(p[0-9]+)_")("p7_2"), grouping(None)("a/TCGA-18-5592-01Z-00-DX1_3")
        ('p7', 'TCGA-18-5592')
        >>> grouping(None)("a_jpg.rf.0123456789abcdef")
        'a'
    """
    if pattern is None:
        return _patient
    if not isinstance(pattern, str):
        raise ConfigError(
            f"group: {pattern!r} must be text. Write the regular expression in quotes."
        )
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"group: {pattern!r} is not a valid regular expression ({error}). Correct it."
        ) from error
    if compiled.groups != 1:
        raise ConfigError(
            f"group: {pattern!r} must have exactly one group. Put the patient id of the pattern in "
            "parentheses."
        )

    def find(name: str) -> str:
        match = compiled.search(name)
        if match is None or match.group(1) is None:
            raise ConfigError(f"group: {pattern!r} does not match {name!r}. Widen the pattern.")
        return match.group(1)

    return find

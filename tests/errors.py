"""What a test looks for in an error: the subject and the remedy's key word, not a sentence."""

from __future__ import annotations

import re


def says(*words: str) -> re.Pattern[str]:
    """Return a pattern that matches a text with all of `words`, in any order and case."""
    return re.compile("".join(f"(?=.*{re.escape(word)})" for word in words), re.DOTALL | re.I)

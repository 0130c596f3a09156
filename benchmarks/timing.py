"""Timing, as all benchmarks that compare two ways in one run do it."""

from __future__ import annotations

import time
from collections.abc import Callable


def fastest(function: Callable[[], object], repeats: int) -> float:
    """Return the shortest of several runs, in seconds."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        function()
        times.append(time.perf_counter() - begun)
    return min(times)

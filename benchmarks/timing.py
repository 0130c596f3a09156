"""Timing, as all benchmarks that compare two ways in one run do it, and what it was timed on."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path

# what inference is fast by; others are on every CPU or of no use here
_INSTRUCTIONS = (
    "avx2",
    "avx512f",
    "avx_vnni",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
)


def fastest(function: Callable[[], object], repeats: int) -> float:
    """Return the shortest of several runs, in seconds."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)


def cpu_name() -> str:
    """Return the CPU's name and those of its instruction sets that inference is fast by."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine()
    lines = dict(
        (part.strip() for part in line.split(":", 1))
        for line in info.read_text().splitlines()
        if ":" in line
    )
    flags = lines.get("flags", "").split()
    there = [name for name in _INSTRUCTIONS if name in flags]
    return f"{lines.get('model name', platform.machine())} ({', '.join(there) or 'no AVX2'})"

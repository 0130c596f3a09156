"""numba settings of this folder: compile once, cache on disk."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache


class _Cache(FunctionCache):  # type: ignore[misc]
    """numba's disk cache, made to tolerate a full or unreadable disk."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the cached code, or None if there is none."""
        with contextlib.suppress(OSError):
            return super().load_overload(sig, target_context)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Cache the compiled code, if the disk allows it."""
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile with a disk cache if there is a writable place for it, else in memory."""
    compiled: Any = njit(nogil=True)(function)
    with contextlib.suppress(RuntimeError):  # read-only installation and no home directory
        compiled._cache = _Cache(function)  # as njit(cache=True), with another cache class
    return compiled  # type: ignore[no-any-return]

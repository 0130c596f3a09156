"""numba as the loops of this folder use it: compiled once, kept on disk."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache


class _Cache(FunctionCache):  # type: ignore[misc]
    """numba's cache on disk, which a full disk or one that cannot be read does not stop."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what was compiled before; None where there is nothing to read."""
        with contextlib.suppress(OSError):
            return super().load_overload(sig, target_context)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled, if the disk takes it."""
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile with an on-disk cache where a writable place for one exists, else in memory."""
    compiled: Any = njit(nogil=True)(function)
    with contextlib.suppress(RuntimeError):  # read-only installation and no home directory
        compiled._cache = _Cache(function)  # what njit(cache=True) does, with its own class
    return compiled  # type: ignore[no-any-return]

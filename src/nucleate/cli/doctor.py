"""nucleate doctor."""

from __future__ import annotations

import typer

from nucleate.cli.terminal import (
    answer,
    show,
)


def doctor() -> None:
    """Show what is installed, what works and what is missing.

    Example:
      nucleate doctor
    """
    from nucleate.doctor import diagnose

    lines, healthy = diagnose()
    answer(healthy=healthy, lines=lines)
    for line in lines:
        show(line)
    if not healthy:
        raise typer.Exit(2)

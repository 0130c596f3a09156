"""Options of every command: --json, --quiet and --verbose; and examples that keep their lines."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable
from typing import Annotated, Any

import typer

from nucleate._version import __version__
from nucleate.cli.terminal import answering, command_line, hushed, say

_COMMON = {
    "as_json": typer.Option(
        "--json", help="Print the result as one JSON object on stdout, and nothing else."
    ),
    "quiet": typer.Option("--quiet", "-q", help="Print only the result and errors."),
    "verbose": typer.Option(
        "--verbose",
        "-v",
        help="Show version, processor and time, and the traceback of an error.",
    ),
}


def equip(app: typer.Typer) -> None:
    """Add the common options to every command, including those of groups."""
    for group in app.registered_groups:
        if group.typer_instance is not None:
            equip(group.typer_instance)
    for command in app.registered_commands:
        if command.callback is not None:
            # Click: \b marks a paragraph whose lines are kept
            text = inspect.getdoc(command.callback) or ""
            command.help = text.replace("\n\nExample", "\n\n\b\nExample")
            command.callback = _with_sentences(command.callback)


def leaves(command: Any, words: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:  # noqa: ANN401
    """Return every command below a Click command, with the words that call it.

    Example:
        >>> from nucleate.cli import app
        >>> from typer.main import get_command
        >>> ("data", "check") in [words for words, _ in leaves(get_command(app))]
        True
    """
    below = getattr(command, "commands", None)
    if below is None:
        return [(words, command)]
    return [leaf for name, sub in below.items() for leaf in leaves(sub, (*words, name))]


def _with_sentences(run: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a command so that it handles the common options."""

    @functools.wraps(run)
    def command(
        *words: object,
        as_json: bool = False,
        quiet: bool = False,
        verbose: bool = False,
        **options: object,
    ) -> Any:  # noqa: ANN401
        began = time.perf_counter()
        if verbose:
            say(
                f"nucleate {__version__}, Python {platform.python_version()}, "
                f"{os.cpu_count()} cores: {command_line()}"
            )
        try:
            with contextlib.ExitStack() as stack:
                if as_json:
                    nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                    stack.enter_context(answering(sys.stdout))
                    stack.enter_context(contextlib.redirect_stdout(nowhere))
                if quiet:
                    stack.enter_context(hushed())
                return run(*words, **options)
        except Exception:
            if verbose:
                traceback.print_exc()
            raise
        finally:
            if verbose:
                say(f"{time.perf_counter() - began:.1f} s")

    # Typer reads the options from the signature
    own = inspect.signature(run, eval_str=True)
    common = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=False,
            annotation=Annotated[bool, option],
        )
        for name, option in _COMMON.items()
    ]
    command.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=[*own.parameters.values(), *common]
    )
    command.__annotations__ = {
        **run.__annotations__,
        **{each.name: each.annotation for each in common},
    }
    return command

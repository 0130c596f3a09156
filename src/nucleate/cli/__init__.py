"""The command line: parse → config → call."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Annotated

import typer
from typer.main import get_command

from nucleate._version import __version__
from nucleate.cli import (
    data,
    doctor,
    evaluate,
    experiment,
    export,
    prepare,
    pretrain,
    segment,
    stain,
    train,
    view,
)
from nucleate.cli.common import equip
from nucleate.cli.terminal import fail, say, show
from nucleate.errors import NucleateError, explain_os_error, without_secrets

app = typer.Typer(
    name="nucleate",
    help="Find every cell nucleus in H&E-stained tissue.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
    segment.segment,
    segment.demo,
    export.export,
    export.package,
    view.view,
    view.serve,
    train.train,
    experiment.crossval,
    experiment.quantise,
    evaluate.evaluate,
    experiment.compare,
    experiment.report,
    prepare.prepare,
    doctor.doctor,
):
    app.command()(_command)
app.add_typer(data.app, name="data")
app.add_typer(stain.app, name="stain")
app.add_typer(pretrain.app, name="pretrain")
equip(app)


def version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        show(f"nucleate {__version__}")
        raise typer.Exit


@app.callback()
def root_options(
    _: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Find every cell nucleus in H&E-stained tissue."""


def _terminated(*_: object) -> None:
    """Exit cleanly on SIGTERM, and stop the processes that were started."""
    raise KeyboardInterrupt


def _warned(message: Warning | str, *_: object, **__: object) -> None:
    """Say what Python would say with the line of code that warns."""
    say(f"warning: {without_secrets(str(message))}")


def _keep_out_of_home() -> None:
    """Let matplotlib list its fonts beside what is compiled; Lightning imports it unasked.

    Where that folder cannot be written, the list is in a temporary one until the end.
    """
    compiled = Path(__file__).parents[1] / "__pycache__"
    if "MPLCONFIGDIR" in os.environ:
        return
    if os.access(compiled, os.W_OK):
        place = compiled / "matplotlib"
    else:
        place = Path(tempfile.mkdtemp(prefix="nucleate-"))
        atexit.register(shutil.rmtree, place, ignore_errors=True)
    os.environ["MPLCONFIGDIR"] = str(place)


def main() -> None:
    """Run the command line; every foreseen error is one sentence on stderr and exit code 2."""
    signal.signal(signal.SIGTERM, _terminated)
    warnings.showwarning = _warned
    _keep_out_of_home()
    try:
        code = get_command(app)(prog_name="nucleate", standalone_mode=False)
        if code == 130:  # the parser makes an exit of what interrupts it
            raise KeyboardInterrupt
    except NucleateError as error:
        code = fail(str(error))
    except KeyboardInterrupt:
        code = fail("interrupted.", 130)
    except OSError as error:
        code = fail(explain_os_error(error, error.filename or "output"))
    except Exception as error:
        # usage errors of the parser carry their sentence; anything else is a bug: show it
        if not hasattr(error, "format_message"):
            raise
        message = error.format_message().rstrip(".")
        if "\n" in message:  # a command without its subcommand: the parser gives the help itself
            show(message)
            code = 2
        else:
            code = fail(f"{message}. See nucleate --help.")
    sys.exit(code if isinstance(code, int) else 0)

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
    help="Segment cell nuclei in H&E-stained tissue.",
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
    """Print the version and exit."""
    if wanted:
        show(f"nucleate {__version__}")
        raise typer.Exit


@app.callback()
def root_options(
    _: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Segment cell nuclei in H&E-stained tissue."""


def _terminated(*_: object) -> None:
    """Exit cleanly on SIGTERM, and stop child processes."""
    raise KeyboardInterrupt


def _warned(message: Warning | str, *_: object, **__: object) -> None:
    """Print a Python warning without the source line."""
    say(f"warning: {without_secrets(str(message))}")


def _keep_out_of_home() -> None:
    """Keep matplotlib's font list, which Lightning triggers, out of the home directory.

    It is stored beside the compiled code, or in a temporary folder if that is not writable.
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
    """Run the command line; expected errors print one sentence on stderr and exit with code 2."""
    signal.signal(signal.SIGTERM, _terminated)
    warnings.showwarning = _warned
    _keep_out_of_home()
    try:
        code = get_command(app)(prog_name="nucleate", standalone_mode=False)
        if code == 130:  # Click returns this code for an interrupt
            raise KeyboardInterrupt
    except NucleateError as error:
        code = fail(str(error))
    except KeyboardInterrupt:
        code = fail("interrupted.", 130)
    except OSError as error:
        code = fail(explain_os_error(error, error.filename or "output"))
    except Exception as error:
        # usage errors of Click have a message; any other exception is a bug and gets a traceback
        if not hasattr(error, "format_message"):
            raise
        message = error.format_message().rstrip(".")
        if "\n" in message:  # a group without a subcommand: the message is the help text
            show(message)
            code = 2
        else:
            command = getattr(getattr(error, "ctx", None), "command_path", "nucleate")
            end = "" if message.endswith("?") else "."
            code = fail(f"{message}{end} See {command} --help.")
    sys.exit(code if isinstance(code, int) else 0)

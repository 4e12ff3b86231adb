"""The program: its commands, and how it ends. Exit codes: 0 right, 1 wrong, 2 misuse, 3 device, 4 unresolved."""

from __future__ import annotations

import io
import signal
import sys
import traceback
from types import FrameType
from typing import Annotated

import typer

from harness import __version__
from harness.cli import screen
from harness.cli.commands import Commands
from harness.core.errors import EXIT_DEFECT, DeviceError, HarnessError
from harness.core.private import owner_only
from harness.core.signals import ENDING

app = typer.Typer(
    cls=Commands,
    help="Find the op that breaks a model on an on-device GPU.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        screen.out.print(f"harness {__version__}")
        raise typer.Exit


class _Interrupted(BaseException):
    """A signal to end; not KeyboardInterrupt, which the command-line library would turn into exit code 1."""


def _interrupt(number: int, frame: FrameType | None) -> None:
    for other in ENDING:
        signal.signal(other, signal.SIG_IGN)  # one is enough; the next would cut the tidying short
    raise _Interrupted(number)


def _run() -> None:
    try:
        with owner_only():
            app()
    except MemoryError as error:  # no estimate knows it all
        raise screen.no_memory(error) from None


def printable() -> None:
    """Show as escapes what the locale's encoding cannot say, rather than end with an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Entry point: a fault of the user's or the device's becomes one sentence and its exit code; SIGINT, SIGTERM and
    SIGHUP end a command in order, with the code that a shell gives them."""
    for number in ENDING:
        signal.signal(number, _interrupt)
    printable()
    try:
        _run()
    except HarnessError as error:
        screen.print_error(error)
        screen.print_failure(str(error), trouble=error.trouble if isinstance(error, DeviceError) else None)
        sys.exit(error.exit_code)
    except Exception:  # noqa: BLE001 - ours: a traceback, and a code that cannot be read as "numerically wrong"
        traceback.print_exc()
        sys.exit(EXIT_DEFECT)
    except _Interrupted as signalled:
        more = (
            " The same command again continues it."
            if sys.argv[1:2] == ["localize"]
            or sys.argv[1:3] == ["farm", "run"]
            or (sys.argv[1:2] == ["matrix"] and any(word.startswith("--device") for word in sys.argv))
            else ""
        )
        screen.err.print(f"Interrupted; what was written is kept.{more}")
        screen.print_failure("Interrupted.")
        sys.exit(128 + signalled.args[0])

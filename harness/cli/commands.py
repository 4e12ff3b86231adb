"""Every command with its line of help, and where it is: a module is imported when its command is asked for.

So `harness --help`, `--version` and the completion of names import none of them. To add a command: a function in a
module of this folder that takes typer's options, and its line here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from harness.cli.screen import print_failure
from harness.core.errors import EXIT_MISUSE

# What the library raises for words that it cannot take; it is public only by way of its heirs.
ClickError: type[Exception] = typer.BadParameter.__mro__[2]


@dataclass(frozen=True)
class CommandEntry:
    """Where a command is: `place` is module:function, or module:app for a group of commands."""

    place: str
    line: str
    example: str = ""

    def load(self, name: str) -> Any:
        """The library's own command."""
        module, _, attribute = self.place.partition(":")
        found = getattr(import_module(f"harness.cli.{module}"), attribute)
        if isinstance(found, typer.Typer):
            return get_group(found)
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command(name=name, epilog=f"Example: {self.example}" if self.example else None)(found)
        return get_command(app)


COMMANDS: dict[str, CommandEntry] = {
    "demo": CommandEntry(
        "demo:demo_command",
        "The SAM 2.1 mask decoder as first published: ops that break it, the rule, the cures.",
        "harness demo",
    ),
    "doctor": CommandEntry("machine:doctor", "Check that everything is here, by using it.", "harness doctor"),
    "devices": CommandEntry("machine:devices", "List what --device can name here.", "harness devices"),
    "audit": CommandEntry(
        "models:audit", "Count ops and ranks, and list what the GPU refuses.", "harness audit model.tflite"
    ),
    "lint": CommandEntry(
        "lint:lint_command",
        "Look in the file alone for what a GPU refuses or computes wrongly.",
        "harness lint model.tflite",
    ),
    "run": CommandEntry(
        "models:run", "Run a model and keep its outputs.", "harness run model.tflite --inputs inputs.npz"
    ),
    "compare": CommandEntry(
        "models:compare",
        "Compare a model's outputs with the host CPU's.",
        "harness compare model.tflite --inputs inputs.npz --min-cosine 0.999",
    ),
    "localize": CommandEntry(
        "models:localize",
        "Name the ops that break a model, why, and what mends it.",
        "harness localize model.tflite --inputs inputs.npz",
    ),
    "dump": CommandEntry(
        "models:dump", "Write every op's result from device and host.", "harness dump model.tflite --inputs inputs.npz"
    ),
    "bisect-runtime": CommandEntry(
        "models:bisect_runtime",
        "Say which release of the host's runtime broke or mended a model.",
        "harness bisect-runtime model.tflite --from 2.1.3",
    ),
    "bench": CommandEntry(
        "bench:bench_command",
        "Measure latency so that a wrong figure says so.",
        "harness bench model.tflite --accelerator cpu --accelerator gpu --quick",
    ),
    "runs": CommandEntry("folders:runs", "List the runs in a results folder, newest first.", "harness runs"),
    "report": CommandEntry("folders:report", "Write a run's report.html anew.", "harness report latest"),
    "export": CommandEntry(
        "folders:export_command",
        "Write a run's ops in the form that another tool takes.",
        "harness export latest --format csv",
    ),
    "dashboard": CommandEntry(
        "folders:dashboard_command", "Build a static site over all runs of a results folder.", "harness dashboard"
    ),
    "matrix": CommandEntry(
        "across.matrix:matrix_command",
        "Show many runs as one page; with --device, what a device makes of every op.",
        "harness matrix",
    ),
    "app": CommandEntry("machine:app", "Put the app on a phone before the first job."),
    "farm": CommandEntry("farm:app", "Many phones on many hosts: a matrix of jobs."),
    "schema": CommandEntry(
        "machine:schema", "Print the JSON Schema of what the harness prints or writes.", "harness schema localize"
    ),
    "sam2": CommandEntry("sam2:app", "The reference workload: SAM 2.1 Hiera-Tiny."),
}


class _Unloaded(TyperCommand):
    """Stands for a command until it is asked for more than its name and its line of help."""

    def __init__(self, name: str, entry: CommandEntry) -> None:
        super().__init__(name, help=entry.line)
        self._entry = entry

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        assert self.name is not None
        return self._entry.load(self.name).make_context(info_name, args, parent=parent, **extra)


class Commands(TyperGroup):
    """The program's commands, of which none is loaded before it is asked for."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {name: _Unloaded(name, entry) for name, entry in COMMANDS.items()}

    def main(self, args: Sequence[str] | None = None, *words: Any, **extra: Any) -> NoReturn:
        """Run what the words ask for, and end the process with its code."""
        extra["standalone_mode"] = False
        try:
            code = super().main(args, *words, **extra)
        except ClickError as error:
            from typer.rich_utils import rich_format_error

            rich_format_error(error)  # type: ignore[arg-type]
            message = getattr(error, "format_message", error.__str__)()
            print_failure(message or "A command is missing.", args)
            sys.exit(getattr(error, "exit_code", EXIT_MISUSE))
        sys.exit(code if isinstance(code, int) else 0)

"""The command line. It begins in `main`: signals are taken before anything large is imported, which lasts seconds."""

from __future__ import annotations

import os
import signal
from types import FrameType

from harness.core.signals import ENDING


def main() -> None:
    """Load the command line and run it. A signal before it is loaded ends the program at once: nothing is begun yet."""
    for number in ENDING:
        signal.signal(number, _end)
    from harness.cli.app import main as command_line

    command_line()


def _end(number: int, frame: FrameType | None) -> None:
    # Not an exception: modules that are half imported may take it for a fault of their own.
    os.write(2, b"Interrupted.\n")
    os._exit(128 + number)

"""Android's commands on the stand-in, `COMMAND WORDS…` on the command line: exactly those that the harness uses.

Anything else (another command, another argument, another property) fails with exit code 64 and says so in unknown.log,
which the tests look at. The printed forms are those of Android 14; what is known is in `system/state.py`. Runs with
`-IS`, on the standard library and these files alone, and imports what a command needs when that is called: thousands of
them run in the tests, and most of their time is the start.
"""

from __future__ import annotations

import importlib
import sys

# Each command's module in `system`, and the function there where its name is another.
COMMANDS = {
    "am": "activities",
    "cat": "files",
    "chmod": "files",
    "cmd": "condition",
    "dumpsys": "condition",
    "getprop": "condition",
    "input": "condition.press",
    "logcat": "log",
    "mkdir": "files",
    "mv": "files",
    "pidof": "processes",
    "pkill": "processes",
    "pm": "packages",
    "rm": "files",
    "sha256sum": "files",
    "timeout": "files",
}


def main() -> int:
    command, *words = sys.argv[1:]
    module, _, name = COMMANDS[command].partition(".")
    called = getattr(importlib.import_module(f"tests.standin.system.{module}"), name or command)
    return int(called(words))

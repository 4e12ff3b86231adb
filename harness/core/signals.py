"""Signals: those that end a command in order, those that come from outside, and their names."""

from __future__ import annotations

import signal

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Signals that come from outside, that of a system without memory too; code that fails gets SIGSEGV, SIGABRT, SIGBUS,
# SIGILL or SIGFPE.
OUTSIDE = frozenset({"SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"})


def signal_name(number: int) -> str:
    """`SIGSEGV`; a signal without a name by its number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

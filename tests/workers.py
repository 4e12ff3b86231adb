"""The host's worker processes as the system shows them."""

from __future__ import annotations

import psutil

SERVER = "harness.devices.host.fork_server"
"""In the command line of the process that workers are forked from, and so in theirs."""


def workers_of(pid: int) -> list[psutil.Process]:
    """The workers of a command, forked ones and those by themselves."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        try:
            words, parent = process.cmdline(), process.parent()
            forked = SERVER in words and parent is not None and SERVER in parent.cmdline()
        except psutil.NoSuchProcess:  # a zombie is one of these
            continue
        if forked or "harness.devices.worker" in words:
            found.append(process)
    return found

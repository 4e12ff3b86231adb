"""A program's output, taken with a deadline and a bound: what is on the other side decides neither how long nor how
much."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MOST = 4 << 20
"""Bytes of output: `dumpsys` of a phone's package manager or of its crash buffer is under 2 MiB."""

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Captured:
    """Both output streams together, at most `MOST` bytes; the exit code, None where the program was killed, for its
    `time` or for its `size`."""

    output: str
    code: int | None
    killed: Literal["", "time", "size"] = ""


def captured(command: Sequence[str], seconds: float) -> Captured:
    """Run a program with no input for at most so many seconds and `MOST` bytes, and kill it at either.

    Raises:
        OSError: it cannot be started.
    """
    deadline = time.monotonic() + seconds
    said = bytearray()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    ) as process:
        assert process.stdout is not None
        try:
            killed = _read(process.stdout.fileno(), said, deadline)
            code = None if killed else process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            killed, code = "time", None
        finally:
            if process.poll() is None:
                process.kill()
    return Captured(bytes(said[:MOST]).decode("utf-8", "replace"), code, killed)


def _read(descriptor: int, into: bytearray, deadline: float) -> Literal["", "time", "size"]:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLHUP)
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(1000 * left):
            return "time"
        chunk = os.read(descriptor, _CHUNK)
        if not chunk:
            return ""
        into += chunk
        if len(into) > MOST:
            return "size"

"""A program's output, taken with a deadline and a bound: what is on the other side decides neither how long nor how
much."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

MOST = 4 << 20
"""Bytes of output, where nothing else is asked: `dumpsys` of a phone's package manager or of its crash buffer is under
2 MiB."""

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Captured:
    """The output, as much as was asked for at most; the exit code, None where the program was killed, for its `time` or
    for its `size`."""

    output: str
    code: int | None
    killed: Literal["", "time", "size"] = ""


def captured(
    command: Sequence[str],
    seconds: float,
    *,
    most: int = MOST,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    stderr: IO[bytes] | int = subprocess.STDOUT,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    own_session: bool = False,
) -> Captured:
    """Run a program for at most so many seconds and `most` bytes of output, and kill it at either. It has no input and
    both its streams are captured, unless files are given; with `own_session` Ctrl-C is the caller's alone.

    Raises:
        OSError: it cannot be started.
    """
    deadline = time.monotonic() + seconds
    said = bytearray()
    with subprocess.Popen(
        command,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        bufsize=0,
        cwd=cwd,
        env=env,
        start_new_session=own_session,
    ) as process:
        assert process.stdout is not None
        try:
            killed = _read(process.stdout.fileno(), said, deadline, most)
            code = None if killed else process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            killed, code = "time", None
        finally:
            if process.poll() is None:
                process.kill()
    return Captured(bytes(said[:most]).decode("utf-8", "replace"), code, killed)


def _read(descriptor: int, into: bytearray, deadline: float, most: int) -> Literal["", "time", "size"]:
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
        if len(into) > most:
            return "size"

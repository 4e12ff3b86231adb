"""Workers forked from a process that has the runtime imported, as seen from here."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import weakref
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from harness.devices.host.fork_server import FATE
from harness.devices.link import ready

START_SECONDS = 60.0
"""For the first worker, which waits for the imports. One that takes longer is started by itself."""
REAP_SECONDS = 5.0
_SERVERS = 2
_OF_THE_MOMENT = "PYTEST_CURRENT_TEST"
"""Another value with every test; nothing that a worker does follows from it."""


class Forked:
    """A worker's process, with what a launcher uses of `subprocess.Popen`."""

    def __init__(self, pid: int, fate: socket.socket, server: _Server) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._fate = fate
        self._server: _Server | None = server  # which lives as long as one of its workers does

    def poll(self) -> int | None:
        """The exit code, or a signal's number with a minus; None while it runs."""
        return self.returncode if self._told(0.0) else None

    def wait(self, timeout: float | None = None) -> int:
        """The same once it has ended. Raises `subprocess.TimeoutExpired` after `timeout` seconds."""
        while not self._told(REAP_SECONDS if timeout is None else timeout):
            if timeout is not None:
                raise subprocess.TimeoutExpired("harness.devices.worker", timeout)
            if _is_dead(self.pid):  # and its server, which would tell, is stopped
                self._end(None)
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        """SIGKILL, where it still runs."""
        if not self._told(0.0):
            os.kill(self.pid, signal.SIGKILL)

    def _told(self, timeout: float | None) -> bool:
        if self.returncode is None:
            if not ready(self._fate, timeout):
                return False
            self._end(_number(self._fate))
        return True

    def _end(self, code: int | None) -> None:
        """`code` is None without a word: its server has died, and it with it."""
        self.returncode = -signal.SIGKILL if code is None else code
        with suppress(OSError), self._fate:
            self._fate.shutdown(socket.SHUT_WR)  # the zombie may go
            if code is not None and ready(self._fate, REAP_SECONDS):
                self._fate.recv(1)
        self._server = None


def fork(
    python: str, environment: dict[str, str], own: dict[str, str], folder: Path, store: str, peer: int, log: int
) -> Forked | None:
    """A worker in `folder` that serves descriptor `peer` and logs into `log`, in `environment` and with what is its
    `own` besides. None where this system forks none or the server does not serve: a process of its own says why.

    Raises:
        OSError: `python` cannot be started.
    """
    if sys.platform != "linux":  # elsewhere what numpy and the runtime load may not be forked
        return None
    lasting = {name: value for name, value in environment.items() if name != _OF_THE_MOMENT}
    server = _server(os.getpid(), python, tuple(sorted(lasting.items())))
    request = {"folder": str(folder), "store": store, "environment": own}
    forked = server.fork(json.dumps(request).encode(), peer, log)
    if forked is None:
        _server.cache_clear()
    return forked


class _Server:
    def __init__(self, python: str, environment: dict[str, str]) -> None:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with there:
            process = subprocess.Popen(
                # Without -P, and elsewhere, it would import what lies in the user's folder.
                [python, "-P", "-m", "harness.devices.host.fork_server", str(there.fileno())],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        self._control = here
        weakref.finalize(self, _end, here, process, os.getpid())

    def fork(self, request: bytes, peer: int, log: int) -> Forked | None:
        """None where it does not serve."""
        fate, theirs = socket.socketpair()
        pid = None
        with theirs, suppress(OSError):
            socket.send_fds(self._control, [request], [peer, log, theirs.fileno()])
        if ready(fate, START_SECONDS):
            pid = _number(fate)
        if pid is None:
            fate.close()
            return None
        return Forked(pid, fate, self)


@lru_cache(_SERVERS)
def _server(owner: int, python: str, environment: tuple[tuple[str, str], ...]) -> _Server:
    return _Server(python, dict(environment))


def _end(control: socket.socket, process: subprocess.Popen[bytes], owner: int) -> None:
    if os.getpid() == owner:  # not in a process that was forked from it, which may hold the socket open
        with suppress(OSError):
            control.shutdown(socket.SHUT_RDWR)
        try:
            process.wait(REAP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    control.close()


def _is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def _number(fate: socket.socket) -> int | None:
    try:
        said = fate.recv(FATE.size, socket.MSG_WAITALL)
    except OSError:
        return None
    return int(FATE.unpack(said)[0]) if len(said) == FATE.size else None

"""The process that workers are forked from: `python -m harness.devices.host.fork_server FD`.

To import numpy and the runtime takes a process longer than most jobs do. This one does it once. A message on descriptor
FD, with the worker's end of the wire, its log and a socket for its fate, makes a worker; that socket gets the process
id, and how the process ended once it has. An ended worker stays a zombie until the asker closes the far end, so that
its process id names no other process meanwhile. The end of FD's far end ends this process, and its workers with it.

As the worker itself, this imports nothing of the harness that another release's environment may lack.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import struct
import sys
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from harness.devices.link import Link
from harness.devices.worker import Worker, die_with_parent

FATE = struct.Struct("<i")
"""Of what a fate's socket gets: the process id, and later the exit code, or a signal's number with a minus."""
LOOK_SECONDS = 2.0
LARGEST = 1 << 16
"""Bytes of a request."""
_PRELOADED = ("ai_edge_litert.compiled_model", "ai_edge_litert.interpreter")
_CARRIED = 3


@dataclass
class _Child:
    pid: int
    fate: socket.socket
    ended: bool = False


class ForkServer:
    """Forks workers, and tells each one's fate to whoever asked for it."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._selector = selectors.DefaultSelector()
        self._woken, self._wakes = socket.socketpair()
        self._children: dict[int, _Child] = {}

    def serve(self) -> None:
        """Until the far end of the control socket is closed, or the process that started this one is gone."""
        for end in (self._woken, self._wakes):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wakes.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._control, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        parent = os.getppid()
        while os.getppid() == parent:  # a process that the parent forked may hold the far end open
            for key, _ in self._selector.select(LOOK_SECONDS):
                if key.fileobj is self._control:
                    if not self._asked():
                        return
                elif key.fileobj is self._woken:
                    self._woken.recv(4096)
                    self._tell()
                else:
                    self._forget(key.data)

    def _asked(self) -> bool:
        said, descriptors, _, _ = socket.recv_fds(self._control, LARGEST, _CARRIED)
        if not said:
            return False
        here, pid = os.getpid(), _fork() if len(descriptors) == _CARRIED else None
        if pid is None:  # no room for a process, or for its descriptors: the asker sees the end of its socket
            for descriptor in descriptors:
                os.close(descriptor)
            return True
        peer, log, end = descriptors
        if not pid:
            self._become_worker(here, peer, log, end, json.loads(said))
        for descriptor in (peer, log):
            os.close(descriptor)
        child = _Child(pid, socket.socket(fileno=end))
        self._children[pid] = child
        self._selector.register(child.fate, selectors.EVENT_READ, child)
        self._say(child, pid)
        return True

    def _tell(self) -> None:
        for child in self._children.values():
            if child.ended:
                continue
            found = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is not None:
                child.ended = True
                self._say(child, found.si_status if found.si_code == os.CLD_EXITED else -found.si_status)

    def _say(self, child: _Child, number: int) -> None:
        with contextlib.suppress(OSError):  # nobody waits for it any more
            child.fate.send(FATE.pack(number))

    def _forget(self, child: _Child) -> None:
        """Its asker is done with it, and sees by the end of the socket that it is no more."""
        self._selector.unregister(child.fate)
        del self._children[child.pid]
        if not child.ended:
            os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
        child.fate.close()

    def _become_worker(self, parent: int, peer: int, log: int, end: int, request: dict[str, Any]) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._selector.close()
            for kept in (self._control, self._woken, self._wakes, *(child.fate for child in self._children.values())):
                kept.close()
            os.close(end)
            os.setsid()
            die_with_parent()
            if os.getppid() != parent:
                os._exit(1)
            for standard in (1, 2):
                os.dup2(log, standard)
            os.close(log)
            os.chdir(request["folder"])
            os.environ.update(request["environment"])
            with socket.socket(fileno=peer) as wire:
                Worker(Link(wire), Path(request["store"])).serve()
            code = 0
        except BaseException:  # noqa: BLE001 - nothing of a worker may go on in its server's place
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)


def _fork() -> int | None:
    """As `os.fork`; None where this system has no room for another process."""
    with warnings.catch_warnings():
        # numpy's BLAS has threads of its own, which it starts again in a child.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return os.fork()
        except OSError:
            return None


def main() -> None:
    """Serve the descriptor named on the command line."""
    for name in _PRELOADED:
        with contextlib.suppress(Exception):  # the worker that needs it says why it cannot be had
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as control:
        ForkServer(control).serve()


if __name__ == "__main__":
    main()

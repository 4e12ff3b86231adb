"""The phone's system: a process that runs its commands, each in a fork of its own with the caller's streams.

`server.py ROOT SOCKET` answers `call.py` there until it is killed.
"""

from __future__ import annotations

import array
import os
import signal
import socket
import sys
import traceback
from pathlib import Path

STREAMS = 3


def received(caller: socket.socket) -> list[str]:
    """The words of a call, whose streams are this process' from now on."""
    descriptors = array.array("i")
    size, sent, _, _ = caller.recvmsg(4, socket.CMSG_LEN(STREAMS * descriptors.itemsize))
    for _, _, data in sent:
        descriptors.frombytes(data)
    for stream, descriptor in enumerate(descriptors):
        os.dup2(descriptor, stream)
        os.close(descriptor)
    text = bytearray()
    while len(text) < int.from_bytes(size, "big"):
        piece = caller.recv(1 << 16)
        if not piece:
            raise EOFError("half a call")
        text += piece
    return text.decode("utf-8", "surrogateescape").split("\0")


def run(caller: socket.socket) -> int:
    """The exit code of a call."""
    from tests.standin.shims import main

    try:
        sys.argv[1:] = received(caller)
        return main()
    except SystemExit as ended:
        assert isinstance(ended.code, int)
        return ended.code
    except BaseException:  # noqa: BLE001 - as the end of any Python process
        traceback.print_exc()
        return 1


def serve(path: Path) -> None:
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a call's process
    while True:
        caller, _ = listening.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a command waits for what it starts
            listening.close()
            code = run(caller)
            sys.stdout.flush()
            sys.stderr.flush()
            caller.sendall(bytes([code]))
            os._exit(0)
        caller.close()


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    from tests.standin.system import activities, apk, condition, files, log, packages, processes  # noqa: F401

    serve(Path(sys.argv[2]))

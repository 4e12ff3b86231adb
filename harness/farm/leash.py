"""`python -m harness.farm.leash COMMAND…`: runs a command that ends when whoever started it does.

Its standard input is a pipe that nobody writes to. When that closes, by intent or because its other end died, the
command and all that it started are told to end, and killed where they do not.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

GRACE_SECONDS = 15.0


def main() -> int:
    """Run it; the exit code is the command's, 128 + N where signal N ended it."""
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)

    def end() -> None:
        for number, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, GRACE_SECONDS)):
            with suppress(ProcessLookupError):
                os.killpg(child.pid, number)
            with suppress(subprocess.TimeoutExpired):
                child.wait(seconds)
                break

    def watch() -> None:
        with suppress(OSError):
            while os.read(0, 1024):
                pass
        end()

    signal.signal(signal.SIGTERM, lambda number, frame: threading.Thread(target=end, daemon=True).start())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=watch, daemon=True).start()
    code = child.wait()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)  # what it left behind
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    code = main()
    os._exit(code)  # the thread that reads is no reason to wait

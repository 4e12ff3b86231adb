"""Becomes a browser whose DevTools pipe is a pair of given descriptors: `start.py COMMANDS EVENTS PROGRAM ARGUMENT…`.

A browser reads DevTools commands from descriptor 3 and writes to 4. It is run by its path with nothing of the package,
so that it starts at once, and asks Linux to end the browser with the process that started it.
"""

import fcntl
import os
import signal
import sys


def main() -> None:
    """Replace this process by the browser."""
    commands, events = int(sys.argv[1]), int(sys.argv[2])
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    # Out of the way first: one of them may be 3 or 4 already.
    high = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 10) for number in (commands, events)]
    for number in (commands, events):
        os.close(number)
    for number, wanted in zip(high, (3, 4), strict=True):
        os.dup2(number, wanted, inheritable=True)
    os.execv(sys.argv[3], sys.argv[3:])


if __name__ == "__main__":
    main()

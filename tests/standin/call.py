"""What each of the phone's commands starts: hands `COMMAND WORDS…` and its own standard streams to the phone's system
(`system/server.py`), which has all modules by now.

A command that lives with its process (it waits for its input or for the end of its caller, or starts the app) runs
here, and so does each where the system does not answer. Thousands of these processes run in the tests, and their start
is most of their time: hence no module that is not needed, `socket` and `os` among them.
"""

import sys
from _socket import AF_UNIX, SCM_RIGHTS, SOL_SOCKET, socket

LOST = 255


def answer(path: str, words: list[str]) -> int | None:
    """The exit code; None where nobody answers at `path`."""
    system = socket(AF_UNIX)
    try:
        system.connect(path)
    except OSError:
        return None
    text = "\0".join(words).encode("utf-8", "surrogateescape")
    streams = b"".join(descriptor.to_bytes(4, sys.byteorder) for descriptor in (0, 1, 2))
    system.sendmsg([len(text).to_bytes(4, "big")], [(SOL_SOCKET, SCM_RIGHTS, streams)])
    system.sendall(text)
    code = system.recv(1)
    return code[0] if code else LOST


def main() -> int:
    root, path, *words = sys.argv[1:]
    lives = words[0] in ("logcat", "timeout") or words[:2] == ["am", "instrument"]
    code = None if lives else answer(path, words)
    if code is not None:
        return code
    sys.path.insert(0, root)
    sys.argv[1:] = words
    from tests.standin.shims import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())

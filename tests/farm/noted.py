"""A log for what is real: who used a phone, and when.

`python noted.py job FOLDER WORDS…` is `harness WORDS…`, and writes in FOLDER/<device>.log as `program.py` does.
`python noted.py app FOLDER NAME COMMAND…` becomes the app of a stand-in phone: the phone itself writes each start of it
in FOLDER/<NAME>.app, and OVERLAP where the one before still runs. Standard library alone.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

# The app before was ended by force: the kernel has its locks for some moments more.
END_SECONDS = 5.0


def note(path: Path, words: Iterable[str]) -> None:
    with path.open("a") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        log.write(f"{' '.join(words)} {time.monotonic():.4f}\n")


def held(path: Path, seconds: float) -> bool:
    """Whether it could be had; held then until this process ends, and what it becomes."""
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    os.set_inheritable(file, True)
    deadline = time.monotonic() + seconds
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)


def job(folder: Path, words: list[str]) -> int:
    plain = words[words.index("--device") + 1].replace(":", "_")
    log, command = folder / f"{plain}.log", [words[0], Path(words[1]).name]
    if not held(folder / f"{plain}.busy", 0.0):
        note(log, ["OVERLAP", *command])
        return 70
    note(log, ["probe" if words[0] == "run" else "begin", *command])
    code = subprocess.run([sys.executable, "-m", "harness", *words], check=False).returncode
    if words[0] != "run":
        note(log, ["end" if code in (0, 1, 4) else "fail", *command])
    return code


def main() -> int:
    kind, folder, *words = sys.argv[1:]
    if kind == "job":
        return job(Path(folder), words)
    name, *command = words
    note(Path(folder) / f"{name}.app", ["start" if held(Path(folder) / f"{name}.on", END_SECONDS) else "OVERLAP"])
    os.execv(command[0], command)


if __name__ == "__main__":
    sys.exit(main())

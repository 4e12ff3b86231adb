"""What the stand-in's commands know of their phone: files in the folder that $STANDIN names, and the app's process."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

STATE = Path(os.environ["STANDIN"])
PACKAGE = "dev.litertharness"
APK = Path(f"/data/app/~~standin/{PACKAGE}-1/base.apk")


def unknown() -> NoReturn:
    with (STATE / "unknown.log").open("a") as log:
        log.write(" ".join(sys.argv[1:]) + "\n")
    sys.stderr.write(f"the stand-in does not know: {' '.join(sys.argv[1:])}\n")
    sys.exit(64)


def read(name: str) -> Any:
    path = STATE / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def write(name: str, value: Any) -> None:
    partial = STATE / f"{name}.{os.getpid()}"
    partial.write_text(json.dumps(value), "utf-8")
    partial.replace(STATE / f"{name}.json")


def say(text: str) -> int:
    sys.stdout.write(text)
    return 0


def process() -> int | None:
    """The app's process id while it runs; a dead one that nobody waited for does not."""
    known = read("process")
    if known is None:
        return None
    try:
        status = Path(f"/proc/{known['pid']}/stat").read_text("ascii")
    except OSError:
        return None
    return None if status.rsplit(")", 1)[1].split()[0] in "ZX" else int(known["pid"])


def named_user(word: str) -> int:
    """A user of the phone by number. Ends with Android's words where adb's shell may do nothing for that one."""
    known = read("users")
    if not word.isdecimal() or int(word) not in known["all"]:
        unknown()
    if int(word) in known["denied"]:
        sys.stderr.write(f"Error: java.lang.SecurityException: Shell does not have permission to access user {word}\n")
        sys.exit(255)
    return int(word)


def force_stop(user: int | None = None) -> None:
    """End the app of one user, or of all."""
    running = process()
    if running is not None and user in (None, read("process")["user"]):
        write("stopping", {"pid": running})
        os.killpg(running, signal.SIGKILL)
        while process() is not None:
            time.sleep(0.005)

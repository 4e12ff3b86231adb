"""Commands that find processes of the phone."""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress
from pathlib import Path

from tests.standin.system.files import TOOLS
from tests.standin.system.state import PACKAGE, process, read, say, unknown

CHROME = "com.android.chrome"


def pkill(words: list[str]) -> int:
    """Processes of this phone alone: those of its mount namespace."""
    if words != ["-l", "KILL", "-f", f"{TOOLS}/[j]obs/"]:
        unknown()
    here, found = Path("/proc/self/ns/mnt").stat().st_ino, False
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with suppress(OSError):
                said = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                if re.search(words[-1], said) and (entry / "ns/mnt").stat().st_ino == here:
                    os.kill(int(entry.name), signal.SIGKILL)
                    found = True
    return 0 if found else 1


def pidof(words: list[str]) -> int:
    if words == [CHROME]:
        chrome = (read("chrome") or {}).get("pid")
        return 1 if chrome is None else say(f"{chrome}\n")
    if words != [PACKAGE]:
        unknown()
    running = process()
    return 1 if running is None else say(f"{running}\n")

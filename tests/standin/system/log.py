"""The phone's log."""

from __future__ import annotations

import os
import re
import select
import sys
import time
from datetime import datetime
from pathlib import Path

from tests.standin.system.state import STATE, read, say, unknown

MESSAGE_BYTES = 1023


def logcat(words: list[str]) -> int:
    if words == ["-b", "crash", "-d", "-v", "threadtime"]:
        crash = STATE / "crash.log"
        return say("--------- beginning of crash\n" + (crash.read_text("utf-8") if crash.exists() else ""))
    followed = re.fullmatch(r"-v threadtime --pid=(\d+)", " ".join(words))
    if followed is None:
        unknown()
    pid = int(followed[1])
    known = read("process")
    if known is None or known["pid"] != pid:
        return 0
    sys.stdout.write("--------- beginning of main\n")
    with Path(known["log"]).open(encoding="utf-8", errors="replace") as log:
        rest, level, idle, kept = "", "I", 0, 0
        # adbd hangs up on a shell whose client has gone: nobody reads on, and what the shell had started is another's.
        shell, reader = os.getppid(), select.poll()
        reader.register(sys.stdout, 0)
        while os.getppid() == shell and not reader.poll(0):
            new = log.read()
            rest += new
            *lines, rest = rest.split("\n")
            for line in lines:
                level, kept, shown = as_logged(line, pid, level, kept)
                sys.stdout.write(shown + divided(line, pid))
            sys.stdout.flush()
            # Prompt for as long as there is something to tell, as a phone's log is; lazier the longer nothing comes.
            idle = 0 if new else idle + 1
            time.sleep(0.0005 if idle < 100 else 0.005 if idle < 300 else 0.02)
    return 0


def now() -> datetime:
    return datetime.now().astimezone()


def stamp() -> str:
    return f"{now():%m-%d %H:%M:%S.%f}"[:-3]


def as_logged(line: str, pid: int, level: str, kept: int) -> tuple[str, int, str]:
    """(level, bytes of its message so far, line as logcat shows it). What the runtime wrote to its stderr has the
    runtime's tag there, and a message of several lines has the level of its first on each. `__android_log_write` keeps
    1,023 bytes of a message."""
    if re.match(r"\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\s+\d+ ", line):
        return "I", 0, f"{line}\n"
    levelled = re.match(r"(INFO|WARNING|ERROR|FATAL): ", line)
    if levelled:
        level, kept = levelled[1][0], 0
    elif re.match(r"[IWEF]\d{4} ", line):
        level, kept = line[0], 0
    text = (line[levelled.end() :] if levelled else line).encode("utf-8", "replace")
    left, kept = max(0, MESSAGE_BYTES - kept), kept + len(text) + 1
    if not left and text:
        return level, kept, ""
    shown = text[:left].decode("utf-8", "ignore")
    return level, kept, f"{stamp()} {pid:5} {pid:5} {level} tflite  : {shown}\n"


def divided(line: str, pid: int) -> str:
    """What Android's builds log besides of a model that the delegate takes in part; others find that too verbose."""
    counted = re.match(r"(\d+) operations will run on the GPU, and the remaining (\d+) operations? will run on", line)
    if counted is None:
        return ""
    taken, left = int(counted[1]), int(counted[2])
    delegate = read("app").get("settings", {}).get("STANDIN_DELEGATE", "LITERT_WEBGPU")
    told = f"Replacing {taken} out of {taken + left} node(s) with delegate ({delegate}) node, yielding 1 partitions"
    return f"{stamp()} {pid:5} {pid:5} I tflite  : {told} for subgraph 0.\n"

"""Starts the app, as the activity manager does, and notes how it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.standin.system.log import now, stamp
from tests.standin.system.packages import installed_for
from tests.standin.system.state import PACKAGE, STATE, force_stop, named_user, read, say, unknown, write

COMPONENT = f"{PACKAGE}/.WorkerInstrumentation"
CRASH_SIGNALS = {signal.SIGSEGV: "SEGV_MAPERR", signal.SIGABRT: "SI_TKILL", signal.SIGBUS: "BUS_ADRERR"}


def am(words: list[str]) -> int:
    """Each user by number, as in `pm`."""
    match words:
        case ["get-current-user"]:
            return say(f"{read('users')['current']}\n")
        case ["force-stop", "--user", user, name] if name == PACKAGE:
            force_stop(named_user(user))
            return 0
        case ["instrument", "--user", user, "-e", "socket", socket, component] if component == COMPONENT:
            if not installed_for(named_user(user)):
                sys.stderr.write(f"android.util.AndroidException: INSTRUMENTATION_FAILED: {component}\n")
                return 1
            force_stop(int(user))
            return start(socket, int(user))
    unknown()


def start(socket: str, user: int) -> int:
    """The app, and beside it what the system is for an app: someone who notices how it ends."""
    folder = Path("/data/data") / PACKAGE
    folder.mkdir(parents=True, exist_ok=True)
    log = STATE / f"log-{time.time_ns()}.log"
    app = read("app")
    command = [socket if word == "{socket}" else word for word in app["command"]]
    environment = {
        "HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder),
        "STANDIN_LOGCAT": str(log),
        "STANDIN_CACHE": str(folder / "cache"),
        "STANDIN_DEVICE": read("properties")["ro.product.device"],
        "MESA_SHADER_CACHE_DIR": app["shaders"],
        **app["settings"],
    }
    begun, started = os.pipe()
    if os.fork():
        os.close(started)
        return 0 if os.read(begun, 1) else 1
    os.setsid()
    with Path(os.devnull).open() as nothing, log.open("ab") as said:
        for target, source in ((0, nothing), (1, said), (2, said)):
            os.dup2(source.fileno(), target)
        app_process = subprocess.Popen(
            command, env=environment, stdin=nothing, stdout=said, stderr=said, cwd=folder, start_new_session=True
        )
    write("process", {"pid": app_process.pid, "log": str(log), "user": user})
    os.write(started, b".")
    os.close(started)
    os.close(begun)
    code = app_process.wait()
    record_exit(app_process.pid, code, log)
    os._exit(0)


def record_exit(pid: int, code: int, log: Path) -> None:
    stopping, verdict = read("stopping"), read("verdict")
    e: dict[str, Any] = {"pid": pid, "time": f"{now():%Y-%m-%d %H:%M:%S.%f}"[:-3], "description": "null"}
    number = native_signal(log) or -code
    if stopping is not None and stopping["pid"] == pid:
        e |= {"reason": 10, "label": "USER REQUESTED", "status": 0, "description": f"stop {PACKAGE} due to from pid 1"}
    elif verdict is not None:  # what a test has the system decide, once
        e |= verdict
        (STATE / "verdict.json").unlink()
    elif number in CRASH_SIGNALS:
        e |= {"reason": 5, "label": "APP CRASH(NATIVE)", "status": number, "description": "crash"}
        tombstone(pid, number, log)
    elif number > 0:
        e |= {"reason": 2, "label": "SIGNALED", "status": number}
    else:
        e |= {"reason": 1, "label": "EXIT_SELF", "status": code}
    write("exits", [*(read("exits") or []), e])


def native_signal(log: Path) -> int:
    """The JVM catches a fault, writes what it was, and aborts; Android's runtime lets the first signal through."""
    found = re.search(r"^#\s+(SIG\w+) \(0x", log.read_text("utf-8", "replace"), re.M)
    return signal.Signals[found[1]].value if found else 0


def tombstone(pid: int, number: int, path: Path) -> None:
    name = signal.Signals(number).name
    what = f"{number} ({name}), code 1 ({CRASH_SIGNALS[signal.Signals(number)]}), fault addr 0x0"
    with path.open("a") as log:
        log.write(f"{stamp()} {pid:5} {pid:5} F libc    : Fatal signal {what} in tid {pid} (litert), pid {pid}\n")
    frame = re.search(r"Problematic frame:\n# (.*)", path.read_text("utf-8", "replace"))
    lines = (
        "*** *** *** *** *** *** *** *** *** *** *** *** *** *** *** ***",
        f"pid: {pid}, tid: {pid}, name: litert  >>> {PACKAGE} <<<",
        f"signal {what}",
        "backtrace:",
        f"      #00 {frame[1] if frame else 'unknown'}",
    )
    with (STATE / "crash.log").open("a") as log:
        log.writelines(f"{stamp()}     1     1 F DEBUG   : {line}\n" for line in lines)

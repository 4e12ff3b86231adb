"""Android's commands on the stand-in, `COMMAND WORDS…` on the command line: exactly those that the harness uses.

Anything else (another command, another argument, another property) fails with exit code 64 and says so in unknown.log,
which the tests look at. The printed forms are those of Android 14; what is known is in `system/state.py`, the package
manager in `system/packages.py`. Runs with `-IS`, on the standard library and these files alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.standin.system.packages import APK, dumped, installed_for, pm
from tests.standin.system.state import PACKAGE, STATE, force_stop, named_user, process, read, say, unknown, write

COMPONENT = f"{PACKAGE}/.WorkerInstrumentation"
TOOLS = f"/data/local/tmp/{PACKAGE}"
CHROME = "com.android.chrome"
MESSAGE_BYTES = 1023
CRASH_SIGNALS = {signal.SIGSEGV: "SEGV_MAPERR", signal.SIGABRT: "SI_TKILL", signal.SIGBUS: "BUS_ADRERR"}


def main() -> int:
    command, *words = sys.argv[1:]
    return {
        "am": am,
        "cat": cat,
        "chmod": chmod,
        "cmd": cmd,
        "dumpsys": dumpsys,
        "getprop": getprop,
        "input": press,
        "logcat": logcat,
        "mkdir": mkdir,
        "mv": mv,
        "pidof": pidof,
        "pkill": pkill,
        "pm": pm,
        "rm": rm,
        "sha256sum": sha256sum,
        "timeout": timeout,
    }[command](words)


def getprop(words: list[str]) -> int:
    known = read("properties")
    if len(words) != 1 or words[0] not in known:
        unknown()
    return say(f"{known[words[0]]}\n")


def cat(words: list[str]) -> int:
    if words != ["/proc/sys/kernel/random/boot_id"]:
        unknown()
    return say(Path(words[0]).read_text("ascii"))


def cmd(words: list[str]) -> int:
    """`cmd power` of Android 14's PowerManagerShellCommand, and of one whose power HAL knows no such mode (`hal` off)
    or that is older than the command (`hal` null)."""
    match words:
        case ["power", "set-fixed-performance-mode-enabled", ("true" | "false") as word]:
            power = read("power")
            if power["hal"] is None:
                sys.stderr.write(f"Unknown command: {words[1]}\n")
            elif not power["hal"]:
                sys.stderr.write("Failed to set FIXED_PERFORMANCE mode\n")
                sys.stderr.write("This is likely because Power HAL AIDL is not implemented on this device\n")
            else:
                write("power", power | {"fixed": word == "true", "asked": [*power["asked"], word]})
                return 0
            return 255
    unknown()


def timeout(words: list[str]) -> int:
    """`timeout SECONDS cat`, to the end of the standard input or of the time."""
    if len(words) != 2 or not words[0].isdecimal() or words[1] != "cat":
        unknown()
    deadline = time.monotonic() + int(words[0])
    while True:
        ready, _, _ = select.select([0], [], [], max(deadline - time.monotonic(), 0))
        if not ready:
            return 143
        if not (piece := os.read(0, 4096)):
            return 0
        sys.stdout.buffer.write(piece)


def rm(words: list[str]) -> int:
    match words:
        case ["-f", path] if path.startswith("/data/local/tmp/"):
            Path(path).unlink(missing_ok=True)
        case ["-rf", path] if is_of_tools(path):
            shutil.rmtree(path, ignore_errors=True)
        case _:
            unknown()
    return 0


def is_of_tools(path: str) -> bool:
    return (path == TOOLS or path.startswith(f"{TOOLS}/")) and ".." not in path.split("/")


def mkdir(words: list[str]) -> int:
    if len(words) != 2 or words[0] != "-p" or not is_of_tools(words[1]):
        unknown()
    try:
        Path(words[1]).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.stderr.write(f"mkdir: '{words[1]}': {error.strerror}\n")
        return 1
    return 0


def mv(words: list[str]) -> int:
    if len(words) != 2 or not all(map(is_of_tools, words)) or Path(words[1]).exists():
        unknown()
    Path(words[0]).rename(words[1])
    return 0


def chmod(words: list[str]) -> int:
    if len(words) != 2 or words[0] != "755" or not is_of_tools(words[1]):
        unknown()
    Path(words[1]).chmod(0o755)
    return 0


def pkill(words: list[str]) -> int:
    """Processes of this phone alone: those of its mount namespace."""
    if words != ["-l", "KILL", "-f", f"{TOOLS}/[j]obs/"]:
        unknown()
    here, found = Path("/proc/self/ns/mnt").stat().st_ino, False
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                said = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                if re.search(words[-1], said) and (entry / "ns/mnt").stat().st_ino == here:
                    os.kill(int(entry.name), signal.SIGKILL)
                    found = True
    return 0 if found else 1


def sha256sum(words: list[str]) -> int:
    if words != [str(APK)] and not (words and all(map(is_of_tools, words))):
        unknown()
    lacking = [path for path in words if not Path(path).is_file()]
    for path in words:
        if path in lacking:
            sys.stderr.write(f"sha256sum: {path}: No such file or directory\n")
        else:
            say(f"{hashlib.sha256(Path(path).read_bytes()).hexdigest()}  {path}\n")
    return 1 if lacking else 0


def press(words: list[str]) -> int:
    if words != ["keyevent", "KEYCODE_WAKEUP"]:
        unknown()
    condition = read("condition")
    if condition["wakes"]:
        write("condition", condition | {"wakefulness": "Awake"})
    return 0


def pidof(words: list[str]) -> int:
    if words == [CHROME]:
        chrome = (read("chrome") or {}).get("pid")
        return 1 if chrome is None else say(f"{chrome}\n")
    if words != [PACKAGE]:
        unknown()
    running = process()
    return 1 if running is None else say(f"{running}\n")


def dumpsys(words: list[str]) -> int:
    condition = read("condition")
    match words:
        case ["power"]:
            return say(
                f"POWER MANAGER (dumpsys power)\n\nPower Manager State:\n  mWakefulness={condition['wakefulness']}\n"
            )
        case ["battery"]:
            usb = "true" if condition["usb"] else "false"
            return say(
                f"Current Battery Service state:\n  AC powered: false\n  USB powered: {usb}\n"
                f"  Wireless powered: false\n  level: {condition['level']}\n  scale: 100\n  temperature: 312\n"
            )
        case ["thermalservice"]:
            thermal = condition["thermal"]
            if isinstance(thermal, list):  # one reading after another, the last one stays
                write("condition", condition | {"thermal": thermal[1:] if len(thermal) > 2 else thermal[-1]})
                thermal = thermal[0]
            return say(f"IsStatusOverride: false\nThermal Status: {thermal}\nHAL Ready: true\n")
        case ["package", name] if name == PACKAGE:
            return say(dumped())
        case ["activity", "exit-info", name] if name == PACKAGE:
            return say(exit_info())
    unknown()


def exit_info() -> str:
    text = f"ACTIVITY MANAGER PROCESS EXIT INFO (dumpsys activity exit-info)\n  package: {PACKAGE}\n"
    text += "    Historical Process Exit for uid=10123\n"
    for number, e in enumerate(reversed(read("exits") or [])):
        text += (
            f"        ApplicationExitInfo #{number}:\n"
            f"          timestamp={e['time']} pid={e['pid']} realUid=10123 packageUid=10123 definingUid=10123 user=0\n"
            f"          process={PACKAGE} reason={e['reason']} ({e['label']}) subreason=0 (UNKNOWN)"
            f" status={e['status']}\n"
            f"          importance=100 pss=0.00 rss=0.00 description={e['description']} state=empty trace=null\n"
        )
    return text


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


def now() -> datetime:
    return datetime.now().astimezone()


def stamp() -> str:
    return f"{now():%m-%d %H:%M:%S.%f}"[:-3]


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
            # Prompt for as long as there is something to tell, as a phone's log is; lazy when nothing comes.
            idle = 0 if new else idle + 1
            time.sleep(0.0005 if idle < 200 else 0.005)
    return 0


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

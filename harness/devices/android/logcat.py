"""A phone's own words: its log, followed while it runs, and why a process of it ended.

Log lines are brought to the form that the runtime has on the host (`ERROR: …`), so that one reader serves both. Exit
records are those of `dumpsys activity exit-info` (ApplicationExitInfo, Android 11 and newer); a native crash leaves
`Fatal signal …` in the log of the process too, and a tombstone in the crash buffer, which the shell user may read.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from harness.core.signals import signal_name
from harness.devices.android.adb import Adb, AdbError
from harness.devices.base import LOG_LIMIT
from harness.devices.log_lines import NUMBER, first_match, lines_of

# 11-20 14:05:17.107  6937  6956 E tflite  : text
_LINE = re.compile(r"\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\s+\d+\s+\d+ ([VDIWEFS]) (.*)")
_FATAL = re.compile(rf"^FATAL: Fatal signal ({NUMBER})")
# How `dumpsys activity exit-info` begins each record, and what it says in it.
_RECORD = "ApplicationExitInfo #"
_REASON = re.compile(rf"\breason=({NUMBER}) \((.*?)\)(?: subreason=\d+ \((.*?)\))? status=(-?{NUMBER})")
_DESCRIPTION = re.compile(r"\bdescription=(.*?) state=")
_WORDS = {"I": "INFO", "W": "WARNING", "E": "ERROR", "F": "FATAL"}
# What the runtime and the GPU's driver log is taken as it is; other tags stay visible.
_RUNTIME = re.compile(r"tflite|litert|native|TFLite", re.I)
TOMBSTONE_LIMIT = 16384
SETTLE_POLL_SECONDS = 0.0005
STOP_SECONDS = 5.0
_CHUNK = 1 << 16
# The system writes the record of an exit a moment after the process has gone.
RECORD_SECONDS = 2.0
RECORD_POLL_SECONDS = 0.1


class Logcat:
    """The log of one process on a phone, followed from its start on. Only the last `LOG_LIMIT` bytes are kept, which
    are as much as is ever asked for: a phone that logs without an end fills neither disk nor memory."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._lock = threading.Lock()
        self._kept = bytearray()
        self._end = 0

    def follow(self, adb: Adb, pid: int) -> None:
        """Begin with what that process has logged so far. Raises AdbError."""
        self.stop()
        self._process = adb.follow("logcat", "-v", "threadtime", f"--pid={pid}")
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def stop(self) -> None:
        """Follow no longer; what was logged stays."""
        process, reader = self._process, self._reader
        if process is None or reader is None:
            return
        with suppress(OSError):  # gone already
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join(STOP_SECONDS)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None and not (pipe is process.stdout and reader.is_alive()):
                pipe.close()
        self._process = self._reader = None

    def append(self, text: str) -> None:
        """Put words beside what was logged."""
        self._keep((text if text.endswith("\n") else f"{text}\n").encode("utf-8", "replace"))

    def mark(self) -> int:
        """The present end, in bytes since the start."""
        return self._end

    def since(self, mark: int) -> str:
        """What came after `mark`, in the host's form, at most `LOG_LIMIT` bytes; says what is gone."""
        with self._lock:
            gone = self._end - len(self._kept)
            said = bytes(self._kept[max(0, mark - gone) :])
        told = f"[{gone - mark} bytes of log before this were not kept]\n" if mark < gone else ""
        return told + as_on_the_host(said.decode("utf-8", "replace"))

    def _read(self, pipe: IO[bytes]) -> None:
        with suppress(OSError, ValueError):  # it was closed
            while chunk := pipe.read(_CHUNK):
                self._keep(chunk)

    def _keep(self, chunk: bytes) -> None:
        with self._lock:
            self._kept += chunk
            self._end += len(chunk)
            del self._kept[:-LOG_LIMIT]

    def settle(self, seconds: float, there: Callable[[str], bool], mark: int) -> None:
        """Wait until `there` says that what was logged after `mark` is complete, or the time is up."""
        deadline = time.monotonic() + seconds
        seen = -1
        while self._process is not None and time.monotonic() < deadline:
            size = self.mark()
            if size != seen and there(self.since(mark)):
                return
            seen = size
            time.sleep(SETTLE_POLL_SECONDS)


def as_on_the_host(log: str) -> str:
    """`threadtime` lines as the runtime writes them on the host: `ERROR: text`; other tags keep their name."""
    lines = []
    for line in log.splitlines():
        parsed = _parsed(line)
        if parsed is None:
            if not line.startswith("--------- beginning of"):
                lines.append(line)
            continue
        priority, tag, text = parsed
        told = f"{_WORDS.get(priority, 'VERBOSE')}: "
        # The runtime's own loggers said so already: `ERROR: …`, or `E0000 00:00:… file.cc:1] …`.
        if re.match(r"(INFO|WARNING|ERROR|FATAL): |[IWEF]\d{4} ", text):
            told = ""
        lines.append(f"{told}{text}" if _RUNTIME.search(tag) or priority == "F" else f"{told}[{tag}] {text}")
    return "\n".join(lines) + ("\n" if lines else "")


def _parsed(line: str) -> tuple[str, str, str] | None:
    """(priority, tag, text) of a `threadtime` line; None for any other."""
    found = _LINE.fullmatch(line)
    tag, colon, text = found[2].partition(": ") if found else ("", "", "")
    return (found[1], tag.rstrip(), text) if found and colon else None


FAULTS = frozenset(("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS"))
"""Signals that a process brings upon itself."""


@dataclass(frozen=True)
class Exit:
    """How a process on a phone ended: one sentence, the signal's name when it was one, the tombstone when there is."""

    reason: str
    signal: str = ""
    tombstone: str = ""


def exit_of(adb: Adb, package: str, pid: int, log: str) -> Exit:
    """Why a process that is gone ended, from its exit record, else from its own log; `log` in the host's form.

    Raises:
        AdbError: the phone cannot be asked.
    """
    with suppress(AdbError):
        record = _record(adb, package, pid)
        if record:
            return _explained(record, lambda: tombstone_of(adb, pid))
    fatal = first_match(_FATAL, log)
    if fatal:
        name = signal_name(int(fatal[1]))
        return Exit(f"the app was ended by {name}", name, tombstone_of(adb, pid))
    adb.shell("true")  # a phone that is gone is no app that ended
    return Exit("the app ended, and the phone does not say why")


@dataclass(frozen=True)
class ExitRecord:
    """What `dumpsys activity exit-info` says of one process: reason and status as numbers, and their words."""

    reason: int
    label: str
    detail: str
    status: int
    description: str


def exit_record(said: str, pid: int) -> ExitRecord | None:
    """The newest record of that process in what `dumpsys activity exit-info` printed."""
    of_process = re.compile(rf"\bpid={pid} ")
    for part in said.split(_RECORD)[1:]:
        found = first_match(_REASON, part) if first_match(of_process, part) else None
        if found:
            described = first_match(_DESCRIPTION, part)
            return ExitRecord(int(found[1]), found[2], found[3] or "", int(found[4]), described[1] if described else "")
    return None


def _record(adb: Adb, package: str, pid: int) -> ExitRecord | None:
    """The exit record of that process once it has a reason; None where there is none in time. Raises AdbError."""
    deadline = time.monotonic() + RECORD_SECONDS
    while True:
        said = adb.shell("dumpsys", "activity", "exit-info", package)
        record = exit_record(said, pid)
        if record and record.reason:
            return record
        # Android 10 and older keep no records.
        if "PROCESS EXIT INFO" not in said or time.monotonic() >= deadline:
            return None
        time.sleep(RECORD_POLL_SECONDS)


def _explained(record: ExitRecord, tombstone: Callable[[], str]) -> Exit:
    status = record.status
    why = f"{record.label}, {record.detail}" if record.detail not in ("", "UNKNOWN") else record.label
    if record.description not in ("", "null"):
        why += f": {record.description}"
    match record.reason:
        case 1:
            return Exit(f"the app ended with exit code {status}")
        case 2:
            # A fault of the app's own, where no crash handler was left to say so.
            name = signal_name(status)
            return Exit(f"the app was ended by {name}", name, tombstone() if name in FAULTS else "")
        case 3:
            return Exit("the app was ended because the phone ran out of memory", "SIGKILL")
        case 4:
            return Exit(f"the app ended by an exception ({why})", "", tombstone())
        case 5:
            name = signal_name(status)
            return Exit(f"the app was ended by {name}", name, tombstone())
    return Exit(f"the system ended the app ({why})", "SIGKILL")


def tombstone_of(adb: Adb, pid: int) -> str:
    """What the crash buffer holds on that process: signal, registers, backtrace. Empty when nothing."""
    try:
        crash = adb.shell("logcat", "-b", "crash", "-d", "-v", "threadtime")
    except AdbError:
        return ""
    texts = [parsed[2] for line in lines_of(crash) if (parsed := _parsed(line))]
    starts = [i for i, text in enumerate(texts) if re.match(rf"(pid: {pid},|Process: .*PID: {pid}\b)", text)]
    if not starts:
        return ""
    begin = starts[-1]
    while begin and not texts[begin].startswith(("*** ***", "FATAL EXCEPTION")):
        begin -= 1
    end = next((i for i, t in enumerate(texts[begin + 1 :], begin + 1) if t.startswith("*** ***")), len(texts))
    return "\n".join(texts[begin:end])[:TOMBSTONE_LIMIT]

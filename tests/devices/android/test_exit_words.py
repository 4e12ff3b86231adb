"""Why a process on a phone ended, in the words of its exit record, its log and its crash buffer."""

from __future__ import annotations

import time

import pytest

from harness.devices.android import logcat
from harness.devices.android.adb import Adb, AdbError, Server
from harness.devices.android.logcat import Exit, ExitRecord, Logcat, as_on_the_host, exit_of, exit_record, tombstone_of

INFO = "ACTIVITY MANAGER PROCESS EXIT INFO\n"
UNKNOWN = "the app ended, and the phone does not say why"


def record(pid: int, reason: str, detail: str = "", status: int = 0, description: str = "null") -> str:
    sub = f" subreason=3 ({detail})" if detail else ""
    return (
        f"  ApplicationExitInfo #0:\n    pid={pid} realUid=1\n    process=app reason={reason}{sub} status={status}\n"
        f"    description={description} state=empty\n"
    )


def crash(*texts: str) -> str:
    return "".join(f"11-20 14:05:17.107  6937  6956 F DEBUG   : {text}\n" for text in texts)


class Phone(Adb):
    """Answers with these texts, the last for ever; an error is raised."""

    def __init__(self, *said: str | AdbError, buffer: str | AdbError = "") -> None:
        super().__init__(Server(), "S0")
        self.said, self.buffer, self.asked = list(said), buffer, list[tuple[str, ...]]()

    def shell(self, *argv: str, seconds: float | None = None, check: bool = True) -> str:
        self.asked.append(argv)
        if argv[0] == "logcat":
            assert argv == ("logcat", "-b", "crash", "-d", "-v", "threadtime")
            said = self.buffer
        elif argv == ("true",):
            said = ""
        else:
            assert argv == ("dumpsys", "activity", "exit-info", "app")
            said = self.said.pop(0) if len(self.said) > 1 else self.said[0]
        if isinstance(said, AdbError):
            raise said
        return said


TOMBSTONE = ("*** *** ***", "pid: 42, tid: 1", "signal 6")
TOLD = "\n".join(TOMBSTONE)
THROWN = ("FATAL EXCEPTION: main", "Process: app, PID: 42", "at y")


@pytest.mark.parametrize(
    ("found", "ended"),
    [
        (record(42, "1 (EXIT_SELF)", status=7), Exit("the app ended with exit code 7")),
        (record(42, "2 (SIGNALED)", status=9), Exit("the app was ended by SIGKILL", "SIGKILL")),
        (record(42, "3 (LOW_MEMORY)"), Exit("the app was ended because the phone ran out of memory", "SIGKILL")),
        (record(42, "4 (CRASH)", description="why"), Exit("the app ended by an exception (CRASH: why)", "", TOLD)),
        (record(42, "5 (CRASH_NATIVE)", status=6), Exit("the app was ended by SIGABRT", "SIGABRT", TOLD)),
        (record(42, "6 (ANR)"), Exit("the system ended the app (ANR)", "SIGKILL")),
        (record(42, "10 (USER)", "STOP_APP"), Exit("the system ended the app (USER, STOP_APP)", "SIGKILL")),
        (
            record(42, "10 (USER)", "UNKNOWN", description="by hand"),
            Exit("the system ended the app (USER: by hand)", "SIGKILL"),
        ),
        (record(42, "10 (USER)", description=""), Exit("the system ended the app (USER)", "SIGKILL")),
    ],
)
def test_each_reason_has_its_sentence(found: str, ended: Exit) -> None:
    assert exit_of(Phone(INFO + found, buffer=crash(*TOMBSTONE)), "app", 42, "") == ended


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("", None),
        ("pid=42 reason=1 (A) status=0", None),  # before the first record
        (record(41, "1 (A)"), None),
        (record(142, "1 (A)") + record(421, "1 (A)"), None),
        (record(41, "1 (A)") + record(42, "2 (B)", "C", -3, "d e"), ExitRecord(2, "B", "C", -3, "d e")),
        (record(42, "1 (A)") + record(42, "2 (B)"), ExitRecord(1, "A", "", 0, "null")),
        ("ApplicationExitInfo #0: pid=42 \nreason=x\n" + record(42, "2 (B)"), ExitRecord(2, "B", "", 0, "null")),
        ("ApplicationExitInfo #0: pid=42 reason=1 (A) status=5", ExitRecord(1, "A", "", 5, "")),
    ],
)
def test_the_newest_record_of_that_process_counts(said: str, found: ExitRecord | None) -> None:
    assert exit_record(said, 42) == found


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was slept, on a clock that goes on by nothing else."""
    found: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: 64.0 + sum(found))
    monkeypatch.setattr(time, "sleep", found.append)
    return found


def test_a_record_is_waited_for_two_seconds(naps: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    assert (logcat.RECORD_SECONDS, logcat.RECORD_POLL_SECONDS) == (2.0, 0.1)
    monkeypatch.setattr(logcat, "RECORD_POLL_SECONDS", 0.5)
    phone = Phone(INFO + record(41, "1 (A)"))
    assert exit_of(phone, "app", 42, "") == Exit(UNKNOWN)
    assert naps == [0.5] * 4
    assert phone.asked == [("dumpsys", "activity", "exit-info", "app")] * 5 + [("true",)]


def test_without_a_record_the_log_tells_the_signal(naps: list[float]) -> None:
    log = "INFO: Fatal signal 6\nFATAL: Fatal signal 11 (SIGSEGV)\nFATAL: Fatal signal 6 (SIGABRT)\n"
    for phone in (Phone("no such command"), Phone(AdbError("", "", "", 1, ""))):
        assert exit_of(phone, "app", 42, log) == Exit("the app was ended by SIGSEGV", "SIGSEGV", "")
        assert naps == []


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        ((), ()),
        (("pid: 41, tid", "x"), ()),
        (("pid: 421, tid", "Process: app, PID: 421"), ()),
        (TOMBSTONE, TOMBSTONE),
        (("before", *TOMBSTONE, "*** *** ***", "pid: 41,"), TOMBSTONE),
        (("before", "pid: 42, tid", "x"), ("before", "pid: 42, tid", "x")),
        (("x", *THROWN), THROWN),
        ((*TOMBSTONE, "*** ***", "pid: 42, again"), ("*** ***", "pid: 42, again")),
    ],
)
def test_a_tombstone_is_the_last_of_that_process(texts: tuple[str, ...], told: tuple[str, ...]) -> None:
    assert tombstone_of(Phone("", buffer="--------- beginning of crash\n" + crash(*texts)), 42) == "\n".join(told)


def test_a_tombstone_is_kept_in_part_and_missed_by_nobody() -> None:
    lines = ["x" * 1000] * 20
    assert len(tombstone_of(Phone("", buffer=crash("*** ***", "pid: 42, t", *lines)), 42)) == 16384
    assert tombstone_of(Phone("", buffer=AdbError("", "", "", 1, "")), 42) == ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("V tflite  : x", "VERBOSE: x"),
        ("S TFLite  : x", "VERBOSE: x"),
        ("I litert  : ERROR: x", "ERROR: x"),
        ("I App     : ERROR: x", "[App] ERROR: x"),
        ("I App     : F1234 x", "[App] F1234 x"),
        ("E native  : E123 x", "ERROR: E123 x"),
        ("F App     : x", "FATAL: x"),
        ("I App: x", "INFO: [App] x"),
    ],
)
def test_a_tag_is_told_unless_it_is_the_runtime_s(line: str, said: str) -> None:
    assert as_on_the_host(f"11-20 14:05:17.107  6937  6956 {line}") == f"{said}\n"
    assert as_on_the_host(f"\n11-20 14:05:17.107  1 2 {line}\n") == f"\n{said}\n"


def test_a_log_is_read_to_the_end_of_its_pipe_and_stopped_twice() -> None:
    class Talking(Adb):
        def _command(self, *words: str) -> list[str]:
            assert words == ("shell", "logcat -v threadtime --pid=7")
            return ["echo", "a line"]

    log = Logcat()
    log.stop()
    log.follow(Talking(Server(), "S0"), 7)
    first = log._process
    log.settle(20, lambda said: said == "a line\n", 0)
    log.follow(Talking(Server(), "S0"), 7)
    assert first is not None and first.returncode is not None
    assert first.stdin is not None and first.stdin.closed
    assert first.stdout is not None and first.stdout.closed
    log.settle(20, lambda said: said == "a line\na line\n", 0)
    log.stop()
    log.stop()
    assert log.since(0) == "a line\na line\n"
    assert (log._process, log._reader) == (None, None)

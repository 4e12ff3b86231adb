"""A phone's log is followed no longer than its follower lives; how a process there ended, from its exit record, which
the system writes a moment later."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest

from harness.devices.android import logcat
from harness.devices.android.adb import Adb, Server
from harness.devices.android.logcat import Exit, Logcat, as_on_the_host, exit_of

HEAD = "ACTIVITY MANAGER PROCESS EXIT INFO (dumpsys activity exit-info)\n  package: app\n"
NONE_YET = HEAD + "    Historical Process Exit for uid=10123\n"
OLD = """\
        ApplicationExitInfo #1:
          timestamp=2026-11-20 14:05:17.107 pid=41 realUid=10123 packageUid=10123 definingUid=10123 user=0
          process=app reason=6 (ANR) subreason=0 (UNKNOWN) status=0
          importance=100 pss=0.00 rss=0.00 description=null state=empty trace=null
"""


def record(reason: str, status: int) -> str:
    return f"""{NONE_YET}        ApplicationExitInfo #0:
          timestamp=2026-11-20 14:05:17.107 pid=42 realUid=10123 packageUid=10123 definingUid=10123 user=0
          process=app reason={reason} subreason=0 (UNKNOWN) status={status}
          importance=100 pss=0.00 rss=0.00 description=null state=empty trace=null
{OLD}"""


CRASH = """\
11-20 14:05:17.107  6937  6937 F DEBUG   : *** *** *** *** *** *** *** ***
11-20 14:05:17.107  6937  6937 F DEBUG   : pid: 42, tid: 43, name: worker  >>> app <<<
11-20 14:05:17.107  6937  6937 F DEBUG   : signal 11 (SIGSEGV), code 1 (SEGV_MAPERR), fault addr 0x10
"""


class Phone(Adb):
    """Answers `dumpsys activity exit-info` with one text after another, the last one for ever."""

    def __init__(self, *said: str) -> None:
        super().__init__(Server(), "phone")
        self.said = list(said)
        self.asked = 0

    def shell(self, *argv: str, seconds: float | None = None, check: bool = True) -> str:
        if argv == ("true",):
            return ""
        if argv[:3] == ("logcat", "-b", "crash"):
            return CRASH
        assert argv == ("dumpsys", "activity", "exit-info", "app")
        self.asked += 1
        return self.said.pop(0) if len(self.said) > 1 else self.said[0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("E tflite  : Failed to build the graph", "ERROR: Failed to build the graph"),
        ("I native  : I0000 00:00:1 delegate.cc:5] Initializing", "I0000 00:00:1 delegate.cc:5] Initializing"),
        ("W tflite  : WARNING: already said", "WARNING: already said"),
        ("W Adreno  : out of memory", "WARNING: [Adreno] out of memory"),
        ("F libc    : Fatal signal 11 (SIGSEGV)", "FATAL: Fatal signal 11 (SIGSEGV)"),
        ("D App     : a detail", "VERBOSE: [App] a detail"),
        ("E tflite  : path: one more colon", "ERROR: path: one more colon"),
    ],
)
def test_a_line_reads_as_the_runtime_writes_it_on_the_host(line: str, said: str) -> None:
    assert as_on_the_host(f"11-20 14:05:17.107  6937  6956 {line}\n") == f"{said}\n"


@pytest.mark.parametrize("line", ["no line of the log", "11-20 14:05:17.107  6937  6956 E a tag and nothing more"])
def test_another_line_stays_as_it_is(line: str) -> None:
    assert as_on_the_host(f"--------- beginning of main\n{line}\n") == f"{line}\n"


def test_of_nothing_there_is_nothing() -> None:
    assert as_on_the_host("--------- beginning of crash\n") == as_on_the_host("") == ""


def test_a_record_that_is_not_there_yet_or_has_no_reason_yet_is_waited_for() -> None:
    phone = Phone(NONE_YET + OLD, record("0 (UNKNOWN)", 0), record("2 (SIGNALED)", 9))
    assert exit_of(phone, "app", 42, "") == Exit("the app was ended by SIGKILL", "SIGKILL")
    assert phone.asked == 3


@pytest.mark.parametrize(
    ("number", "name"), [(11, "SIGSEGV"), (6, "SIGABRT"), (7, "SIGBUS"), (4, "SIGILL"), (8, "SIGFPE")]
)
def test_a_signal_of_the_apps_own_making_has_its_tombstone(number: int, name: str) -> None:
    ended = exit_of(Phone(record("2 (SIGNALED)", number)), "app", 42, "")
    assert (ended.reason, ended.signal) == (f"the app was ended by {name}", name)
    assert ended.tombstone.splitlines()[1:] == [
        "pid: 42, tid: 43, name: worker  >>> app <<<",
        "signal 11 (SIGSEGV), code 1 (SEGV_MAPERR), fault addr 0x10",
    ]


def test_a_record_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logcat, "RECORD_SECONDS", 0.3)
    assert exit_of(Phone(NONE_YET + OLD), "app", 42, "") == Exit("the app ended, and the phone does not say why")


def test_a_phone_that_keeps_no_records_is_asked_once() -> None:
    phone = Phone("Bad activity command, or no activities match: exit-info\n")
    assert exit_of(phone, "app", 42, "").signal == ""
    assert phone.asked == 1


class Sleeping(Adb):
    """Its programs do nothing for a long time."""

    def _command(self, *words: str) -> list[str]:
        return ["sleep", "600"]


SLEEPING = Sleeping(Server(), "phone")


def children_of(process: psutil.Process) -> list[psutil.Process]:
    deadline = time.monotonic() + 20
    while not (children := process.children()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return children


def test_a_log_that_is_followed_no_longer_leaves_no_process() -> None:
    log = Logcat()
    log.follow(SLEEPING, 1)
    assert log._process is not None
    follower = psutil.Process(log._process.pid)
    children = children_of(follower)
    log.stop()
    assert psutil.wait_procs(children, 20)[1] == []


def test_a_follower_that_is_killed_leaves_no_process() -> None:
    script = (
        "from tests.devices.android.test_logcat import SLEEPING, Logcat;"
        "log = Logcat(); log.follow(SLEEPING, 1); print(log._process.pid, flush=True); input()"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        follower = psutil.Process(int(killed.stdout.readline()))
        children = children_of(follower)
        killed.kill()
    assert psutil.wait_procs([follower, *children], 20)[1] == []


def test_words_beside_the_log_are_lines_of_their_own() -> None:
    log = Logcat()
    log.append("the app ended")
    mark = log.mark()
    log.append("with a reason\n")
    log.append("and another")
    assert log.since(0) == "the app ended\nwith a reason\nand another\n"
    assert log.since(mark) == "with a reason\nand another\n"


class Asked:
    """Is asked whether a log is complete, and remembers what it was shown."""

    def __init__(self, *, complete: bool) -> None:
        self.complete = complete
        self.said: list[str] = []

    def __call__(self, said: str) -> bool:
        self.said.append(said)
        return self.complete


def test_a_log_that_nobody_follows_is_not_waited_for() -> None:
    """Nothing more can come."""
    log = Logcat()
    log.append("the app ended")
    begun = time.monotonic()
    log.settle(60.0, Asked(complete=False), 0)
    assert time.monotonic() - begun < 30


def test_a_log_is_waited_for_until_it_is_complete_or_the_time_is_up() -> None:
    log = Logcat()
    log.follow(SLEEPING, 1)
    try:
        begun = time.monotonic()
        log.settle(0.05, Asked(complete=False), 0)
        assert 0.05 <= time.monotonic() - begun < 30
        log.append("an old word")
        mark = log.mark()
        log.append("the last word")
        asked = Asked(complete=True)
        log.settle(60.0, asked, mark)
        assert asked.said == ["the last word\n"]
        assert time.monotonic() - begun < 30
    finally:
        log.stop()


def test_a_log_that_has_not_grown_is_not_looked_through_again() -> None:
    log = Logcat()
    log.follow(SLEEPING, 1)
    try:
        asked = Asked(complete=False)
        log.settle(0.05, asked, 0)
        assert asked.said == [""]
    finally:
        log.stop()


def test_of_a_log_that_is_too_long_the_end_is_kept_and_the_loss_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logcat, "LOG_LIMIT", 10)
    log = Logcat()
    log.append("123456789")  # and the end of the line
    assert log.since(0) == "123456789\n"
    log.append("abc")
    assert log.mark() == 14
    assert log.since(0) == "[4 bytes of log before this were not kept]\n56789\nabc\n"
    assert log.since(4) == "56789\nabc\n"
    assert log.since(10) == "abc\n"
    assert log.since(14) == ""

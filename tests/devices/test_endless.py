"""What a device says without an end takes a bounded memory and no disk, and it is said that the end was cut."""

from __future__ import annotations

import os
import resource
import shlex
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.core.errors import DeviceError
from harness.devices import captured
from harness.devices.android import apk, gradle
from harness.devices.android.adb import Adb, AdbError, Server
from harness.devices.android.logcat import Logcat
from harness.devices.base import LOG_LIMIT
from harness.devices.host import log_file

ENDLESS = "while True: sys.stdout.buffer.write(b'0123456789abcde\\n' * 65536)"


class Talking(Adb):
    """Each of its programs is a Python one."""

    def __init__(self, program: str) -> None:
        super().__init__(Server(), "phone")
        self.program = program

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-S", "-c", f"import sys\n{self.program}", *words]


def test_output_without_an_end_is_cut_and_said() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(AdbError) as caught:
        Talking(ENDLESS).shell("cat", "/dev/zero", seconds=30)
    assert caught.value.message.startswith("`adb -s phone shell 'cat /dev/zero'` said more than 4 MiB and was killed: ")
    assert len(caught.value.output) == captured.MOST
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB
    assert not [child for child in psutil.Process().children() if "0123456789abcde" in shlex.join(child.cmdline())]


def test_a_program_without_an_end_keeps_what_it_said_until_its_time_was_up() -> None:
    with pytest.raises(AdbError) as caught:
        Talking("print('so far', flush=True); sys.stdin.read(); import time; time.sleep(60)").shell("x", seconds=1.5)
    assert caught.value.message == "`adb -s phone shell x` gave no answer within 1.5 s and was killed: so far."


def test_a_program_that_ends_is_heard_to_its_end() -> None:
    assert Talking("print('out'); print('and err', file=sys.stderr)").shell("x") in ("out\nand err\n", "and err\nout\n")
    with pytest.raises(AdbError) as caught:
        Talking("print('no'); sys.exit(7)").shell("x")
    assert (caught.value.code, caught.value.output) == (7, "no\n")
    assert len(Talking("print('x' * (1 << 21))").shell("x")) == (1 << 21) + 1


def test_a_log_without_an_end_keeps_its_end_and_says_what_is_gone() -> None:
    log = Logcat()
    log.follow(Talking(ENDLESS), 1)
    deadline = time.monotonic() + 30
    while log.mark() < 8 * LOG_LIMIT:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    log.stop()
    said = log.since(0).splitlines()
    assert said[0].endswith(" bytes of log before this were not kept]")
    assert set(said[2:-1]) == {"0123456789abcde"}
    assert LOG_LIMIT - 64 < len("\n".join(said[1:])) <= LOG_LIMIT
    end = log.mark()
    log.append("the last word")
    assert log.since(end) == "the last word\n"


def test_a_short_log_is_kept_whole() -> None:
    log = Logcat()
    log.follow(Talking("print('one'); print('two', flush=True); sys.stdin.read()"), 1)
    deadline = time.monotonic() + 30
    while log.mark() < len("one\ntwo\n"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert log.since(0) == "one\ntwo\n"
    assert log.since(len("one\n")) == "two\n"
    log.stop()
    assert log.since(0) == "one\ntwo\n"


def test_a_capture_that_cannot_be_started_says_so() -> None:
    with pytest.raises(FileNotFoundError):
        captured.captured(["/no/such/program"], 1.0)


def test_gradle_without_an_end_is_killed_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "gradle"
    program.write_text("#!/bin/sh\n[ \"$1\" = --version ] && exec echo 'Gradle 9.5.0'\nexec yes '> Task :app'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(gradle, "PROJECT", tmp_path)
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path))
    monkeypatch.delenv("HARNESS_APK", raising=False)
    with pytest.raises(DeviceError) as caught:
        apk.ensure_app(Talking("print('0' if 'get-current-user' in sys.argv[-1] else 'Unable to find package')"), None)
    assert caught.value.message == "Gradle did not build the app for phone (it said more than 4 MiB)."


def test_a_host_s_log_without_an_end_fills_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "MOST", 2 << 20)
    monkeypatch.setattr(log_file, "WATCH_SECONDS", 0.01)
    log = log_file.LogFile(tmp_path / "log.txt")
    words = "while True: sys.stdout.buffer.write(b'0123456789abcde\\n' * 65536); time.sleep(0.02)"
    with (
        log.open() as file,
        subprocess.Popen([sys.executable, "-c", f"import sys, time\n{words}"], stdout=file) as process,
    ):
        try:
            deadline = time.monotonic() + 30
            largest = 0
            while log.mark() < 32 << 20:
                assert time.monotonic() < deadline
                largest = max(largest, log.path.stat().st_size)
                time.sleep(0.005)
        finally:
            process.kill()
    said = log.since(5)
    assert said.splitlines()[0].endswith(" bytes of log before this were not kept]")
    assert len(said) <= LOG_LIMIT + 80
    assert largest < 16 << 20
    end = log.mark()
    log.close()
    with log.path.open("ab") as file:
        file.write(b"the last word\n")
    assert log.since(end) == "the last word\n"

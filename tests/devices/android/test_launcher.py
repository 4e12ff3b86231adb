"""How the app is started, found and ended, with an adb that answers what a test has it answer."""

from __future__ import annotations

import re
import secrets
import socket
import time
from contextlib import closing
from functools import cached_property
from typing import Any

import pytest

from harness.core.errors import DeviceError
from harness.devices.android import device as module
from harness.devices.android.adb import Adb, AdbError, Server
from harness.devices.android.device import AndroidDevice, AndroidLauncher, PhoneOptions
from harness.devices.android.logcat import Exit

NAME = "dev.litertharness.0123456789abcdef"
Socket = socket.socket
AM = ("am", "instrument", "--user", "0", "-e", "socket", NAME, "dev.litertharness/.WorkerInstrumentation")
STOP = ("am", "force-stop", "--user", "0", "dev.litertharness")
GONE = AdbError("adb", "S0", "", None, "gave no answer")


class Phone(Adb):
    """Its processes are these, one list after another, the last for ever; an error is raised."""

    def __init__(self, *pids: str | AdbError, said: str = "", streams: int = 0) -> None:
        super().__init__(Server(), "S0")
        self.pids, self.said, self.refuses = list(pids), said, streams
        self.told: list[tuple[tuple[str, ...], float | None, bool]] = []
        self.asked: list[tuple[str, float]] = []
        self.user = 0

    @cached_property
    def socket(self) -> Socket:
        """What it is connected to; a test that connects closes it."""
        return socket.socket()

    def shell(self, *argv: str, seconds: float | None = None, check: bool = True) -> str:
        if argv == ("pidof", "dev.litertharness"):
            assert not check
            pids = self.pids.pop(0) if len(self.pids) > 1 else self.pids[0]
            if isinstance(pids, AdbError):
                raise pids
            return pids
        if argv == ("am", "get-current-user"):
            return f"{self.user}\n"
        self.told.append((argv, seconds, check))
        if self.said == "gone":
            raise GONE
        return self.said

    def stream(self, service: str, deadline: float) -> Socket:
        self.asked.append((service, deadline))
        if self.refuses:
            self.refuses -= 1
            raise AdbError(f"adb {service}", "S0", "", None, "was refused")
        return self.socket


class Log:
    """A log that nobody writes."""

    def __init__(self) -> None:
        self.notes: list[Any] = []
        self.said = ""

    def append(self, text: str) -> None:
        self.notes.append(text)

    def follow(self, adb: Adb, pid: int) -> None:
        self.notes.append(pid)

    def stop(self) -> None:
        self.notes.append("stop")

    def since(self, mark: int) -> str:
        return self.said[mark:]

    def mark(self) -> int:
        return len(self.said)

    def settle(self, seconds: float, there: Any, mark: int) -> None:
        self.notes.append((seconds, mark, there("INFO: answered 7\n"), there("INFO: answered x\n")))


class Lock:
    def __init__(self) -> None:
        self.taken = 0

    def take(self) -> None:
        self.taken += 1

    def give_back(self) -> None:
        self.taken -= 1


@pytest.fixture(autouse=True)
def boots(monkeypatch: pytest.MonkeyPatch) -> list[str | DeviceError]:
    """The boot ids, one after another, the last for ever. The clock goes on by nothing but sleep."""
    found: list[str | DeviceError] = ["b1"]
    now = [64.0]

    def back(adb: Adb, seconds: float | None, progress: object) -> str:
        boot = found.pop(0) if len(found) > 1 else found[0]
        if isinstance(boot, DeviceError):
            raise boot
        return boot

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(module, "bring_back", back)
    monkeypatch.setattr(module, "put_back", lambda adb, boot_id: False)
    monkeypatch.setattr(secrets, "token_hex", lambda size: "0123456789abcdef"[: 2 * size])
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(
        module, "exit_of", lambda adb, package, pid, log: Exit(f"{package} {pid} {log}", "SIGX", "tomb")
    )
    return found


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was made ready, and which app was put there."""
    found: list[Any] = []
    monkeypatch.setattr(module, "make_ready", lambda adb, cool_down: found.append(cool_down))

    def ensure(adb: Phone, apk: object, progress: object) -> int:
        found.append(apk)
        return adb.user

    monkeypatch.setattr(module, "ensure_app", ensure)
    return found


def launched(phone: Phone, options: PhoneOptions | None = None) -> tuple[AndroidLauncher, Log]:
    launcher, log = AndroidLauncher(phone, options or PhoneOptions()), Log()
    launcher._logcat = log  # type: ignore[assignment]
    launcher._lock = Lock()  # type: ignore[assignment]
    return launcher, log


def test_the_app_is_started_anew_found_and_connected_to(prepared: list[Any]) -> None:
    phone = Phone("5", "5", "5 7 9")
    launcher, log = launched(phone, PhoneOptions(cool_down=3.0))
    assert (launcher.boot_id, launcher.socket_name) == ("", "")
    assert launcher.start_plain() is phone.socket
    assert (launcher.boot_id, launcher.socket_name) == ("b1", NAME)
    assert phone.told == [(AM, 30, False)]
    assert phone.asked == [(f"localabstract:{NAME}", 64.0 + 30)]
    assert log.notes == [9]  # the newest of those that were not there before
    assert prepared == [3.0, None]
    phone.pids[:] = ["", "11"]
    launcher.start_plain()
    assert prepared == [3.0, None]  # once a boot
    phone.socket.close()


def test_after_a_reboot_the_phone_is_made_ready_again(prepared: list[Any], boots: list[str | DeviceError]) -> None:
    phone = Phone("", "7")
    launcher, log = launched(phone)
    launcher.start_plain()
    boots[:] = ["b2"]
    phone.pids[:] = ["", "8"]
    launcher.start_plain()
    assert log.notes == [7, "the phone rebooted: boot id b1, then b2", 8]
    assert prepared == [0.0, None] * 2
    phone.socket.close()


def test_another_user_who_has_taken_the_phone_gets_the_app(prepared: list[Any]) -> None:
    phone = Phone("", "7")
    launcher, _ = launched(phone)
    launcher.start_plain()
    phone.user, phone.pids[:] = 10, ["", "8"]
    launcher.start_plain()
    launcher.kill()
    assert (prepared, launcher.user) == ([0.0, None, None], 10)
    named = [words[words.index("--user") + 1] for words, _, _ in phone.told]
    assert named == ["0", "10", "10"]  # started, started, stopped
    phone.socket.close()


def test_a_user_whom_adb_may_not_touch_is_one_sentence(prepared: list[Any]) -> None:
    denied = "\njava.lang.SecurityException: Shell does not have permission to access user 0\n"
    launcher, _ = launched(Phone("", said=denied))
    with pytest.raises(DeviceError, match=r"^S0 lets adb do nothing for user 0, who is in front"):
        launcher.start_plain()


@pytest.mark.parametrize("said", ["INSTRUMENTATION_FAILED: x", "java.lang.Exception", "Error: x"])
def test_an_app_that_does_not_start_is_one_sentence(said: str, prepared: list[Any]) -> None:
    launcher, _ = launched(Phone("", said=f"\n{said}\nmore\n"))
    with pytest.raises(DeviceError) as caught:
        launcher.start_plain()
    assert caught.value.message == f"The app does not start on S0: {said}."
    assert caught.value.next_step == "Unlock the phone once if it has just booted, and look at `adb logcat`."


def test_an_app_that_never_runs_is_waited_for_ten_seconds(prepared: list[Any]) -> None:
    launcher, _ = launched(Phone("5"))
    with pytest.raises(DeviceError) as caught:
        launcher.start_plain()
    assert caught.value.message == "The app does not stay alive on S0."
    assert 74.0 <= time.monotonic() < 74.0 + 2 * 0.05
    phone = Phone("5", "5", "7")
    assert launched(phone)[0]._wait_for_pid([]) == 5


@pytest.mark.parametrize(("streams", "deadline", "connects"), [(0, 0.0, True), (3, 0.15, True), (4, 0.15, False)])
def test_a_socket_is_asked_for_until_the_deadline(streams: int, deadline: float, connects: bool) -> None:
    phone = Phone("7", streams=streams)
    launcher, _ = launched(phone)
    # Rounding: three naps of 0.05 s may end just before 64.15.
    limit = 64.0 + 0.05 + 0.05 + 0.05 if deadline else 64.0
    if connects:
        assert launcher._connect(7, limit) is phone.socket
    else:
        with pytest.raises(DeviceError) as caught:
            launcher._connect(7, limit)
        assert caught.value.message == ("The app on S0 does not open its socket: `adb localabstract:` was refused.")
        assert caught.value.next_step == "Run `harness doctor`."
    assert len(phone.asked) == min(streams, 3) + 1
    phone.socket.close()


def test_an_app_that_ends_before_it_opens_its_socket_says_why() -> None:
    phone = Phone("8", streams=1)
    launcher, log = launched(phone)
    log.said = "last words"
    with pytest.raises(DeviceError) as caught:
        launcher._connect(7, 90.0)
    assert caught.value.message == "The app ended as it started on S0: dev.litertharness 7 last words."
    assert caught.value.next_step == "Look at `adb logcat`."
    assert log.notes == ["tomb"]


@pytest.mark.parametrize(
    ("pids", "death", "until"),
    [
        (("",), ("dev.litertharness 7 log", "SIGX"), 64.0),
        (("7", "7", "8"), ("dev.litertharness 7 log", "SIGX"), 64.1),
        (("7",), None, 65.0),
        ((GONE,), None, 64.0),
        (("7", GONE), None, 64.05),
    ],
)
def test_an_end_within_a_second_is_told(
    pids: tuple[str | AdbError, ...], death: tuple[str, str] | None, until: float
) -> None:
    launcher, log = launched(Phone(*pids))
    assert launcher.death() is None
    launcher._pid, log.said = 7, "log"
    assert launcher.death() == death
    assert until - 1e-9 <= time.monotonic() < until + 0.05 + 1e-9
    assert log.notes == (["tomb"] if death else [])


def test_a_tombstone_that_is_not_there_is_no_line_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "exit_of", lambda *words: Exit("why"))
    launcher, log = launched(Phone(""))
    assert launcher._exit(7) == Exit("why")
    assert log.notes == []


@pytest.mark.parametrize(
    ("boot", "reason", "said"),
    [
        ("b1", "", "it went; S0 is attached and did not reboot"),
        ("b2", "panic", "the phone rebooted during the run (boot id b1, then b2; its reason: panic)"),
        ("b2", "", "the phone rebooted during the run (boot id b1, then b2)"),
        ("b2", "gone", "the phone rebooted during the run (boot id b1, then b2)"),
        (DeviceError("S0 is not there.", "Look."), "", "it went; S0 is not there"),
    ],
)
def test_what_became_of_a_phone_whose_line_broke(
    boot: str | DeviceError, reason: str, said: str, boots: list[str | DeviceError]
) -> None:
    phone = Phone("", said=reason)
    launcher, _ = launched(phone)
    launcher._boot_id = "b1"
    boots[:] = [boot]
    assert launcher.lost("it went") == said
    assert phone.told == ([(("getprop", "sys.boot.reason"), None, True)] if boot == "b2" else [])


@pytest.mark.parametrize("said", ["", "gone"])
def test_an_app_is_stopped_once_and_its_phone_given_back(said: str) -> None:
    phone = Phone("7", said=said)
    launcher, log = launched(phone)
    launcher.kill()
    assert (phone.told, log.notes) == ([], ["stop"])
    launcher._pid = 7
    launcher._lock = lock = Lock()  # type: ignore[assignment]
    lock.take()
    launcher.close()
    launcher.kill()
    assert phone.told == [(STOP, 5, True)]
    assert log.notes == ["stop"] * 3
    assert lock.taken == 0


def test_a_log_is_complete_at_the_app_s_last_word_while_it_runs() -> None:
    launcher, log = launched(Phone("7"))
    log.said = "0123456789"
    assert launcher.log_mark() == 10
    assert launcher.log(4) == "456789"
    assert log.notes == []
    launcher._pid = 7
    assert launcher.log(4) == "456789"
    assert log.notes == [(1, 4, True, False)]


def test_a_phone_is_a_device_with_options_of_its_own() -> None:
    options = PhoneOptions(cool_down=1.0)
    with closing(AndroidDevice("pixel8a", Phone(""), options)) as phone:
        assert (phone.name, phone.kind, phone.launcher._options) == ("pixel8a", "android", options)
    assert AndroidDevice("pixel8a", Phone("")).launcher._options == PhoneOptions(None, 0.0)
    assert re.fullmatch(r"dev\.litertharness\.[0-9a-f]{16}", NAME)

"""A phone is waited for while it can come back; without an adb it cannot."""

from __future__ import annotations

import errno
import time
from types import SimpleNamespace

import adbutils
import pytest

from harness.core.errors import DeviceError
from harness.devices.android import adb as adb_module
from harness.devices.android import recovery
from harness.devices.android.adb import Adb, AdbError, AdbMissing, Server
from harness.devices.android.recovery import bring_back
from harness.devices.captured import Captured
from harness.devices.registry import attached_devices


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.ENOTDIR])
def test_without_an_adb_to_start_no_phone_is_waited_for(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def gone(command: list[str], seconds: float) -> Captured:
        raise OSError(number, "it is not there")

    monkeypatch.setattr(adb_module, "captured", gone)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it was waited for"))
    with pytest.raises(AdbMissing, match=r"cannot be started \(it is not there\)"):
        bring_back(Adb(Server("127.0.0.1", 5999), "S1"))


def test_no_adb_at_all_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """adbutils brings one for common systems only."""

    def none() -> str:
        raise adbutils.AdbError("No adb exe could be found. Install adb on your system")

    monkeypatch.setattr(adbutils, "adb_path", none)
    with pytest.raises(AdbMissing) as caught:
        bring_back(Adb(Server("127.0.0.1", 5999), "S1"))
    assert caught.value.message == "`adb` is not there (No adb exe could be found. Install adb on your system)."
    assert caught.value.next_step == "Install Android's platform-tools, or set ADBUTILS_ADB_PATH to an adb."


def test_a_list_of_devices_without_an_adb_says_so_and_blames_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADBUTILS_ADB_PATH", "/nowhere/adb")
    with pytest.raises(AdbMissing) as caught:
        attached_devices()
    assert caught.value.message == "`adb devices -l` cannot be started (No such file or directory)."


def test_a_machine_out_of_processes_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def busy(command: list[str], seconds: float) -> Captured:
        asked.append(command)
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(adb_module, "captured", busy)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(DeviceError, match="S1 is not there: adb says nothing in time") as caught:
        bring_back(Adb(Server("127.0.0.1", 5999), "S1"), seconds=0.05)
    assert not isinstance(caught.value, AdbMissing)
    assert len(asked) > 1


class Phone:
    """Answers one state after another, the last one for good; a state that is an error is raised."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, serial: str, *states: str | AdbError, booted: str = "1"
    ) -> None:
        self.adb, self.states, self.calls = (
            Adb(Server("127.0.0.1", 5999), serial),
            list(states),
            list[tuple[str, ...]](),
        )
        self.said: list[str] = []
        self.now = 0.0
        monkeypatch.setattr(Adb, "state", lambda adb: self.state())
        monkeypatch.setattr(Adb, "boot_id", lambda adb: "b1")
        monkeypatch.setattr(Adb, "getprop", lambda adb, name: booted)
        monkeypatch.setattr(Adb, "call", lambda adb, *words, **options: self.calls.append((adb.serial, *words)))
        monkeypatch.setattr(recovery, "time", SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep))

    def state(self) -> str:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, AdbError):
            raise state
        return state

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def back(self, seconds: float | None = None) -> str:
        return bring_back(self.adb, seconds, self.said.append)


def failed(output: str, code: int | None = 1) -> AdbError:
    return AdbError("adb get-state", "S1", output, code, "failed")


def test_a_phone_that_is_there_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    phone = Phone(monkeypatch, "S1", "device")
    assert phone.back(0.0) == "b1"
    assert (phone.now, phone.calls, phone.said) == (0.0, [], [])


@pytest.mark.parametrize(
    ("serial", "state", "calls"),
    [
        ("S1", "absent", []),
        ("S1", "offline", [("", "reconnect", "offline")]),
        ("S1", failed("", None), [("S1", "reconnect")]),
        ("S1", failed("", 1), []),
        ("10.0.0.2:5555", "absent", [("", "connect", "10.0.0.2:5555")]),
        ("[::1]:5555", "offline", [("", "reconnect", "offline"), ("", "connect", "[::1]:5555")]),
    ],
)
def test_each_way_to_be_gone_has_its_own_way_back(
    monkeypatch: pytest.MonkeyPatch, serial: str, state: str | AdbError, calls: list[tuple[str, ...]]
) -> None:
    phone = Phone(monkeypatch, serial, state, "device")
    assert phone.back() == "b1"
    assert phone.calls == calls
    assert phone.now == recovery.POLL_SECONDS


@pytest.mark.parametrize("state", ["unauthorized", "no permissions"])
def test_a_phone_that_lets_nobody_in_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    phone = Phone(monkeypatch, "S1", state)
    with pytest.raises(DeviceError) as caught:
        phone.back()
    assert (caught.value.message, caught.value.next_step) == (f"S1 is {state} for adb.", recovery.UNAUTHORIZED)
    assert phone.now == 0.0


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("device", "booting"),
        (failed("first\nlast\n"), "last"),
        (failed(" \n"), "nothing"),
        (failed("", None), "nothing in time"),
    ],
)
def test_a_phone_that_stays_away_is_given_up_at_the_limit(
    monkeypatch: pytest.MonkeyPatch, state: str | AdbError, told: str
) -> None:
    phone = Phone(monkeypatch, "S1", state, booted="0")
    with pytest.raises(DeviceError) as caught:
        phone.back(1.0)
    assert (caught.value.message, caught.value.next_step) == (f"S1 is not there: adb says {told}.", recovery.ABSENT)
    assert phone.now == 1.0
    assert phone.said == [f"waiting for S1 ({told})"]

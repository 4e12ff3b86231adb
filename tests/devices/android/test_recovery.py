"""A phone is waited for while it can come back; without an adb it cannot."""

from __future__ import annotations

import errno
import time

import adbutils
import pytest

from harness.core.errors import DeviceError
from harness.devices.android import adb as adb_module
from harness.devices.android.adb import Adb, AdbMissing, Server
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

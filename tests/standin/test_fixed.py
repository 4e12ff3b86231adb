"""Fixed-performance mode on the stand-in: on while it is held, and off again however the holder ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import DeviceError
from harness.core.job import Completed, Crashed, Job, Options
from harness.devices.android import fixed, recovery
from harness.devices.android.adb import Adb, Server
from harness.devices.android.device import AndroidDevice, PhoneOptions
from harness.devices.android.fixed import MARKER, FixedPerformance, put_back
from harness.devices.execute import make_job
from harness.devices.registry import find_phone
from harness.graph.model import Model
from tests.standin.phone import AdbServer, Phone
from tests.standin.test_faults import ONES, soon

SOON = 20.0


@pytest.fixture(autouse=True)
def off_before_and_after(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(recovery, "RETURN_SECONDS", 30.0)
    phone.write("power", {"hal": True, "fixed": False, "asked": []})
    yield
    assert mode(phone)["fixed"] is False
    until(lambda: not marker(phone).exists())


@pytest.fixture
def quick(plus_one: Model) -> Job:
    return make_job(plus_one, {"x": ONES}, Options("cpu"), timeout=30)


@pytest.fixture
def pinned(phone: Phone, apk: Path) -> AndroidDevice:
    """The phone, in the mode once it is started."""
    return AndroidDevice("pixel8a", find_phone(phone.serial), PhoneOptions(apk, fixed_performance=True))


def mode(phone: Phone) -> dict[str, Any]:
    found: dict[str, Any] = phone.read("power")
    return found


def marker(phone: Phone) -> Path:
    return phone.data.parent / MARKER.lstrip("/")


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_mode_is_on_while_the_device_is_open(phone: Phone, pinned: AndroidDevice, quick: Job) -> None:
    with pinned:
        assert pinned.fixed_performance is False
        assert isinstance(pinned.run(quick), Completed)
        assert (pinned.fixed_performance, mode(phone)["fixed"]) == (True, True)
        pinned.stop()
        assert isinstance(pinned.run(quick), Completed)  # in another process of the app
    assert mode(phone)["asked"] == ["true", "false"]


def test_nobody_who_did_not_ask_gets_it(phone: Phone, pixel: AndroidDevice, quick: Job) -> None:
    assert isinstance(pixel.run(quick), Completed)
    assert (pixel.fixed_performance, mode(phone)["asked"]) == (None, [])


def test_an_exception_ends_it(phone: Phone, pinned: AndroidDevice, quick: Job) -> None:
    with pytest.raises(ZeroDivisionError), pinned:
        pinned.run(quick)
        raise ZeroDivisionError
    assert mode(phone)["asked"] == ["true", "false"]


def test_the_app_killed_leaves_it_on_for_the_next_job_and_off_at_the_end(
    phone: Phone, pinned: AndroidDevice, quick: Job, plus_one: Model
) -> None:
    with pinned:
        pinned.run(quick)
        soon(lambda: os.kill(phone.pid, signal.SIGKILL))
        endless = make_job(plus_one, {"x": ONES}, Options("cpu"), timeout=30, iterations=1 << 20)
        assert isinstance(pinned.run(endless), Crashed)
        assert isinstance(pinned.run(quick), Completed)
        assert pinned.fixed_performance is True
    assert mode(phone)["asked"] == ["true", "false"]


@pytest.mark.parametrize("hal", [False, None])
def test_a_phone_without_it_says_so_in_its_own_words(
    phone: Phone, pinned: AndroidDevice, quick: Job, hal: bool | None
) -> None:
    phone.change("power", hal=hal)
    said = "Failed to set FIXED_PERFORMANCE mode" if hal is False else "Unknown command: set-fixed-performance-mode"
    with pytest.raises(DeviceError, match=f"does not turn fixed-performance mode on: {said}"), pinned:
        pinned.run(quick)


def test_a_reboot_turns_it_off_and_the_next_job_on_again(phone: Phone, pinned: AndroidDevice, quick: Job) -> None:
    with pinned:
        pinned.run(quick)
        phone.reboot()
        assert mode(phone)["fixed"] is False
        outcome = pinned.run(quick)
        assert isinstance(outcome, Completed) or isinstance(pinned.run(quick), Completed)
        assert (pinned.fixed_performance, mode(phone)["fixed"]) == (True, True)


HOLD = """
import sys, time
from harness.devices.android.adb import Adb, Server
from harness.devices.android.fixed import FixedPerformance
adb = Adb(Server(), sys.argv[1])
held = FixedPerformance(adb)
held.hold(adb.boot_id())
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(phone: Phone) -> Iterator[subprocess.Popen[bytes]]:
    """Another process, which holds the mode."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, phone.serial], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    assert mode(phone)["fixed"] is True
    yield process
    process.kill()
    process.communicate()


def test_the_host_killed_has_the_phone_put_it_back(phone: Phone, holder: subprocess.Popen[bytes]) -> None:
    holder.kill()
    until(lambda: not mode(phone)["fixed"])


def test_the_connection_gone_has_the_phone_put_it_back(
    phone: Phone, holder: subprocess.Popen[bytes], adb_server: AdbServer
) -> None:
    """The adb server ends and its client with it; adbd hangs up on the guard."""
    adb_server.kill()
    until(lambda: not mode(phone)["fixed"])
    adb_server.start()
    phone.connect()


def test_what_even_the_guard_did_not_survive_the_next_command_puts_back(
    phone: Phone, holder: subprocess.Popen[bytes], pixel: AndroidDevice, quick: Job
) -> None:
    """A restart of adbd ends what it started, the guard too; the phone does not reboot."""
    guard = int(marker(phone).read_text("ascii").split()[1])
    os.kill(guard, signal.SIGKILL)
    phone.stop_adbd()
    holder.kill()
    phone.boot()
    phone.connect()
    assert mode(phone)["fixed"] is True
    assert isinstance(pixel.run(quick), Completed)
    assert mode(phone)["asked"] == ["true", "false"]


def test_a_mode_that_somebody_holds_is_left_alone(phone: Phone, holder: subprocess.Popen[bytes]) -> None:
    adb = Adb(Server(), phone.serial)
    assert put_back(adb, adb.boot_id()) is False
    assert mode(phone)["fixed"] is True
    holder.kill()
    until(lambda: not mode(phone)["fixed"])


def test_a_lease_that_is_over_ends_it(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the network goes without a word: the guard waits no longer than it was told."""
    monkeypatch.setattr(fixed, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(fixed, "MARGIN_SECONDS", 0.0)
    held = FixedPerformance(Adb(Server(), phone.serial))
    held.hold("b00t")
    until(lambda: not mode(phone)["fixed"])
    until(lambda: not held.on)
    held.release()


def test_a_lease_is_renewed_by_another_guard_before_it_ends(phone: Phone) -> None:
    adb = Adb(Server(), phone.serial)
    held = FixedPerformance(adb)
    boot = adb.boot_id()
    held.hold(boot)
    held.hold(boot, 60)
    assert mode(phone)["asked"] == ["true"]
    held.hold(boot, 2 * fixed.LEASE_SECONDS)
    assert (mode(phone)["asked"], mode(phone)["fixed"]) == (["true", "true"], True)
    assert held.release() == ""
    assert mode(phone)["asked"] == ["true", "true", "false"]


def test_a_guard_that_went_is_made_up_for_at_the_end(phone: Phone) -> None:
    adb = Adb(Server(), phone.serial)
    held = FixedPerformance(adb)
    held.hold(adb.boot_id())
    os.kill(int(marker(phone).read_text("ascii").split()[1]), signal.SIGKILL)
    assert mode(phone)["fixed"] is True
    assert held.release() == ""
    assert mode(phone)["asked"] == ["true", "false"]


def test_a_renewal_that_fails_leaves_nothing_on(phone: Phone) -> None:
    adb = find_phone(phone.serial)
    held, boot_id = FixedPerformance(adb), adb.boot_id()
    held.hold(boot_id)
    phone.change("power", hal=False)
    with pytest.raises(DeviceError, match="does not turn fixed-performance mode on"):
        held.hold(boot_id, 2 * fixed.LEASE_SECONDS)
    assert held.on is False and marker(phone).exists()  # neither could the first guard turn it off
    phone.change("power", hal=True)
    assert put_back(adb, boot_id) is True

"""A phone by name, of what adb lists: exact sentences, and how long each phone may take to tell its product."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import NoReturn

import pytest

from harness.core.errors import DeviceError, UsageError
from harness.devices import registry
from harness.devices.android.adb import Adb, AdbError, AdbMissing, Attached, Server
from harness.devices.android.recovery import UNAUTHORIZED
from harness.devices.registry import find_phone, kind_of

FARM = Server("farm", 5038)


def lists(monkeypatch: pytest.MonkeyPatch, *attached: Attached, server: Server | None = None) -> None:
    """Let a server list these, and no other be asked."""

    def ask(asked: Server) -> list[Attached]:
        assert asked == (server or Server())
        return list(attached)

    monkeypatch.setattr(registry, "attached_devices", ask)


@pytest.mark.parametrize(
    ("left", "share", "seconds"),
    [
        (10.0, 1, 10.0),
        (10.0, 4, 2.5),
        (10.0, 10, 1.0),
        (10.0, 11, 1.0),  # among many each has a second
        (10.0, 1000, 1.0),
        (1.5, 3, 1.0),
        (0.5, 1, 0.5),
        (0.5, 1000, 0.5),  # and never more than is left of the time of all
        (0.25, 2, 0.25),
    ],
)
def test_a_phone_has_its_part_of_the_time_or_a_second_of_what_is_left(
    left: float, share: int, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Server, str, tuple[str, ...], float | None]] = []

    def shell(phone: Adb, *argv: str, seconds: float | None = None, check: bool = True) -> str:
        asked.append((phone.server, phone.serial, argv, seconds))
        return " akita\n"

    monkeypatch.setattr(Adb, "shell", shell)
    monkeypatch.setattr(registry, "time", SimpleNamespace(monotonic=lambda: 64.0))
    assert registry._product(FARM, Attached("S0", "device", ""), 64.0 + left, share) == "akita"
    assert asked == [(FARM, "S0", ("getprop", "ro.product.device"), seconds)]


@pytest.mark.parametrize(
    ("device", "until"),
    [
        (Attached("S0", "device", "lynx"), 65.0),
        (Attached("S0", "offline", ""), 65.0),
        (Attached("S0", "offline", "lynx"), 65.0),
        (Attached("S0", "device", ""), 64.0),
        (Attached("S0", "device", ""), 63.0),
    ],
)
def test_a_phone_that_told_its_product_or_cannot_or_comes_too_late_is_not_asked(
    device: Attached, until: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Adb, "shell", lambda *words, **options: pytest.fail("it was asked"))
    monkeypatch.setattr(registry, "time", SimpleNamespace(monotonic=lambda: 64.0))
    assert registry._product(FARM, device, until, 1) == device.product


def test_the_time_is_shared_by_those_still_to_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float | None] = []

    def shell(phone: Adb, *argv: str, seconds: float | None = None, check: bool = True) -> str:
        asked.append(seconds)
        return ""

    monkeypatch.setattr(Adb, "listed", lambda _: [Attached(f"S{i}", "device", "") for i in range(4)])
    monkeypatch.setattr(Adb, "shell", shell)
    monkeypatch.setattr(registry, "time", SimpleNamespace(monotonic=lambda: 64.0))
    assert [d.product for d in registry.attached_devices()] == ["", "", "", ""]
    assert asked == [2.5, 10 / 3, 5.0, 10.0]


@pytest.mark.parametrize(("many", "rest"), [(19, ""), (20, ""), (21, " and 1 other"), (22, " and 2 others")])
def test_twenty_phones_are_named_and_the_others_counted(many: int, rest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lists(monkeypatch, *(Attached(f"S{i}", "offline", "") for i in range(many)))
    with pytest.raises(UsageError) as caught:
        find_phone("none")
    named = ", ".join(f"S{i} (offline)" for i in range(min(many, 20)))
    assert caught.value.message == f"There is no device 'none': adb sees {named}{rest}."


def test_a_phone_of_another_machine_is_found_there(monkeypatch: pytest.MonkeyPatch) -> None:
    lists(monkeypatch, Attached("S0", "device", "akita"), Attached("S1", "device", "lynx"), server=FARM)
    for name, serial in (("pixel8a@farm:5038", "S0"), ("S1@farm:5038", "S1")):
        phone = find_phone(name)
        assert (phone.server, phone.serial) == (FARM, serial)


def test_a_phone_of_this_machine_is_found_by_its_serial_whatever_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """An offline one comes back, maybe, while it is waited for."""
    lists(monkeypatch, Attached("S0", "offline", ""), Attached("S1", "recovery", ""))
    assert [find_phone(name).serial for name in ("S0", "S1")] == ["S0", "S1"]
    assert find_phone("S0").server == Server()


def test_each_sentence_has_its_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    lists(monkeypatch, Attached("S0", "unauthorized", "akita"))
    with pytest.raises(DeviceError) as caught:
        find_phone("S0")
    assert (caught.value.message, caught.value.next_step) == ("S0 is unauthorized for adb.", UNAUTHORIZED)
    with pytest.raises(DeviceError) as caught:
        find_phone("pixel8a")
    assert caught.value.message == "No Pixel 8a (akita) is attached: adb sees S0 (akita)."
    assert caught.value.next_step == ("Connect it, allow USB debugging on its screen, and look at `harness devices`.")
    with pytest.raises(UsageError) as misused:
        find_phone("none@")
    assert misused.value.message == "There is no device 'none@': adb sees S0 (akita)."
    names = ", ".join(registry.profiles())
    assert misused.value.next_step == f"Use host, web, either @RELEASE, a serial that adb lists, or one of: {names}."


def test_a_reconnection_that_fails_is_no_end_of_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server does not know the word, or the phone comes back by itself meanwhile."""
    clock, asked = [64.0], [0]

    def ask(server: Server) -> list[Attached]:
        assert server == FARM
        asked[0] += 1
        return [Attached("S0", "device" if asked[0] > 3 else "offline", "akita")]

    def fails(phone: Adb, *words: str) -> NoReturn:
        assert (phone.server, phone.serial, words) == (FARM, "", ("reconnect", "offline"))
        raise AdbError("adb reconnect", "", "", 1, "ended with exit code 1")

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr(registry, "attached_devices", ask)
    monkeypatch.setattr(registry, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    monkeypatch.setattr(Adb, "call", fails)
    assert find_phone("pixel8a@farm:5038").serial == "S0"
    assert clock[0] == 64.75


def test_a_server_that_fails_is_told_from_an_adb_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[AdbError] = []

    def listed(phone: Adb) -> NoReturn:
        assert phone.server == FARM
        raise raised[0]

    monkeypatch.setattr(Adb, "listed", listed)
    raised[:] = [AdbMissing("adb", "", "", None, "is not there")]
    with pytest.raises(AdbMissing) as missing:
        registry.attached_devices(FARM)
    assert missing.value is raised[0]
    raised[:] = [AdbError("adb devices", "", "first\nsecond\n", 1, "ended with exit code 1")]
    with pytest.raises(DeviceError) as caught:
        registry.attached_devices(FARM)
    assert type(caught.value) is DeviceError
    assert caught.value.message == "The adb server at farm:5038 cannot be asked (second)."
    assert caught.value.next_step == "Run `adb start-server` there."


def test_only_another_release_of_the_runtime_needs_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    host = kind_of("host")
    said: list[str] = []
    asked: list[tuple[str, object]] = []

    def environment(release: str, progress: object) -> str:
        asked.append((release, progress))
        return "/there/python"

    monkeypatch.setattr(registry, "release_environment", environment)
    assert host.profiler_python is not None
    assert host.profiler_python("host") == sys.executable
    assert asked == []
    assert host.profiler_python("host@2.1.5") == "/there/python"
    host.check("host@2.1.6", said.append)
    assert asked == [("2.1.5", None), ("2.1.6", said.append)]

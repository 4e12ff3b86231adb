"""Names on the command line."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from harness.core.errors import DeviceError, UsageError
from harness.devices import registry
from harness.devices.android import adb
from harness.devices.android.adb import Adb, AdbError, Attached, Server
from harness.devices.host.device import HostDevice
from harness.devices.registry import attached_devices, check_device, open_device, profiles


@pytest.fixture
def attached(monkeypatch: pytest.MonkeyPatch) -> list[Attached]:
    """What adb lists, which a test fills; asked of the local server only."""
    found: list[Attached] = []

    def ask(server: Server) -> list[Attached]:
        assert server == Server()
        return found

    monkeypatch.setattr(registry, "attached_devices", ask)
    return found


def test_the_host_needs_no_adb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "attached_devices", lambda server: pytest.fail("adb was asked"))
    with open_device("host") as device:
        assert isinstance(device, HostDevice)
        assert (device.name, device.kind) == ("host", "host")
    check_device("host")


def test_the_pixel_8a_is_known_by_its_product_name() -> None:
    assert profiles()["pixel8a"].product == "akita"
    assert all(p.name == name and p.product and p.title for name, p in profiles().items())
    assert len({p.product for p in profiles().values()}) == len(profiles())


def test_a_known_phone_that_is_not_attached_is_device_trouble(attached: list[Attached]) -> None:
    with pytest.raises(DeviceError) as caught:
        open_device("pixel8a")
    assert caught.value.message == "No Pixel 8a (akita) is attached: adb sees no device."
    attached.append(Attached("1A2B", "unauthorized", ""))
    attached.append(Attached("3C4D", "device", "lynx"))
    with pytest.raises(DeviceError) as caught:
        check_device("pixel8a")
    assert caught.value.message == ("No Pixel 8a (akita) is attached: adb sees 1A2B (unauthorized), 3C4D (lynx).")


@pytest.mark.parametrize("name", ["pixel99", "", "hos", "Host", "host ", "1A2B"])
def test_a_name_that_nothing_has_is_misuse(attached: list[Attached], name: str) -> None:
    attached.append(Attached("3C4D", "device", "lynx"))
    with pytest.raises(UsageError) as caught:
        open_device(name)
    assert caught.value.message == f"There is no device '{name}': adb sees 3C4D (lynx)."
    assert "pixel8a" in caught.value.next_step


@pytest.mark.parametrize(
    "server", ["farm:http", "farm:-1", "farm:65536", "farm:99999999999999999999", "farm:1:2", "[::1]:5037", "farm:٣x"]
)
def test_a_server_is_a_host_and_a_port(server: str) -> None:
    with pytest.raises(UsageError, match="is not an adb server"):
        check_device(f"pixel8a@{server}")


def test_a_server_that_does_not_listen_is_device_trouble() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(DeviceError) as caught:
            open_device(f"pixel8a@127.0.0.1:{port}")
    assert caught.value.message.startswith(f"The adb server at 127.0.0.1:{port} cannot be asked (")
    assert caught.value.next_step == "Run `adb start-server` there."


@pytest.fixture
def silent_server() -> Iterator[int]:
    """Accepts, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def accept() -> None:
            try:
                while True:
                    held.append(server.accept()[0])
            except OSError:
                pass

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        for sock in held:
            sock.close()
        server.shutdown(socket.SHUT_RDWR)


def test_a_server_that_never_answers_is_given_up(silent_server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adb, "ADB_SECONDS", 0.3)
    with pytest.raises(DeviceError, match=r"gave no answer within 0\.3 s and was killed"):
        attached_devices(Server("127.0.0.1", silent_server))


def test_of_many_phones_a_sentence_names_a_few(attached: list[Attached]) -> None:
    attached.extend(Attached(f"S{i}", "device", "akita") for i in range(1000))
    with pytest.raises(UsageError) as caught:
        open_device("S")
    assert caught.value.message.startswith("There is no device 'S': adb sees S0 (akita), S1 (akita), ")
    assert caught.value.message.endswith(", S19 (akita) and 980 others.")


def test_a_phone_that_hangs_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]

    def shell(phone: Adb, *argv: str, seconds: float | None = None, check: bool = True) -> str:
        assert seconds is not None
        clock[0] += seconds if phone.serial == "S0" else 0.1
        if phone.serial == "S0":
            raise AdbError("adb shell", "S0", "", None, "gave no answer")
        return "akita\n"

    monkeypatch.setattr(Adb, "listed", lambda _: [Attached(f"S{i}", "device", "") for i in range(3)])
    monkeypatch.setattr(Adb, "shell", shell)
    monkeypatch.setattr(registry, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    assert [d.product for d in registry.attached_devices()] == ["", "akita", "akita"]


def test_products_are_asked_for_a_while_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may list any number of phones, each of which takes its time."""
    asked: list[float] = []
    clock = [100.0]

    def shell(phone: Adb, *argv: str, seconds: float | None = None, check: bool = True) -> str:
        assert (argv, check) == (("getprop", "ro.product.device"), True)
        assert seconds is not None
        asked.append(seconds)
        clock[0] += 4.0
        return "akita\n"

    monkeypatch.setattr(Adb, "listed", lambda _: [Attached(f"S{i}", "device", "") for i in range(1000)])
    monkeypatch.setattr(Adb, "shell", shell)
    monkeypatch.setattr(registry, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    found = registry.attached_devices()
    assert asked == [1.0, 1.0, 1.0]
    assert [d.product for d in found] == ["akita"] * 3 + [""] * 997

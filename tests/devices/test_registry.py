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
from harness.devices.registry import attached_devices, check_device, find_phone, open_device, profiles

# What phones say that adb reaches over Wi-Fi and at an address.
WIFI = "adb-1A2B-kTUOQx._adb-tls-connect._tcp"
SERIALNO = {WIFI: "1A2B", "192.168.0.7:5555": "1A2B", "[fe80::1]:5555": "3C4D"}


@pytest.fixture
def attached(monkeypatch: pytest.MonkeyPatch) -> list[Attached]:
    """What adb lists, which a test fills; asked of the local server only."""
    found: list[Attached] = []

    def ask(server: Server) -> list[Attached]:
        assert server == Server()
        return found

    monkeypatch.setattr(registry, "attached_devices", ask)
    monkeypatch.setattr(Adb, "serialno", lambda self, seconds: SERIALNO.get(self.serial, self.serial))
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


def test_of_several_phones_the_one_of_that_product_is_meant(attached: list[Attached]) -> None:
    attached += [
        Attached("S0", "device", "lynx"),
        Attached("S1", "device", "akita"),
        Attached("S2", "offline", "akita"),
    ]
    assert find_phone("pixel8a").serial == "S1"
    assert find_phone("S0").serial == "S0"


@pytest.mark.parametrize(
    ("ways", "chosen"),
    [
        (["192.168.0.7:5555", WIFI, "1A2B"], "1A2B"),
        (["192.168.0.7:5555", WIFI], WIFI),
        ([WIFI, "1A2B"], "1A2B"),
    ],
)
def test_one_phone_that_adb_reaches_in_several_ways_is_one_phone(
    ways: list[str], chosen: str, attached: list[Attached]
) -> None:
    attached += [Attached(serial, "device", "akita") for serial in ways]
    assert find_phone("pixel8a").serial == chosen
    assert find_phone(ways[0]).serial == ways[0]  # a way that is named is the way that is meant
    attached.append(Attached("[fe80::1]:5555", "device", "akita"))
    with pytest.raises(UsageError) as caught:
        find_phone("pixel8a")
    assert "could be any of 2 phones: " in caught.value.message and chosen in caught.value.message


def test_a_phone_that_cannot_be_asked_counts_by_the_name_it_has(
    attached: list[Attached], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hung(self: Adb, seconds: float) -> str:
        raise AdbError("adb shell getprop ro.serialno", self.serial, "", None, f"gave no answer within {seconds:g} s")

    monkeypatch.setattr(Adb, "serialno", hung)
    listed = [Attached("1A2B", "device", "akita"), Attached(WIFI, "device", "akita"), Attached("S2", "offline", "")]
    assert registry.phones(listed) == listed
    monkeypatch.setattr(registry, "PRODUCT_SECONDS", 0.0)
    monkeypatch.setattr(Adb, "serialno", lambda self, seconds: pytest.fail("it was asked"))
    assert registry.phones(listed) == listed


def test_phones_of_one_product_are_told_apart_by_their_serials(attached: list[Attached]) -> None:
    attached += [Attached(f"S{i}", "device", "akita") for i in range(2)]
    with pytest.raises(UsageError) as caught:
        find_phone("pixel8a")
    assert caught.value.message == "'pixel8a' could be any of 2 phones: S0, S1."
    assert caught.value.next_step == "Use --device S0."
    assert find_phone("S1").serial == "S1"


@pytest.mark.parametrize("state", ["unauthorized", "no permissions"])
def test_a_phone_that_does_not_let_anyone_in_is_device_trouble(attached: list[Attached], state: str) -> None:
    attached.append(Attached("S0", state, ""))
    with pytest.raises(DeviceError) as caught:
        find_phone("S0")
    assert caught.value.message == f"S0 is {state} for adb."


@pytest.mark.parametrize(("back_after", "found"), [(1, True), (19, True), (25, False)])
def test_a_phone_that_is_offline_has_a_moment_to_come_back(
    back_after: int, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked for four times a second, for five seconds."""
    clock, asked, called = [100.0], [0], []

    def ask(server: Server) -> list[Attached]:
        asked[0] += 1
        back = asked[0] > back_after
        return [Attached("S0", "device" if back else "offline", "akita" if back else "")]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr(registry, "attached_devices", ask)
    monkeypatch.setattr(registry, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    monkeypatch.setattr(Adb, "call", lambda _, *words: called.append(words))
    if found:
        assert find_phone("pixel8a").serial == "S0"
    else:
        with pytest.raises(DeviceError, match=r"adb sees S0 \(offline\)"):
            find_phone("pixel8a")
        assert clock[0] == 105.0
    assert called == [("reconnect", "offline")]


def test_phones_that_are_here_or_not_offline_are_not_waited_for(
    attached: list[Attached], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Adb, "call", lambda *words: pytest.fail("adb was told to reconnect"))
    attached.append(Attached("S0", "unauthorized", ""))
    with pytest.raises(DeviceError, match="No Pixel 8a"):
        find_phone("pixel8a")
    attached += [Attached("S1", "offline", ""), Attached("S2", "device", "akita")]
    assert find_phone("pixel8a").serial == "S2"


@pytest.mark.parametrize(
    ("output", "said"),
    [("* daemon not running\ncannot connect to daemon\n", "cannot connect to daemon"), (" \n", "adb gave no answer")],
)
def test_what_adb_says_last_is_told_where_it_cannot_be_asked(
    output: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listed(phone: Adb) -> list[Attached]:
        error = AdbError("adb devices", "", output, 1, "gave no answer")
        error.message = "adb gave no answer."
        raise error

    monkeypatch.setattr(Adb, "listed", listed)
    with pytest.raises(DeviceError) as caught:
        attached_devices()
    assert caught.value.message.endswith(f"cannot be asked ({said}).")


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


@pytest.mark.parametrize(
    ("each", "given"),
    [
        (4.0, [1.0, 1.0, 1.0]),
        (4.75, [1.0, 1.0, 0.5]),  # half a second is left, and the third may take that
        (5.0, [1.0, 1.0]),
        (9.0, [1.0, 1.0]),
    ],
)
def test_products_are_asked_for_a_while_and_no_longer(
    each: float, given: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may list any number of phones, each of which takes its time."""
    assert registry.PRODUCT_SECONDS == 10.0
    asked: list[float] = []
    clock = [100.0]

    def shell(phone: Adb, *argv: str, seconds: float | None = None, check: bool = True) -> str:
        assert (argv, check) == (("getprop", "ro.product.device"), True)
        assert seconds is not None
        asked.append(seconds)
        clock[0] += each
        return "akita\n"

    monkeypatch.setattr(Adb, "listed", lambda _: [Attached(f"S{i}", "device", "") for i in range(1000)])
    monkeypatch.setattr(Adb, "shell", shell)
    monkeypatch.setattr(registry, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    found = registry.attached_devices()
    assert asked == given
    assert [d.product for d in found] == ["akita"] * len(given) + [""] * (1000 - len(given))


def test_a_phone_is_asked_for_its_product_only_where_the_list_lacks_it_and_it_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def shell(phone: Adb, *argv: str, seconds: float | None = None, check: bool = True) -> str:
        asked.append(phone.serial)
        return " husky \n"

    listed = [Attached("S0", "device", "akita"), Attached("S1", "offline", ""), Attached("S2", "device", "")]
    monkeypatch.setattr(Adb, "listed", lambda _: listed)
    monkeypatch.setattr(Adb, "shell", shell)
    assert [d.product for d in registry.attached_devices()] == ["akita", "", "husky"]
    assert asked == ["S2"]

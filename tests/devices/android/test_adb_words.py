"""How adb is run and how what it prints is read: which words it gets, for how long, and what is said where it fails."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import DeviceError, UsageError
from harness.devices.android import adb as module
from harness.devices.android.adb import Adb, AdbError, AdbMissing, Attached, Server
from harness.devices.captured import Captured

FARM = Server("farm", 5038)
ANSWERS = Server.answers
LATE = "gave no answer within 2.5 s and was killed"


@pytest.fixture(autouse=True)
def binary(monkeypatch: pytest.MonkeyPatch) -> None:
    """An adb that is never started, beside a server that answers."""
    monkeypatch.setattr(module, "adb_binary", lambda: Path("/tools/adb"))
    monkeypatch.setattr(Server, "answers", lambda server: True)


def answers(monkeypatch: pytest.MonkeyPatch, done: Captured | OSError) -> list[tuple[list[str], float]]:
    """Let adb end so; what it was run with."""
    asked: list[tuple[list[str], float]] = []

    def run(command: Sequence[str], seconds: float) -> Captured:
        asked.append((list(command), seconds))
        if isinstance(done, OSError):
            raise done
        return done

    monkeypatch.setattr(module, "captured", run)
    return asked


@pytest.mark.parametrize(
    ("server", "serial", "words"),
    [
        (Server(), "", []),
        (Server(), "S0", ["-s", "S0"]),
        (FARM, "", ["-H", "farm", "-P", "5038"]),
        (FARM, "S0", ["-H", "farm", "-P", "5038", "-s", "S0"]),
    ],
)
def test_adb_is_told_its_server_and_its_device(
    server: Server, serial: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answers(monkeypatch, Captured("said", 0))
    assert Adb(server, serial).call("push", "a b") == "said"
    assert Adb(server, serial).shell("echo", "a b", seconds=0.5) == "said"
    assert asked == [
        (["/tools/adb", *words, "push", "a b"], 10),
        (["/tools/adb", *words, "shell", "echo 'a b'"], 0.5),
    ]


def test_a_command_that_starts_its_server_has_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "answers", ANSWERS)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(listening.getsockname()[1]))
        asked = answers(monkeypatch, Captured("said", 0))
        Adb(Server()).call("devices")
    for server, seconds in ((Server(), None), (Server(), 0.5), (FARM, None)):
        Adb(server).call("devices", seconds=seconds)
    assert [seconds for _, seconds in asked] == [10, 40, 0.5, 10]


@pytest.mark.parametrize(
    ("done", "serial", "kind", "message", "code"),
    [
        (Captured("no\n", 1), "S0", AdbError, "`adb -s S0 get x` ended with exit code 1: no.", 1),
        (Captured(" \n", 1), "", AdbError, "`adb get x` ended with exit code 1.", 1),
        (Captured("a\n b", None, "time"), "", AdbError, f"`adb get x` {LATE}: a b.", None),
        (Captured("", None, "size"), "", AdbError, "`adb get x` said more than 4 MiB and was killed.", None),
        (FileNotFoundError(2, "none"), "", AdbMissing, "`adb get x` cannot be started (none).", None),
        (NotADirectoryError(20, "none"), "", AdbMissing, "`adb get x` cannot be started (none).", None),
        (PermissionError(13, "none"), "", AdbMissing, "`adb get x` cannot be started (none).", None),
        (BlockingIOError(11, "later"), "", AdbError, "`adb get x` cannot be started (later).", None),
    ],
)  # fmt: skip
def test_each_way_to_fail_is_one_sentence(
    done: Captured | OSError,
    serial: str,
    kind: type[AdbError],
    message: str,
    code: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers(monkeypatch, done)
    with pytest.raises(AdbError) as caught:
        Adb(Server(), serial).call("get", "x", seconds=2.5)
    error = caught.value
    assert type(error) is kind
    assert (error.message, error.code, error.serial) == (message, code, serial)
    assert error.output == (done.output if isinstance(done, Captured) else "")
    assert error.next_step == kind.NEXT_STEP


def test_an_exit_code_matters_only_where_it_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, Captured("no", 1))
    assert Adb(Server()).call("get", check=False) == "no"
    assert Adb(Server()).shell("get", check=False) == "no"
    answers(monkeypatch, Captured("no", None, "time"))
    with pytest.raises(AdbError):
        Adb(Server()).call("get", check=False)


def test_of_what_adb_said_the_last_300_characters_are_told() -> None:
    error = AdbError("adb x", "", "a" + "b" * 299 + "c", 1, "failed")
    assert error.message == f"`adb x` failed: {'b' * 299}c."
    assert (error.command, error.output) == ("adb x", "a" + "b" * 299 + "c")


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("", []),
        ("List of devices attached\n\n", []),
        ("* daemon not running; starting now at tcp:5037\n* daemon started successfully\n", []),
        ("S0 device usb:1-1 product:lynx device:lynx transport_id:1\n", [Attached("S0", "device", "lynx")]),
        ("S0\tdevice product:x model:device:y\n", [Attached("S0", "device", "y")]),
        ("farm:5555          offline\n", [Attached("farm:5555", "offline", "")]),
        ("S0  no permissions (user in plugdev group); see [x] usb:1-1\n", [Attached("S0", "no permissions", "")]),
        ("S0 offline\nS1 device xdevice:no\n", [Attached("S0", "offline", ""), Attached("S1", "device", "")]),
        ("List of\nS0\nS0 DEVICE\n", []),
    ],
)  # fmt: skip
def test_a_list_is_read_row_by_row(said: str, found: list[Attached], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers(monkeypatch, Captured(said, 0))
    phone = Adb(FARM, "S0")
    assert phone.listed() == found
    assert asked == [(["/tools/adb", "-H", "farm", "-P", "5038", "devices", "-l"], 10)]
    assert phone.state() == (found[0].state if found and found[0].serial == "S0" else "absent")


def test_properties_and_the_boot_are_read_without_their_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers(monkeypatch, Captured(" it \n", 0))
    assert (Adb(Server()).getprop("ro.x"), Adb(Server()).boot_id()) == ("it", "it")
    assert [command[2] for command, _ in asked] == ["getprop ro.x", "cat /proc/sys/kernel/random/boot_id"]


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("", Server()),
        ("farm", Server("farm", 5037)),
        ("farm:1", Server("farm", 1)),
        ("farm:0", Server("farm", 0)),
        ("farm:65535", Server("farm", 65535)),
    ],
)
def test_a_server_is_read_from_a_host_and_a_port(text: str, server: Server) -> None:
    assert Server.of(text) == server


@pytest.mark.parametrize("text", ["farm:", ":5037", "farm:65536", "farm:100000", "farm:5037x", "farm: 1"])
def test_what_is_no_host_and_port_is_misuse(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Server.of(text)
    assert caught.value.message == f"'{text}' is not an adb server."
    assert caught.value.next_step == "Write it as NAME@HOST:PORT."


def test_a_server_is_told_by_its_address() -> None:
    assert (str(Server()), str(FARM), FARM.address) == ("this machine", "farm:5038", ("farm", 5038))


def test_a_program_that_is_followed_is_killed_with_its_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[str], dict[str, Any]]] = []

    def popen(command: list[str], **options: Any) -> None:
        asked.append((command, options))

    monkeypatch.setattr(subprocess, "Popen", popen)
    Adb(Server(), "S0").follow("logcat", "a b")
    ((command, options),) = asked
    assert command[:2] == ["/bin/sh", "-c"]
    assert command[3:] == ["sh", "/tools/adb", "-s", "S0", "shell", "logcat 'a b'"]
    pipe = subprocess.PIPE
    assert options == {
        "stdin": pipe, "stdout": pipe, "stderr": subprocess.STDOUT, "bufsize": 0, "start_new_session": True
    }  # fmt: skip


class Peer:
    """An adb server's end of a connection that says these pieces, one a call, and notes what it hears."""

    def __init__(self, *says: bytes) -> None:
        self.says, self.heard, self.limits, self.closed = list(says), list[bytes](), list[float](), 0
        self.options: list[tuple[int, int, int]] = []

    def settimeout(self, seconds: float) -> None:
        self.limits.append(seconds)

    def sendall(self, data: bytes) -> None:
        self.heard.append(data)

    def recv(self, size: int) -> bytes:
        piece = self.says.pop(0) if self.says else b""
        assert len(piece) <= size
        return piece

    def setsockopt(self, *words: int) -> None:
        self.options.append(words)  # type: ignore[arg-type]

    def close(self) -> None:
        self.closed += 1


def stream(peer: Peer | OSError, monkeypatch: pytest.MonkeyPatch, left: float = 2.5) -> socket.socket:
    def connect(address: tuple[str, int], seconds: float) -> Peer:
        assert (address, seconds) == (("farm", 5038), left)
        if isinstance(peer, OSError):
            raise peer
        return peer

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(time, "monotonic", lambda: 64.0)
    return Adb(FARM, "S0").stream("localabstract:ä", 64.0 + left)


def test_a_stream_is_asked_for_on_the_device_and_then_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer(b"OKAY", b"O", b"KAY")
    assert stream(peer, monkeypatch) is peer  # type: ignore[comparison-overlap]
    assert peer.heard == [b"0011host:transport:S0", "0010localabstract:ä".encode()]  # in bytes, of which ä has two
    assert peer.limits == [2.5] * 5
    assert peer.options == [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    assert peer.closed == 0


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ([b"FAIL", b"000a", b"no device!"], "was refused: no device!."),
        ([b"FAIL", b"000", b"a", b"no ", b"device!"], "was refused: no device!."),
        ([b"FAIL", b"zzzz"], "was refused."),
        ([b"NOPE"], "was refused."),
        ([b"OKAY", b"FAIL", b"0001", b"\xff"], "was refused: \N{REPLACEMENT CHARACTER}."),
        ([b"OKA"], "was not reached: the adb server closed the connection."),
        ([], "was not reached: the adb server closed the connection."),
    ],
)
def test_a_stream_that_is_refused_says_why_and_is_closed(
    says: list[bytes], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = Peer(*says)
    with pytest.raises(AdbError) as caught:
        stream(peer, monkeypatch)
    assert caught.value.message == f"`adb localabstract:ä` {why}"
    assert peer.closed == 1


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ConnectionRefusedError(111, "refused"), "was not reached: refused."),
        (TimeoutError(110, "late"), "gave no answer in time: late."),
        (TimeoutError(), "gave no answer in time."),
    ],
)
def test_a_server_that_is_not_there_is_told_from_a_slow_one(
    error: OSError, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AdbError) as caught:
        stream(error, monkeypatch)
    assert caught.value.message == f"`adb localabstract:ä` {why}"
    assert caught.value.serial == "S0"


@pytest.mark.parametrize("left", [0.0, -1.0])
def test_at_the_deadline_no_server_is_asked(left: float, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AdbError, match="gave no answer in time"):
        stream(Peer(b"OKAY", b"OKAY"), monkeypatch, left)
    assert isinstance(AdbError("", "", "", None, ""), DeviceError)
